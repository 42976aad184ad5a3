//! The form of a backup: a header, then records, all of them encrypted when that is wanted.
//!
//! ```text
//! header   "skep backup 1\n", how it is encrypted (1 byte: 0 not, 1 as below)
//!          1: memory in KiB, passes, lanes (4 bytes each, big-endian), salt (16 bytes) of Argon2id;
//!          what follows is Cobblestone-256 with this header as context
//! record   kind (1 byte), length (4 bytes, big-endian), payload
//!   H      begins an entry: what it is, as JSON
//!   D      content of the entry, up to 64 KiB
//!   E      ends the entry: size (8 bytes) and SHA-256 of its content
//!   X      ends the backup: SHA-256 of the header and of all records but the content of D
//! ```
//!
//! Nothing may follow. So every byte counts: content by its entry's hash, all else by the last one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use skep_crypto::chunked::{Opener, Sealer};
use skep_crypto::passphrase::{Passphrase, Recipe, SALT};
use skep_store::Hash;

use crate::BackupError;

const MAGIC: &[u8] = b"skep backup ";
const VERSION: &[u8] = b"1\n";
const PLAIN: u8 = 0;
const ENCRYPTED: u8 = 1;
/// Content of one record.
pub(crate) const PIECE: usize = 64 << 10;
/// The longest payload of a record that is no content: the totals of many tables.
const LONGEST: usize = 1 << 20;

const HEAD: u8 = b'H';
const DATA: u8 = b'D';
const END: u8 = b'E';
const LAST: u8 = b'X';

/// What a backup says of itself at its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of Skep that made it.
    pub skep: String,
    /// When, as RFC 3339.
    pub created_at: String,
    /// The store's clock then, in microseconds.
    pub time: i64,
    /// The store's epoch.
    pub epoch: i64,
    /// The migrations that the store has: component, name, hash.
    pub migrations: Vec<(String, String, String)>,
}

/// How much a table holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableTotal {
    /// Rows.
    pub rows: u64,
    /// SHA-256 of its rows as they are dumped, in hexadecimal.
    pub hash: String,
}

/// What a backup says of itself at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// The tables.
    pub tables: BTreeMap<String, TableTotal>,
    /// Blobs.
    pub blobs: u64,
    /// Files of homes, volumes and logs.
    pub files: u64,
    /// Bytes of blobs and files together.
    pub bytes: u64,
    /// Files that could not be read, or are neither files nor folders nor links.
    pub skipped: u64,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Head {
    Manifest(Manifest),
    Table {
        name: String,
        columns: Vec<String>,
    },
    Blob {
        workspace: String,
        hash: String,
    },
    Folder {
        path: String,
        about: About,
    },
    File {
        path: String,
        about: About,
    },
    Link {
        path: String,
        target: String,
        about: About,
    },
    /// The first API key; only where all is encrypted.
    Key,
    Totals(Totals),
}

/// Whose a file is and what may be done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds.
    pub(crate) modified: (i64, u32),
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, BackupError> {
    serde_json::to_vec(value).map_err(|error| BackupError::damaged(error.to_string()))
}

/// Writes a backup to a file.
pub(crate) struct Writer<W> {
    out: W,
    sealer: Option<Sealer>,
    sealed: Vec<u8>,
    chain: Sha256,
    entry: Option<(Sha256, u64)>,
}

impl<W: Write> Writer<W> {
    /// Begins with the header.
    pub(crate) fn new(mut out: W, passphrase: Option<&Passphrase>) -> Result<Self, WriteError> {
        let mut header = [MAGIC, VERSION].concat();
        let mut sealed = Vec::new();
        let mut sealer = None;
        match passphrase {
            None => header.push(PLAIN),
            Some(passphrase) => {
                let recipe = Recipe::new()?;
                header.push(ENCRYPTED);
                for number in [recipe.memory_kib, recipe.passes, recipe.lanes] {
                    header.extend_from_slice(&number.to_be_bytes());
                }
                header.extend_from_slice(&recipe.salt);
                sealer = Some(Sealer::new(&recipe.key(passphrase)?, &header, &mut sealed)?);
            }
        }
        out.write_all(&header)?;
        Ok(Self {
            out,
            sealer,
            sealed,
            chain: Sha256::new_with_prefix(&header),
            entry: None,
        })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let Some(sealer) = &mut self.sealer else {
            return Ok(self.out.write_all(bytes)?);
        };
        sealer.push(bytes, &mut self.sealed)?;
        self.out.write_all(&self.sealed)?;
        self.sealed.clear();
        Ok(())
    }

    fn record(&mut self, kind: u8, payload: &[u8]) -> Result<(), WriteError> {
        let length = u32::try_from(payload.len())
            .unwrap_or(u32::MAX)
            .to_be_bytes();
        let head = [kind, length[0], length[1], length[2], length[3]];
        self.chain.update(head);
        if kind != DATA {
            self.chain.update(payload);
        }
        self.put(&head)?;
        self.put(payload)
    }

    /// Begins an entry.
    pub(crate) fn begin(&mut self, head: &Head) -> Result<(), WriteError> {
        self.entry = Some((Sha256::new(), 0));
        self.record(HEAD, &json(head)?)
    }

    /// Adds content to the entry.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        for piece in bytes.chunks(PIECE) {
            if let Some((hasher, size)) = &mut self.entry {
                hasher.update(piece);
                *size += piece.len() as u64;
            }
            self.record(DATA, piece)?;
        }
        Ok(())
    }

    /// Ends the entry; tells its size and hash.
    pub(crate) fn end(&mut self) -> Result<(u64, Hash), WriteError> {
        let (hasher, size) = self.entry.take().unwrap_or_default();
        let hash: [u8; 32] = hasher.finalize().into();
        self.record(END, &[&size.to_be_bytes()[..], &hash].concat())?;
        Ok((size, Hash::from_bytes(hash)))
    }

    /// Ends the backup.
    pub(crate) fn finish(mut self) -> Result<W, WriteError> {
        let chain: [u8; 32] = self.chain.clone().finalize().into();
        self.record(LAST, &chain)?;
        if let Some(sealer) = self.sealer.take() {
            sealer.finish(&mut self.sealed)?;
            self.out.write_all(&self.sealed)?;
        }
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Why a record is not written: the file's fault is told with its path by who knows it.
#[derive(Debug)]
pub(crate) enum WriteError {
    Io(std::io::Error),
    Other(BackupError),
}

impl From<std::io::Error> for WriteError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl<E: Into<BackupError>> From<E> for WriteError {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

impl WriteError {
    pub(crate) fn at(self, path: &Path) -> BackupError {
        match self {
            Self::Io(error) => BackupError::file(path, &error),
            Self::Other(error) => error,
        }
    }
}

/// Where the bytes behind the header come from.
struct Input<R> {
    source: R,
    opener: Option<Opener>,
    ready: Vec<u8>,
    at: usize,
    ended: bool,
}

impl<R: Read> Input<R> {
    fn fill(&mut self) -> Result<(), BackupError> {
        self.ready.clear();
        self.at = 0;
        let mut piece = vec![0; PIECE];
        while self.ready.is_empty() && !self.ended {
            let count = match self.source.read(&mut piece) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                other => other.map_err(|error| BackupError::damaged(error.to_string()))?,
            };
            match (&mut self.opener, count) {
                (None, 0) => self.ended = true,
                (None, _) => self.ready.extend_from_slice(&piece[..count]),
                (Some(_), 0) => {
                    self.ended = true;
                    if let Some(opener) = self.opener.take() {
                        opener.finish(&mut self.ready)?;
                    }
                }
                (Some(opener), _) => opener.push(&piece[..count], &mut self.ready)?,
            }
        }
        Ok(())
    }

    fn exact(&mut self, length: usize) -> Result<Vec<u8>, BackupError> {
        let mut out = Vec::with_capacity(length);
        while out.len() < length {
            if self.at == self.ready.len() {
                self.fill()?;
                if self.ready.is_empty() {
                    return Err(BackupError::Truncated);
                }
            }
            let take = (length - out.len()).min(self.ready.len() - self.at);
            out.extend_from_slice(&self.ready[self.at..self.at + take]);
            self.at += take;
        }
        Ok(out)
    }

    fn is_at_end(&mut self) -> Result<bool, BackupError> {
        if self.at == self.ready.len() {
            self.fill()?;
        }
        Ok(self.at == self.ready.len() && self.ended)
    }
}

/// Told what is in a backup, as it is read. All of it can still turn out to be damaged at its end.
pub(crate) trait Visitor {
    fn begin(&mut self, head: &Head) -> Result<(), BackupError>;
    fn data(&mut self, head: &Head, bytes: &[u8]) -> Result<(), BackupError>;
    fn end(&mut self, head: Head, size: u64, hash: Hash) -> Result<(), BackupError>;
}

/// Reads a backup to its end and checks every byte of it.
pub(crate) fn read(
    mut source: impl Read,
    passphrase: Option<&Passphrase>,
    visitor: &mut dyn Visitor,
) -> Result<(), BackupError> {
    let (header, opener) = read_header(&mut source, passphrase)?;
    let mut chain = Sha256::new_with_prefix(&header);
    let mut input = Input {
        source,
        opener,
        ready: Vec::new(),
        at: 0,
        ended: false,
    };
    let mut entry: Option<(Head, Sha256, u64)> = None;
    loop {
        let head = input.exact(5)?;
        let kind = head[0];
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > if kind == DATA { PIECE } else { LONGEST } {
            return Err(BackupError::damaged("a record is longer than any can be"));
        }
        let payload = input.exact(length)?;
        if kind == LAST {
            let expected: [u8; 32] = chain.finalize().into();
            if entry.is_some() || payload != expected {
                return Err(BackupError::damaged(
                    "its records are not those that were written",
                ));
            }
            return match input.is_at_end()? {
                true => Ok(()),
                false => Err(BackupError::damaged("something follows its end")),
            };
        }
        chain.update(&head);
        if kind != DATA {
            chain.update(&payload);
        }
        match (kind, &mut entry) {
            (HEAD, None) => {
                let head: Head = serde_json::from_slice(&payload)
                    .map_err(|error| BackupError::damaged(format!("an entry: {error}")))?;
                visitor.begin(&head)?;
                entry = Some((head, Sha256::new(), 0));
            }
            (DATA, Some((head, hasher, size))) => {
                hasher.update(&payload);
                *size += payload.len() as u64;
                visitor.data(head, &payload)?;
            }
            (END, Some(_)) => {
                if let Some((head, hasher, size)) = entry.take() {
                    let hash: [u8; 32] = hasher.finalize().into();
                    if payload != [&size.to_be_bytes()[..], &hash].concat() {
                        return Err(BackupError::damaged("an entry's content was changed"));
                    }
                    visitor.end(head, size, Hash::from_bytes(hash))?;
                }
            }
            _ => return Err(BackupError::damaged("a record is out of place")),
        }
    }
}

fn exact<const N: usize>(source: &mut impl Read) -> Result<[u8; N], BackupError> {
    let mut bytes = [0; N];
    source
        .read_exact(&mut bytes)
        .map_err(|_| BackupError::Truncated)?;
    Ok(bytes)
}

/// The header, and what opens that which follows.
fn read_header(
    source: &mut impl Read,
    passphrase: Option<&Passphrase>,
) -> Result<(Vec<u8>, Option<Opener>), BackupError> {
    let encrypted = read_start(source)?;
    let mut header = [MAGIC, VERSION].concat();
    if !encrypted {
        header.push(PLAIN);
        return Ok((header, None));
    }
    header.push(ENCRYPTED);
    let rest: [u8; 12 + SALT] = exact(source)?;
    header.extend_from_slice(&rest);
    let number =
        |at: usize| u32::from_be_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
    let mut salt = [0; SALT];
    salt.copy_from_slice(&rest[12..]);
    let recipe = Recipe {
        memory_kib: number(0),
        passes: number(4),
        lanes: number(8),
        salt,
    };
    let key = recipe.key(passphrase.ok_or(BackupError::NoPassphrase)?)?;
    let opener = Opener::new(key, &header);
    Ok((header, Some(opener)))
}

/// Whether it is encrypted, from its first bytes.
pub(crate) fn read_start(source: &mut impl Read) -> Result<bool, BackupError> {
    let magic: [u8; MAGIC.len()] = exact(source).map_err(|_| BackupError::NotABackup)?;
    if magic != MAGIC {
        return Err(BackupError::NotABackup);
    }
    if exact::<{ VERSION.len() }>(source)? != VERSION {
        return Err(BackupError::Newer);
    }
    match exact::<1>(source)? {
        [PLAIN] => Ok(false),
        [ENCRYPTED] => Ok(true),
        _ => Err(BackupError::Newer),
    }
}

/// What a whole backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// What it said at its beginning.
    pub manifest: Manifest,
    /// What it said at its end, compared with what was there.
    pub totals: Totals,
}

/// Counts what comes and compares it with what the backup says.
#[derive(Default)]
pub(crate) struct Checker {
    manifest: Option<Manifest>,
    counted: Totals,
    said: Option<Totals>,
}

impl Checker {
    pub(crate) fn check(&mut self, head: Head, size: u64, hash: Hash) -> Result<(), BackupError> {
        if self.manifest.is_none() != matches!(head, Head::Manifest(_)) || self.said.is_some() {
            return Err(BackupError::damaged("an entry is out of place"));
        }
        match head {
            Head::Manifest(manifest) => self.manifest = Some(manifest),
            Head::Totals(totals) => self.said = Some(totals),
            Head::Table { name, .. } => {
                let hash = hash.to_string();
                self.counted
                    .tables
                    .insert(name, TableTotal { rows: 0, hash });
            }
            Head::Blob { hash: named, .. } => {
                if named != hash.to_string() {
                    return Err(BackupError::damaged(format!("blob {named} is another one")));
                }
                self.counted.blobs += 1;
                self.counted.bytes += size;
            }
            Head::File { .. } => {
                self.counted.files += 1;
                self.counted.bytes += size;
            }
            Head::Folder { .. } | Head::Link { .. } | Head::Key => {}
        }
        Ok(())
    }

    pub(crate) fn summary(self) -> Result<Summary, BackupError> {
        let manifest = self.manifest.ok_or(BackupError::Truncated)?;
        let totals = self.said.ok_or(BackupError::Truncated)?;
        let hashes = |totals: &Totals| -> Vec<(String, String)> {
            let tables = totals.tables.iter();
            tables
                .map(|(name, of)| (name.clone(), of.hash.clone()))
                .collect()
        };
        let counts = |totals: &Totals| (totals.blobs, totals.files, totals.bytes);
        if hashes(&totals) != hashes(&self.counted) || counts(&totals) != counts(&self.counted) {
            return Err(BackupError::damaged("it holds something else than it says"));
        }
        Ok(Summary { manifest, totals })
    }
}

impl Visitor for Checker {
    fn begin(&mut self, _: &Head) -> Result<(), BackupError> {
        Ok(())
    }

    fn data(&mut self, _: &Head, _: &[u8]) -> Result<(), BackupError> {
        Ok(())
    }

    fn end(&mut self, head: Head, size: u64, hash: Hash) -> Result<(), BackupError> {
        self.check(head, size, hash)
    }
}

pub(crate) fn open(path: &Path) -> Result<BufReader<File>, BackupError> {
    let file = File::open(path).map_err(|error| BackupError::file(path, &error))?;
    Ok(BufReader::with_capacity(PIECE, file))
}

/// Reads a backup to its end, checks every byte of it and tells what it holds. Blocks.
///
/// # Errors
/// [`BackupError`], when it is not whole.
pub fn verify(path: &Path, passphrase: Option<&Passphrase>) -> Result<Summary, BackupError> {
    let mut checker = Checker::default();
    read(open(path)?, passphrase, &mut checker)?;
    checker.summary()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(passphrase: Option<&Passphrase>) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), passphrase).unwrap();
        let mut entry = |head: &Head, bytes: &[u8]| {
            writer.begin(head).unwrap();
            writer.data(bytes).unwrap();
            writer.end().unwrap()
        };
        let manifest = Manifest {
            skep: "0".into(),
            created_at: String::new(),
            time: 0,
            epoch: 1,
            migrations: Vec::new(),
        };
        entry(&Head::Manifest(manifest), b"");
        let blob = vec![7; 3 * PIECE / 2];
        let head = Head::Blob {
            workspace: "default".into(),
            hash: Hash::of(&blob).to_string(),
        };
        entry(&head, &blob);
        let totals = Totals {
            blobs: 1,
            bytes: blob.len() as u64,
            ..Totals::default()
        };
        entry(&Head::Totals(totals), b"");
        writer.finish().unwrap()
    }

    fn check(bytes: &[u8], passphrase: Option<&Passphrase>) -> Result<Summary, BackupError> {
        let mut checker = Checker::default();
        read(bytes, passphrase, &mut checker)?;
        checker.summary()
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        let whole = sample(None);
        assert_eq!(check(&whole, None).unwrap().totals.blobs, 1);
        // All that is no content, and content here and there.
        let places = (0..1_000).chain((1_000..whole.len() - 1_000).step_by(997));
        for at in places.chain(whole.len() - 1_000..whole.len()) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(check(&flipped, None).is_err(), "byte {at}");
            assert!(check(&whole[..at], None).is_err(), "cut at {at}");
        }
        assert!(check(&[&whole[..], b"x"].concat(), None).is_err());
        assert!(check(&[&whole[..], &whole[..]].concat(), None).is_err());
    }

    #[test]
    fn an_encrypted_one_opens_by_its_passphrase_and_no_damage_goes_unnoticed() {
        let passphrase = Passphrase::new("correct horse battery").unwrap();
        let whole = sample(Some(&passphrase));
        assert!(!whole.windows(64).any(|part| part == [7; 64]));
        check(&whole, Some(&passphrase)).unwrap();
        assert!(matches!(
            check(&whole, None),
            Err(BackupError::NoPassphrase)
        ));
        let other = Passphrase::new("correct horse staple").unwrap();
        let wrong = check(&whole, Some(&other));
        assert!(
            matches!(wrong, Err(BackupError::WrongPassphrase)),
            "{wrong:?}"
        );
        // Each costs a key, so not all of them.
        let places = [0, 12, 14, 15, 18, 22, 26, 27, 42, 43, 70, 98, 99, 5_000];
        for at in places
            .into_iter()
            .chain([whole.len() - 20, whole.len() - 1])
        {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            assert!(check(&flipped, Some(&passphrase)).is_err(), "byte {at}");
            assert!(
                check(&whole[..at], Some(&passphrase)).is_err(),
                "cut at {at}"
            );
        }
        // Where a chunk ends there is no more than anywhere else.
        let chunk = 43 + 56 + (16 << 10) + 16;
        assert!(check(&whole[..chunk], Some(&passphrase)).is_err());
    }
}
