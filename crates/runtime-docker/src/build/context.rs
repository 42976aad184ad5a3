//! What the engine builds from, as an archive that is written while it is sent.

use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tar::{EntryType, Header, HeaderMode};
use tokio::sync::mpsc::Sender;

use super::ignore::Ignore;
use super::{BuildError, Source, binary};

const IGNORE: &str = ".dockerignore";
const DOCKERFILE: &str = "Dockerfile";
/// The name that a Dockerfile from outside its folder gets.
const OUTSIDE: &str = ".skep-build.Dockerfile";
/// Bytes of a piece that is sent.
const PIECE: usize = 64 << 10;
/// The largest `.dockerignore`.
const MOST_IGNORE: u64 = 1 << 20;
/// What becomes of one program: nobody's, and all that there is.
const OF_BINARY: &str =
    "FROM scratch\nCOPY agent /agent\nUSER 65532:65532\nENTRYPOINT [\"/agent\"]\n";

type Piece = io::Result<Bytes>;
type Archive = tar::Builder<BufWriter<Pieces>>;

/// What is sent, known before it is.
pub(super) struct Contents {
    source: Source,
    dockerfile: String,
    ignore: Ignore,
}

fn dockerfile_in(folder: &Path, dockerfile: &Path) -> Result<String, BuildError> {
    let real = |path: &Path| {
        path.canonicalize()
            .map_err(|error| BuildError::context(path, error))
    };
    let (folder, dockerfile) = (real(folder)?, real(dockerfile)?);
    let within = dockerfile.strip_prefix(&folder).ok();
    Ok(within
        .and_then(Path::to_str)
        .map_or_else(|| OUTSIDE.to_owned(), str::to_owned))
}

impl Contents {
    /// Looks at what there is. Blocks.
    pub(super) fn of(source: &Source) -> Result<Self, BuildError> {
        let (dockerfile, ignore) = match source {
            Source::Binary(path) => {
                binary::check(path)?;
                (DOCKERFILE.to_owned(), Ignore::default())
            }
            Source::Folder { folder, dockerfile } => {
                (dockerfile_in(folder, dockerfile)?, ignore_of(folder)?)
            }
        };
        Ok(Self {
            source: source.clone(),
            dockerfile,
            ignore,
        })
    }

    /// The Dockerfile's name in the archive.
    pub(super) fn dockerfile(&self) -> &str {
        &self.dockerfile
    }

    /// Writes the archive. Blocks. What cannot be read ends it with an error, for both sides.
    pub(super) fn pack(&self, sender: Sender<Piece>) -> Result<(), BuildError> {
        let failing = sender.clone();
        let mut archive = tar::Builder::new(BufWriter::with_capacity(PIECE, Pieces(sender)));
        let packed = self.fill(&mut archive).and_then(|()| {
            let finished = archive.finish().and_then(|()| archive.get_mut().flush());
            finished.map_err(|error| BuildError::context(Path::new("the archive"), error))
        });
        match packed {
            // The engine stopped listening: its own words say why.
            Err(BuildError::Context { source, .. })
                if source.kind() == io::ErrorKind::BrokenPipe =>
            {
                Ok(())
            }
            Err(error) => {
                // Before the archive goes: it would end as if it were whole.
                let _ = failing.blocking_send(Err(io::Error::other(error.to_string())));
                drop(archive);
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    fn fill(&self, archive: &mut Archive) -> Result<(), BuildError> {
        match &self.source {
            Source::Binary(path) => {
                let text = OF_BINARY.as_bytes();
                let mut header = Header::new_gnu();
                header.set_size(text.len() as u64);
                header.set_mode(0o644);
                let added = archive.append_data(&mut header, DOCKERFILE, text);
                added.map_err(|error| BuildError::context(path, error))?;
                add_file(archive, path, "agent", Some(0o755))
            }
            Source::Folder { folder, dockerfile } => {
                if self.dockerfile == OUTSIDE {
                    add_file(archive, dockerfile, OUTSIDE, None)?;
                }
                self.add_folder(archive, folder)
            }
        }
    }

    /// A folder with everything below that is not left out.
    fn add_folder(&self, archive: &mut Archive, root: &Path) -> Result<(), BuildError> {
        let mut left = vec![(root.to_owned(), String::new())];
        while let Some((folder, prefix)) = left.pop() {
            let failed = |error| BuildError::context(&folder, error);
            let entries: io::Result<Vec<_>> = fs::read_dir(&folder).map_err(failed)?.collect();
            let mut paths: Vec<PathBuf> = entries
                .map_err(failed)?
                .iter()
                .map(fs::DirEntry::path)
                .collect();
            paths.sort();
            for path in paths {
                let name = path.file_name().and_then(|name| name.to_str());
                let Some(name) = name else {
                    let odd = io::Error::other("its name is no UTF-8");
                    return Err(BuildError::context(&path, odd));
                };
                let name = format!("{prefix}{name}");
                let excluded = self.ignore.excludes(&name) && name != self.dockerfile;
                let about = path.symlink_metadata();
                let about = about.map_err(|error| BuildError::context(&path, error))?;
                if about.is_dir() {
                    // Something below may be wanted; the engine makes its folders itself.
                    let below = self.ignore.takes_back()
                        || self.dockerfile.starts_with(&format!("{name}/"));
                    if !excluded || below {
                        left.push((path.clone(), format!("{name}/")));
                    }
                }
                if !excluded {
                    self::add(archive, &path, &name, &about)?;
                }
            }
        }
        Ok(())
    }
}

fn ignore_of(folder: &Path) -> Result<Ignore, BuildError> {
    let path = folder.join(IGNORE);
    let failed = |error| BuildError::context(&path, error);
    match File::open(&path) {
        Ok(file) => {
            let mut text = String::new();
            let read = file.take(MOST_IGNORE + 1).read_to_string(&mut text);
            match read.map_err(failed)? as u64 {
                ..=MOST_IGNORE => Ok(Ignore::parse(&text)),
                _ => Err(failed(io::Error::other("is over 1 MiB"))),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Ignore::default()),
        Err(error) => Err(failed(error)),
    }
}

fn header(about: &Metadata) -> Header {
    let mut header = Header::new_gnu();
    header.set_metadata_in_mode(about, HeaderMode::Complete);
    // Who has it here means nothing there.
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// One entry of a folder; what is no file, folder or link (a socket) has no place in an image.
fn add(archive: &mut Archive, path: &Path, name: &str, about: &Metadata) -> Result<(), BuildError> {
    let failed = |error| BuildError::context(path, error);
    if about.is_file() {
        return add_file(archive, path, name, None);
    }
    let mut header = header(about);
    header.set_size(0);
    if about.is_dir() {
        let folder = format!("{name}/");
        let added = archive.append_data(&mut header, folder, io::empty());
        return added.map_err(failed);
    }
    if about.is_symlink() {
        let target = fs::read_link(path).map_err(failed)?;
        header.set_entry_type(EntryType::Symlink);
        let added = archive.append_link(&mut header, name, target);
        return added.map_err(failed);
    }
    Ok(())
}

fn add_file(
    archive: &mut Archive,
    path: &Path,
    name: &str,
    mode: Option<u32>,
) -> Result<(), BuildError> {
    let failed = |error| BuildError::context(path, error);
    let file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    let mut header = header(&about);
    if let Some(mode) = mode {
        header.set_mode(mode);
    }
    let whole = Whole {
        file,
        left: about.len(),
    };
    archive
        .append_data(&mut header, name, whole)
        .map_err(failed)
}

/// As much of a file as its size said: no more when it grows meanwhile, an error when it shrinks.
struct Whole {
    file: File,
    left: u64,
}

impl Read for Whole {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let most = buffer.len().min(most);
        if most == 0 {
            return Ok(0);
        }
        match self.file.read(&mut buffer[..most])? {
            0 => Err(io::Error::other("it became shorter while it was sent")),
            count => {
                self.left -= count as u64;
                Ok(count)
            }
        }
    }
}

/// The way to the engine.
struct Pieces(Sender<Piece>);

impl Write for Pieces {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(buffer);
        match self.0.blocking_send(Ok(piece)) {
            Ok(()) => Ok(buffer.len()),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(folder: &Path, dockerfile: &Path) -> Vec<String> {
        let source = Source::Folder {
            folder: folder.to_owned(),
            dockerfile: dockerfile.to_owned(),
        };
        let contents = Contents::of(&source).unwrap();
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1_000);
        contents.pack(sender).unwrap();
        let mut bytes = Vec::new();
        while let Some(piece) = receiver.blocking_recv() {
            bytes.extend(piece.unwrap());
        }
        let mut archive = tar::Archive::new(&bytes[..]);
        let names = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            entry.path().unwrap().to_string_lossy().into_owned()
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn sends_what_is_not_left_out_and_the_dockerfile_always() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("target/deep")).unwrap();
        fs::create_dir(at("src")).unwrap();
        for name in [
            "Dockerfile",
            "src/main.rs",
            "target/a",
            "target/deep/keep",
            "secret.key",
        ] {
            fs::write(at(name), name).unwrap();
        }
        std::os::unix::fs::symlink("/etc/shadow", at("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        let long = format!("src/{}", "x".repeat(200));
        fs::write(at(&long), "").unwrap();
        fs::write(
            at(".dockerignore"),
            "Dockerfile\ntarget\n*.key\n!target/deep/keep",
        )
        .unwrap();
        let expected = [
            ".dockerignore",
            "Dockerfile",
            "link",
            "src/",
            "src/main.rs",
            &long,
            "target/deep/keep",
        ];
        assert_eq!(packed(folder.path(), &at("Dockerfile")), expected);
        let other = tempfile::NamedTempFile::new().unwrap();
        let names = packed(folder.path(), other.path());
        assert!(names.contains(&OUTSIDE.to_owned()), "{names:?}");
    }

    #[test]
    fn what_cannot_be_read_is_told_to_both_sides() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("Dockerfile"), "FROM scratch").unwrap();
        let source = Source::Folder {
            folder: folder.path().to_owned(),
            dockerfile: folder.path().join("Dockerfile"),
        };
        let contents = Contents::of(&source).unwrap();
        drop(folder);
        let (sender, mut receiver) = tokio::sync::mpsc::channel(10);
        assert!(matches!(
            contents.pack(sender),
            Err(BuildError::Context { .. })
        ));
        assert!(receiver.blocking_recv().unwrap().is_err());
    }

    #[test]
    fn a_file_that_shrinks_is_an_error_and_one_that_grows_is_cut() {
        let path = tempfile::NamedTempFile::new().unwrap();
        fs::write(path.path(), "four").unwrap();
        let whole = |left| Whole {
            file: File::open(path.path()).unwrap(),
            left,
        };
        assert_eq!(io::read_to_string(whole(2)).unwrap(), "fo");
        assert!(io::read_to_string(whole(5)).is_err());
    }
}
