//! Where templates are on this machine: in the binary, in the templates folder, or where a path says.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use skep_lock::Entries;
use skep_templates::{
    Credential, ENDING, FORM, File, Form, MOST_BYTES, MOST_FORM, MOST_PACKED, Made, Template,
    TemplateError, archive, digest,
};

use crate::cmd::lock::settings::Settings;
use crate::cmd::message;
use crate::failure::{Failure, Result};
use crate::session::{Session, data_home};
use crate::templates;

/// What the name of a file ends with that says where a template came from.
const ORIGIN: &str = ".origin.json";
/// Bytes of such a file.
const MOST_ORIGIN: u64 = 16 << 10;
/// The version of its form.
const ORIGIN_VERSION: u32 = 1;
/// Files of the templates folder that are looked at.
const MOST_INSTALLED: usize = 10_000;

/// Where an installed template came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Origin {
    version: u32,
    /// The address, or the folder.
    pub(crate) from: String,
    /// The SHA-256 of what was installed.
    pub(crate) sha256: String,
    /// Who signed the index that lists it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) publisher: Option<String>,
}

impl Origin {
    pub(crate) const fn new(from: String, sha256: String, publisher: Option<String>) -> Self {
        Self {
            version: ORIGIN_VERSION,
            from,
            sha256,
            publisher,
        }
    }
}

/// A template that was found.
#[derive(Debug)]
pub(in crate::cmd) struct Found {
    pub(in crate::cmd) template: Template,
    /// The whole of it in one file, as it is or would be.
    pub(crate) packed: Vec<u8>,
    pub(crate) origin: Option<Origin>,
    /// `built in`, `installed`, or the path.
    pub(crate) place: String,
}

impl Found {
    /// A template that is not in one file yet.
    fn loose(template: Template, place: &str) -> Result<Self> {
        let packed = archive::pack(&template).map_err(|error| refused(place, error))?;
        Ok(Self {
            template,
            packed,
            origin: None,
            place: place.to_owned(),
        })
    }
}

/// Why a template is not taken, and what to do.
pub(in crate::cmd) fn refused(what: &str, error: TemplateError) -> Failure {
    let detail = format!("{what}: {error}");
    match error {
        TemplateError::Version(_) => Failure::plain(detail).hint("A later Skep may know it."),
        TemplateError::Missing(names) => Failure::usage(detail).hint(format!(
            "Say what they are: `skep init DIR -t TEMPLATE --set {}=VALUE`; `skep templates show` \
             says what for.",
            names.first().map_or("NAME", String::as_str)
        )),
        TemplateError::Variable { .. } => {
            Failure::usage(detail).hint("`skep templates show TEMPLATE` lists the variables.")
        }
        TemplateError::Signature => Failure::plain(detail)
            .hint("Somebody changed it on its way: get it again, and ask its publisher."),
        TemplateError::Publisher { .. } => Failure::plain(detail).hint(
            "Ask the publisher whether they have a new key. If so, name it as `publisher` of the \
             index in skep.toml, or with --publisher.",
        ),
        TemplateError::Older { .. } | TemplateError::Twice(_) => Failure::plain(detail).hint(
            "Somebody may have put an old state back. Take it all the same with --allow-older.",
        ),
        TemplateError::Expired(_) => Failure::plain(detail)
            .hint("Ask the publisher for a new one. Take it all the same with --allow-older."),
        TemplateError::NotListed { .. } => Failure::plain(detail).hint(
            "Nothing was installed. Tell the publisher: what is there is not what was signed.",
        ),
        _ => Failure::plain(detail),
    }
}

pub(crate) fn failed(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::plain(format!("{}: {why}", path.display()))
}

/// Names the credentials that are not there, and how they come there.
pub(in crate::cmd) fn tell_missing(session: &Session, missing: &[Credential]) {
    for it in missing {
        let optional = if it.optional { ", optional" } else { "" };
        session.output.note(&format!(
            "Missing{optional}: {} ({}). Set it with `skep lock set credentials/{}`.",
            it.name, it.about, it.name
        ));
    }
}

/// What is made of a template, as layers of a lock file.
pub(in crate::cmd) fn content(made: &Made) -> BTreeMap<String, Entries> {
    let layers = made.layers.iter();
    let entries = |it: &BTreeMap<String, serde_json::Value>| -> Entries {
        let pairs = it.iter();
        pairs
            .map(|(name, value)| (name.clone(), value.clone().into()))
            .collect()
    };
    layers
        .map(|(layer, it)| ((*layer).to_owned(), entries(it)))
        .collect()
}

/// Reads a file of at most so many bytes.
pub(crate) fn read(path: &Path, most: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|error| failed(path, error))?;
    let read = file.take(most as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| failed(path, error))?;
    match bytes.len() > most {
        true => Err(failed(path, format!("it has over {} KiB", most >> 10))),
        false => Ok(bytes),
    }
}

/// Reads a template that lies in a folder: the files that its form names, and none outside.
fn read_folder(folder: &Path) -> Result<Template> {
    let shown = folder.display().to_string();
    let form_path = folder.join(FORM);
    if !form_path.is_file() {
        return Err(failed(folder, format!("there is no {FORM} in it"))
            .hint("docs/templates.md says what stands in it."));
    }
    let text = read(&form_path, MOST_FORM)?;
    let form = Form::parse(&text).map_err(|error| refused(&shown, error))?;
    let root = fs::canonicalize(folder).map_err(|error| failed(folder, error))?;
    let (mut files, mut left) = (BTreeMap::new(), MOST_BYTES);
    for path in &form.files {
        let whole = folder.join(path);
        let about = whole.symlink_metadata();
        let about = about.map_err(|error| failed(&whole, error))?;
        let real = fs::canonicalize(&whole).map_err(|error| failed(&whole, error))?;
        // What a link leads to may be nobody's to give away.
        if !about.is_file() || !real.starts_with(&root) {
            return Err(failed(&whole, "it is no file of the folder's own"));
        }
        let bytes = read(&whole, left)?;
        left -= bytes.len();
        let is_program = about.permissions().mode() & 0o111 != 0;
        files.insert(path.clone(), File { bytes, is_program });
    }
    Template::of(&text, files).map_err(|error| refused(&shown, error))
}

/// Reads a template at a path: a folder, or one file.
pub(crate) fn at(path: &Path) -> Result<Found> {
    let place = path.display().to_string();
    if path.is_dir() {
        return Found::loose(read_folder(path)?, &place);
    }
    let packed = read(path, MOST_PACKED)?;
    let template = archive::unpack(&packed).map_err(|error| refused(&place, error))?;
    Ok(Found {
        template,
        packed,
        origin: None,
        place,
    })
}

/// Whether a template is named by its path.
pub(crate) fn is_path(named: &str) -> bool {
    named.contains('/') || named.ends_with(ENDING) || matches!(named, "." | "..")
}

/// The templates of this machine.
pub(in crate::cmd) struct Shelf {
    folder: Option<PathBuf>,
}

impl Shelf {
    /// With the templates folder of the settings, else the user's own.
    pub(in crate::cmd) fn of(settings: &Settings) -> Self {
        let own = || Some(data_home()?.join("skep").join("templates"));
        Self {
            folder: settings.templates.clone().or_else(own),
        }
    }

    /// With this folder.
    pub(crate) const fn at(folder: PathBuf) -> Self {
        Self {
            folder: Some(folder),
        }
    }

    fn folder(&self) -> Result<&Path> {
        self.folder.as_deref().ok_or_else(|| {
            Failure::plain("neither XDG_DATA_HOME nor HOME is set")
                .hint("Name a folder as `templates` in skep.toml, or with --to.")
        })
    }

    fn packed(folder: &Path, name: &str) -> PathBuf {
        folder.join(format!("{name}{ENDING}"))
    }

    /// Where this one came from, if that is known of these very bytes.
    fn origin(folder: &Path, name: &str, packed: &[u8]) -> Option<Origin> {
        let file = fs::File::open(folder.join(format!("{name}{ORIGIN}"))).ok()?;
        let origin: Origin = serde_json::from_reader(file.take(MOST_ORIGIN)).ok()?;
        (origin.sha256 == digest(packed)).then_some(origin)
    }

    /// The one in the templates folder: a packed one, or a folder that somebody put there.
    fn installed(&self, name: &str) -> Result<Option<Found>> {
        let Some(folder) = &self.folder else {
            return Ok(None);
        };
        let (packed, loose) = (Self::packed(folder, name), folder.join(name));
        let found = match (packed.is_file(), loose.join(FORM).is_file()) {
            (true, _) => at(&packed)?,
            (false, true) => at(&loose)?,
            (false, false) => return Ok(None),
        };
        let is = &found.template.form.name;
        if is != name {
            return Err(failed(
                Path::new(&found.place),
                format!("it holds the template `{is}`"),
            ));
        }
        let origin = Self::origin(folder, name, &found.packed);
        let place = "installed".to_owned();
        Ok(Some(Found {
            origin,
            place,
            ..found
        }))
    }

    /// The one of this name or at this path. What is installed counts before what is built in.
    pub(in crate::cmd) fn find(&self, named: &str) -> Result<Found> {
        if named.contains("://") {
            return Err(Failure::usage(format!("{named} is not on this machine"))
                .hint("Install it first: `skep templates install URL`."));
        }
        if is_path(named) {
            return at(Path::new(named));
        }
        if let Some(found) = self.known(named)? {
            return Ok(found);
        }
        let failure = Failure::usage(format!("there is no template `{named}`"));
        let names = self.names()?;
        Err(failure.hint(
            match skep_core::similar(named, names.iter().map(String::as_str)) {
                Some(similar) => format!("Did you mean `{similar}`?"),
                None => format!(
                    "There are: {}. `skep templates search` looks further.",
                    names.join(", ")
                ),
            },
        ))
    }

    /// The one of this name, if there is one.
    pub(crate) fn known(&self, name: &str) -> Result<Option<Found>> {
        if !skep_templates::is_name(name) {
            return Ok(None);
        }
        if let Some(found) = self.installed(name)? {
            return Ok(Some(found));
        }
        let Some(built_in) = templates::find(name) else {
            return Ok(None);
        };
        let template = built_in.template();
        let template = template.map_err(|error| refused(name, error))?;
        Found::loose(template, "built in").map(Some)
    }

    /// The names of all that there are: those of the binary, then the others.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let mut names: Vec<_> = templates::ALL.iter().map(|it| it.name.to_owned()).collect();
        let Some(folder) = &self.folder else {
            return Ok(names);
        };
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(names),
            Err(error) => return Err(failed(folder, error)),
            Ok(entries) => entries,
        };
        let mut more = Vec::new();
        for entry in entries.take(MOST_INSTALLED) {
            let entry = entry.map_err(|error| failed(folder, error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let name = match name.strip_suffix(ENDING) {
                Some(name) => name.to_owned(),
                None if entry.path().join(FORM).is_file() => name,
                None => continue,
            };
            if skep_templates::is_name(&name) && !names.contains(&name) {
                more.push(name);
            }
        }
        more.sort();
        more.dedup();
        names.extend(more);
        Ok(names)
    }

    /// Keeps a template. One of the same name that was installed before is replaced.
    pub(crate) fn put(&self, found: &Found, origin: &Origin) -> Result<PathBuf> {
        let (folder, name) = (self.folder()?, &found.template.form.name);
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o755).create(folder);
        made.map_err(|error| failed(folder, error))?;
        let path = Self::packed(folder, name);
        let loose = folder.join(name).join(FORM);
        if loose.is_file() {
            return Err(
                failed(&loose, "a template of this name lies there in a folder")
                    .hint("Move it away, or install elsewhere with --to."),
            );
        }
        let _held = message::lock(&folder.join(name))?;
        // What it came from counts for these very bytes: cut off in between, it is of none.
        message::replace(&path, &found.packed)?;
        let text = serde_json::to_string(origin).map_err(anyhow::Error::from)?;
        message::replace(&folder.join(format!("{name}{ORIGIN}")), text.as_bytes())?;
        Ok(path)
    }

    /// Takes an installed one away.
    pub(crate) fn remove(&self, name: &str) -> Result {
        let folder = self.folder()?;
        let path = Self::packed(folder, name);
        if !skep_templates::is_name(name) || !path.is_file() {
            return Err(Failure::plain(format!("`{name}` is not installed"))
                .hint("`skep templates list` says what is."));
        }
        let _held = message::lock(&folder.join(name))?;
        fs::remove_file(&path).map_err(|error| failed(&path, error))?;
        for ending in [ORIGIN, ".lock"] {
            let path = folder.join(format!("{name}{ending}"));
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(failed(&path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
