//! Files on disk: read within bounds, opened with a key, replaced whole; and the epoch that was seen of
//! each, so that an older one does not pass for it.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use sha2::{Digest, Sha256};
use skep_crypto::CryptoError;
use skep_crypto::age::Identity;
use skep_crypto::passphrase::Passphrase;
use skep_lock::{Lock, LockError, MOST_FILE, Open, Secret};
use zeroize::Zeroizing;

use super::places::{Found, Place};
use super::settings::Settings;
use crate::cmd::account::password;
use crate::cmd::message;
use crate::failure::{Exit, Failure, Result};
use crate::session::{Session, state_home};

/// Bytes of a file with a key.
const MOST_KEY: u64 = 16 << 10;

/// What opens a file.
#[derive(Debug, Args)]
pub(crate) struct SecretArgs {
    /// Open it with this identity, a file of `age-keygen`
    #[arg(
        long,
        value_name = "FILE",
        env = "SKEP_LOCK_IDENTITY_FILE",
        hide_env_values = true
    )]
    identity: Option<PathBuf>,
    /// Open it with the passphrase in this file; `-` is the standard input
    /// [default: asked]
    #[arg(
        long,
        value_name = "FILE",
        env = "SKEP_LOCK_PASSPHRASE_FILE",
        hide_env_values = true
    )]
    passphrase_file: Option<PathBuf>,
    /// Open it with the identity in this place: keychain:NAME, vault:SECRET
    #[arg(
        long,
        value_name = "PLACE",
        env = "SKEP_LOCK_IDENTITY_FROM",
        hide_env_values = true
    )]
    identity_from: Option<Place>,
    /// Open it with the passphrase in this place: keychain:NAME, vault:SECRET
    #[arg(
        long,
        value_name = "PLACE",
        env = "SKEP_LOCK_PASSPHRASE_FROM",
        hide_env_values = true
    )]
    passphrase_from: Option<Place>,
    /// What the place held, an identity or a passphrase.
    #[arg(skip)]
    found: Option<(Kind, Found)>,
}

/// What lies at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Identity,
    Passphrase,
}

/// A file and what opens it.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// The file
    #[arg(long, value_name = "FILE", default_value = "agent.lock")]
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) secret: SecretArgs,
    /// Open it as this recipient only
    #[arg(long = "as", value_name = "NAME")]
    pub(super) recipient: Option<String>,
    /// Take it only when this publisher signed it: skepsig1_…
    #[arg(long, value_name = "PUBLIC")]
    pub(super) publisher: Option<String>,
    /// Take it only when this key wrote it, or one that follows from it:
    /// skepsig1_…
    #[arg(long, value_name = "KEY")]
    pub(super) writer: Option<String>,
    /// Take it though a later one was seen here, or one of another agent
    /// or writer
    #[arg(long)]
    pub(super) allow_older: bool,
}

impl KeyArgs {
    /// Checks who wrote and signed it, and that it is not older than what was seen.
    pub(super) fn accepts(&self, held: &Held, lock: &Lock) -> Result {
        self.trusted(lock)?;
        match self.allow_older {
            true => Ok(()),
            false => held.check(lock, self.writer.is_some()),
        }
    }

    /// Checks who wrote it and who signed it, where that is wanted.
    pub(super) fn trusted(&self, lock: &Lock) -> Result {
        if let Some(writer) = &self.writer
            && !lock.follows(writer)
        {
            let why = format!("it was not written by {writer}, nor by who follows");
            return Err(failed(&self.file, why).hint(
                "`skep lock show` prints the key of who wrote it: ask whether that is right.",
            ));
        }
        let Some(text) = &self.publisher else {
            return Ok(());
        };
        let verified = lock.verify(&super::publisher(text)?);
        verified.map_err(|error| refused(&self.file, error))
    }
}

impl SecretArgs {
    /// Whether there is something that need not be asked for.
    pub(super) const fn is_given(&self) -> bool {
        self.identity.is_some() || self.passphrase_file.is_some() || self.found.is_some()
    }

    /// Fetches what lies at the place that is named here or, when nothing is, in the settings.
    pub(super) async fn find(
        &mut self,
        session: &Session,
        file: &Path,
        settings: &Settings,
    ) -> Result {
        let is_here = self.identity.is_some() || self.passphrase_file.is_some();
        let own = (self.identity_from.as_ref(), self.passphrase_from.as_ref());
        let of_settings = (
            settings.identity_from.as_ref(),
            settings.passphrase_from.as_ref(),
        );
        let places = match own {
            (None, None) if !is_here => of_settings,
            own => own,
        };
        let (kind, place) = match places {
            (None, None) => return Ok(()),
            (Some(place), None) if !is_here => (Kind::Identity, place),
            (None, Some(place)) if !is_here => (Kind::Passphrase, place),
            _ => return Err(two()),
        };
        self.found = Some((kind, place.find(session, file).await?));
        Ok(())
    }

    /// What opens this file.
    pub(super) fn secret(&self, session: &Session, file: &Path) -> Result<Secret> {
        let place = |path: &Path| path.display().to_string();
        match (&self.found, &self.identity, &self.passphrase_file) {
            (Some((Kind::Identity, found)), None, None) => identity(found.text(), "the place"),
            (Some((Kind::Passphrase, found)), None, None) => {
                passphrase(found.text().to_owned(), file)
            }
            (None, Some(path), None) => identity(&read_secret(path)?, &place(path)),
            (None, None, path) => {
                let read = password(session, path.as_deref(), "Passphrase of the file")?;
                passphrase(read, file)
            }
            _ => Err(two()),
        }
    }
}

fn two() -> Failure {
    Failure::usage("the file is opened with an identity or with a passphrase, and with one of them")
        .hint("Name one, in a flag, a variable or the settings.")
}

fn identity(text: &str, place: &str) -> Result<Secret> {
    let identity = Identity::parse(text).map_err(|_| {
        Failure::plain(format!("{place}: it is no identity of age"))
            .hint("`age-keygen` makes one; it is the line with AGE-SECRET-KEY-1.")
    })?;
    Ok(Secret::Age(identity))
}

fn passphrase(text: String, file: &Path) -> Result<Secret> {
    // One that is too short to be anybody's is just as wrong.
    let passphrase = Passphrase::new(text).map_err(|_| refused(file, LockError::WrongKey))?;
    Ok(Secret::Passphrase(passphrase))
}

/// Why a file is not taken, and what to do.
#[expect(
    clippy::needless_pass_by_value,
    reason = "it ends an error's way, mostly in a map_err"
)]
pub(super) fn refused(path: &Path, error: LockError) -> Failure {
    let detail = format!("{}: {error}", path.display());
    match error {
        LockError::WrongKey => Failure::new(Exit::Auth, detail)
            .hint("`skep lock show` says who opens it; name another key with --identity, --passphrase-file or --passphrase-from."),
        LockError::NoSuchKind(_) | LockError::NoRecipient(_) => {
            Failure::new(Exit::Auth, detail).hint("`skep lock show` says who opens it.")
        }
        LockError::NotGiven(_) | LockError::NotAll => Failure::new(Exit::Auth, detail)
            .hint("Ask somebody who opens every layer; `skep lock show` says who does."),
        LockError::Mac
        | LockError::Damaged(_)
        | LockError::Wrapped(_)
        | LockError::Malformed { .. } => Failure::plain(detail)
            .hint("Take the last good one from version control or a backup."),
        LockError::NoLayer(_) => Failure::plain(detail).hint("`skep lock show` lists the layers."),
        LockError::Older => {
            Failure::plain(detail).hint("`skep lock migrate` makes one of version 2 of it.")
        }
        LockError::ReadOnly(_) => Failure::new(Exit::Auth, detail)
            .hint("Ask somebody who may write it; `skep lock show` says who may."),
        LockError::Written => Failure::plain(detail)
            .hint("Take the last good one from version control, and ask who changed it."),
        LockError::Version(_) => Failure::plain(detail).hint("A later Skep may know it."),
        LockError::Exists(_) => {
            Failure::plain(detail).hint("Take another name, or `skep lock unshare` it first.")
        }
        LockError::NeedsPassphrase(_) => Failure::plain(detail)
            .hint("A new root is wrapped for everybody anew. Give that passphrase in a file with --keep, or unshare the recipient first."),
        LockError::Unsigned | LockError::Publisher(_) | LockError::Signature => {
            Failure::plain(detail).hint("Ask its publisher for the file, or which key is theirs.")
        }
        LockError::Crypto(CryptoError::Parameters) => Failure::plain(detail)
            .hint("Argon2id: 64 to 1024 MiB, 3 to 16 passes, 1 to 16 lanes; PBKDF2: 600000 to 10000000 rounds."),
        _ => Failure::plain(detail),
    }
}

pub(super) fn failed(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::plain(format!("{}: {why}", path.display()))
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Lock> {
    let opened = File::open(path).map_err(|error| {
        let missing = error.kind() == ErrorKind::NotFound;
        let failure = failed(path, error);
        match missing {
            true => failure.hint("`skep lock init` makes one; --file names another."),
            false => failure,
        }
    })?;
    let mut bytes = Vec::new();
    let most = MOST_FILE as u64 + 1;
    let read = opened.take(most).read_to_end(&mut bytes);
    read.map_err(|error| failed(path, error))?;
    Lock::parse(&bytes).map_err(|error| refused(path, error))
}

/// A file of one's own with a key.
pub(super) fn read_secret(path: &Path) -> Result<Zeroizing<String>> {
    let file = File::open(path).map_err(|error| failed(path, error))?;
    let about = file.metadata().map_err(|error| failed(path, error))?;
    if about.is_file() && about.permissions().mode() & 0o077 != 0 {
        return Err(failed(path, "others may read it").hint("Make it your own: `chmod 600` it."));
    }
    let mut text = Zeroizing::new(String::with_capacity(MOST_KEY as usize));
    let read = file.take(MOST_KEY).read_to_string(&mut text);
    read.map_err(|error| failed(path, error))?;
    Ok(text)
}

/// Makes a file with a key that nobody else may read.
pub(super) fn secret(path: &Path, text: &str) -> Result {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let written = file.and_then(|mut file| {
        writeln!(file, "{text}")?;
        file.sync_all()
    });
    written.map_err(|error| failed(path, error))
}

/// A file that no other command of this user changes at the same time.
pub(super) struct Held {
    /// The file itself, not a link to it.
    pub(super) path: PathBuf,
    /// Where the epoch that was seen of it is kept.
    pin: Option<PathBuf>,
    _lock: Option<File>,
}

impl Held {
    /// Holds a file, which need not be there.
    pub(super) fn of(session: &Session, path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default();
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
        let folder = fs::canonicalize(folder.unwrap_or(Path::new(".")));
        let folder = folder.map_err(|error| failed(path, error))?;
        let whole = fs::canonicalize(path).unwrap_or_else(|_| folder.join(name));
        let Some(state) = state_home() else {
            session.output.complain(
                "Neither XDG_STATE_HOME nor HOME is set: nobody remembers which epoch was seen.",
            );
            return Ok(Self {
                path: whole,
                pin: None,
                _lock: None,
            });
        };
        let folder = state.join("skep").join("locks");
        let mut builder = fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| failed(&folder, error))?;
        let hash = Sha256::digest(whole.as_os_str().as_encoded_bytes());
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let pin = folder.join(hash);
        Ok(Self {
            path: whole,
            _lock: Some(message::lock(&pin)?),
            pin: Some(pin),
        })
    }

    /// The agent, the epoch and the writer that were seen last.
    fn seen(&self) -> Result<Option<(String, u64, String)>> {
        let Some(pin) = &self.pin else {
            return Ok(None);
        };
        let text = match fs::read_to_string(pin) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(pin, error)),
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        match words[..] {
            [id, epoch, writer] => {
                let epoch = epoch.parse().map_err(|_| failed(pin, "it is no epoch"))?;
                Ok(Some((id.to_owned(), epoch, writer.to_owned())))
            }
            _ => Err(failed(pin, "it does not say which epoch was seen")
                .hint("Remove it when you trust the file as it is.")),
        }
    }

    fn check(&self, lock: &Lock, is_writer_named: bool) -> Result {
        let Some((id, epoch, writer)) = self.seen()? else {
            return Ok(());
        };
        let why = match (lock.agent().id == id, lock.epoch()) {
            (true, is) if is >= epoch && (is_writer_named || lock.follows(&writer)) => {
                return Ok(());
            }
            (true, is) if is >= epoch => {
                return Err(failed(
                    &self.path,
                    "it was not written by who wrote what was seen here, nor by who follows",
                )
                .hint("Ask for the right writer's key and name it with --writer; `skep lock show` prints the one here."));
            }
            (true, is) => format!("it is of epoch {is}, and one of epoch {epoch} was seen here"),
            (false, _) => "it is of another agent than the one that was seen here".to_owned(),
        };
        Err(failed(&self.path, why).hint(
            "Somebody may have put an old state back. Take it all the same with --allow-older.",
        ))
    }

    /// Remembers what was seen.
    pub(super) fn see(&self, lock: &Lock) -> Result {
        let Some(pin) = &self.pin else {
            return Ok(());
        };
        let agent = &lock.agent().id;
        let text = format!("{agent} {} {}\n", lock.epoch(), lock.writer());
        message::replace(pin, text.as_bytes())
    }

    /// Replaces the file by another that is whole and on disk.
    pub(super) fn save(&self, lock: &Lock) -> Result {
        message::replace(&self.path, lock.render().as_bytes())?;
        self.see(lock)
    }
}

/// Opens a file and checks all of it.
pub(super) fn open(session: &Session, args: &KeyArgs) -> Result<(Held, Open)> {
    let (held, _, opened) = open_with(session, args)?;
    Ok((held, opened))
}

/// The same, with what opened it.
pub(super) fn open_with(session: &Session, args: &KeyArgs) -> Result<(Held, Secret, Open)> {
    let held = Held::of(session, &args.file)?;
    let lock = read(&held.path)?;
    args.accepts(&held, &lock)?;
    let secret = args.secret.secret(session, &held.path)?;
    let opened = lock.open(&secret, args.recipient.as_deref());
    let opened = opened.map_err(|error| refused(&held.path, error))?;
    held.see(&lock)?;
    Ok((held, secret, opened))
}
