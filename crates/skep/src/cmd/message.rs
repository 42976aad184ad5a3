//! `message`: sealed messages between people and agents. Skep carries them and cannot read them.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use skep_core::{Timestamp, units};
use skep_crypto::message::replay::Received;
use skep_crypto::message::{self, About, MOST_PLAINTEXT, MessageError, PublicKey, SecretKey};
use zeroize::Zeroizing;

use crate::failure::{Failure, Result};
use crate::session::Session;

/// Bytes that an envelope is longer than its message, at most.
const MOST_AROUND: usize = 1 << 20;
/// Bytes of a file with a key.
const MOST_KEY: u64 = 1024;

/// What to do with sealed messages.
#[derive(Debug, Subcommand)]
pub(crate) enum MessageVerb {
    /// Make a key in a file of its own and print its public half
    Keygen(KeygenArgs),
    /// Seal a message for an agent or a public key
    Seal(SealArgs),
    /// Open a sealed message, once
    Open(OpenArgs),
}

/// Flags of `message keygen`.
#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// The file to make; it must not be there yet
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

/// Flags of `message seal`.
#[derive(Debug, Args)]
#[command(after_help = "\
An agent tells its public key in the label `message-keys`; of several, with
commas between them, the first is taken. Whoever may deploy the agent may
change that: give the key itself with --to-key when Skep is not to be trusted.

Examples:
  skep message seal --key ada.key --to support letter.txt > letter.sealed
  skep call support /letter -d @letter.sealed")]
pub(crate) struct SealArgs {
    /// The sender's own key, a file of `message keygen`
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The agent that it is for
    #[arg(long, value_name = "AGENT", required_unless_present = "to_key")]
    to: Option<String>,
    /// The public key that it is for
    #[arg(long, value_name = "PUBLIC", conflicts_with = "to")]
    to_key: Option<String>,
    /// Number messages in this file, one for each receiver [default: a session of its own for each]
    #[arg(long, value_name = "FILE")]
    session: Option<PathBuf>,
    /// For how long it counts, at most 7d
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    expires: String,
    /// A text that is signed along in the open
    #[arg(long, value_name = "TEXT", default_value = "")]
    aad: String,
    /// The message [default: standard input]
    file: Option<PathBuf>,
}

/// Flags of `message open`.
#[derive(Debug, Args)]
#[command(override_usage = "skep message open --key <FILE> --from <KEY> --state <FILE> [FILE]")]
pub(crate) struct OpenArgs {
    /// The receiver's own key, a file of `message keygen`
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The public key of a sender who is expected; can be given again
    #[arg(long, value_name = "KEY", required = true)]
    from: Vec<String>,
    /// The file that says which messages came already; made when it is not there
    #[arg(long, value_name = "FILE")]
    state: PathBuf,
    /// Take a message only when its number is above all before it
    #[arg(long)]
    in_order: bool,
    /// The text that must be signed along
    #[arg(long, value_name = "TEXT")]
    aad: Option<String>,
    /// The sealed message [default: standard input]
    file: Option<PathBuf>,
}

pub(crate) async fn run(session: &Session, verb: MessageVerb) -> Result {
    match verb {
        MessageVerb::Keygen(args) => keygen(session, &args.key),
        MessageVerb::Seal(args) => seal(session, args).await,
        MessageVerb::Open(args) => open(session, args),
    }
}

fn failed(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::plain(format!("{}: {why}", path.display()))
}

fn refused(error: MessageError) -> Failure {
    let failure = Failure::plain(format!("the message is not taken: {error}"));
    match error {
        MessageError::Sender => failure.hint("Name everybody who may send with --from."),
        MessageError::Foreign => failure.hint("Open it with the key that it was sealed for."),
        MessageError::Replayed => failure.hint("Ask for it again: a message is opened once."),
        MessageError::Expired => {
            failure.hint("Ask for it again; `--expires` of `message seal` says how long.")
        }
        _ => failure,
    }
}

fn keygen(session: &Session, path: &Path) -> Result {
    let key = SecretKey::generate().map_err(refused)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| failed(path, error))?;
    let text = key.reveal();
    let written = writeln!(file, "{}", &*text).and_then(|()| file.sync_all());
    written.map_err(|error| failed(path, error))?;
    session.output.raw(format!("{}\n", key.public()).as_bytes())
}

fn read_key(path: &Path) -> Result<SecretKey> {
    let file = File::open(path).map_err(|error| failed(path, error))?;
    let about = file.metadata().map_err(|error| failed(path, error))?;
    if about.permissions().mode() & 0o077 != 0 {
        return Err(failed(path, "others may read it").hint("Make it your own: `chmod 600` it."));
    }
    let mut text = Zeroizing::new(String::new());
    let read = file.take(MOST_KEY).read_to_string(&mut text);
    read.map_err(|error| failed(path, error))?;
    SecretKey::parse(&text).map_err(|_| {
        failed(path, "there is no secret key in it").hint("`skep message keygen` makes one.")
    })
}

/// A file or the standard input, of at most so many bytes.
fn read(path: Option<&Path>, most: usize) -> Result<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(Vec::new());
    let limit = most as u64 + 1;
    match path.filter(|path| *path != Path::new("-")) {
        None => std::io::stdin().lock().take(limit).read_to_end(&mut text)?,
        Some(path) => File::open(path)
            .and_then(|file| file.take(limit).read_to_end(&mut text))
            .map_err(|error| failed(path, error))?,
    };
    match text.len() > most {
        true => Err(refused(MessageError::TooLong)),
        false => Ok(text),
    }
}

fn public(text: &str) -> Result<PublicKey> {
    let wrong = || {
        Failure::usage(format!(
            "`{text}` is no public key; it begins with skepmsg1_"
        ))
    };
    text.parse().map_err(|_| wrong())
}

/// The key that an agent tells.
async fn key_of(session: &Session, agent: &str) -> Result<PublicKey> {
    let label = skep_api::LABEL_MESSAGE_KEYS;
    let found = session.client()?.agent(agent).await?;
    let keys = found.spec.labels.get(label);
    let first = keys.and_then(|keys| keys.split(',').next());
    let first = first.ok_or_else(|| {
        Failure::plain(format!("{agent} tells no key")).hint(format!(
            "Deploy it with the label `{label}`, or give its key with --to-key."
        ))
    })?;
    public(first.trim())
}

fn now() -> u64 {
    u64::try_from(Timestamp::system_now().as_micros() / 1_000_000).unwrap_or(0)
}

async fn seal(session: &Session, args: SealArgs) -> Result {
    let key = read_key(&args.key)?;
    let receiver = match (&args.to, &args.to_key) {
        (Some(agent), _) => key_of(session, agent).await?,
        (None, text) => public(text.as_deref().unwrap_or_default())?,
    };
    let lasts = units::parse_duration(&args.expires).map(|it| it.as_secs());
    let lasts = lasts.filter(|it| (1..=message::LONGEST).contains(it));
    let lasts = lasts.ok_or_else(|| Failure::usage("--expires is a duration from 1s to 7d"))?;
    let text = read(args.file.as_deref(), MOST_PLAINTEXT)?;
    let (id, sequence) = match &args.session {
        None => (
            skep_crypto::random().map_err(|_| refused(MessageError::System))?,
            0,
        ),
        Some(path) => next(path, &receiver)?,
    };
    let about = About {
        session: id,
        sequence,
        expires: now() + lasts,
        aad: args.aad.as_bytes(),
    };
    let sealed = message::seal(&key, &receiver, &about, &text).map_err(refused)?;
    session.output.raw(&sealed)
}

/// Keeps others of this user from a file until it is dropped. The lock is a file beside it, as the file
/// itself is replaced.
pub(super) fn lock(path: &Path) -> Result<File> {
    let beside = beside(path, "lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&beside)
        .map_err(|error| failed(&beside, error))?;
    file.lock().map_err(|error| failed(&beside, error))?;
    Ok(file)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

/// Replaces a file by another that is whole and on disk.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result {
    let new = beside(path, "new");
    let written = || -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    };
    written().map_err(|error| failed(path, error))
}

/// The session of a file and the next number in it, which nobody else gets.
fn next(path: &Path, receiver: &PublicKey) -> Result<([u8; 16], u64)> {
    let _held = lock(path)?;
    let (id, sequence) = match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let id: [u8; 16] = skep_crypto::random().map_err(|_| refused(MessageError::System))?;
            (u128::from_be_bytes(id), 0)
        }
        Err(error) => return Err(failed(path, error)),
        Ok(text) => {
            let words: Vec<&str> = text.split_whitespace().collect();
            let read = |id: &str, next: &str| {
                Some((
                    u128::from_str_radix(id, 16).ok()?,
                    next.parse::<u64>().ok()?,
                ))
            };
            match words[..] {
                [of, id, next] if of == receiver.to_string() => read(id, next),
                [_, _, _] => {
                    let other = failed(path, "it is a session with another receiver");
                    return Err(other.hint("Take a file for each receiver."));
                }
                _ => None,
            }
            .ok_or_else(|| failed(path, "it is no session"))?
        }
    };
    let after = sequence.checked_add(1);
    let after = after.ok_or_else(|| failed(path, "the session is over"))?;
    replace(path, format!("{receiver} {id:032x} {after}\n").as_bytes())?;
    Ok((id.to_be_bytes(), sequence))
}

fn open(session: &Session, args: OpenArgs) -> Result {
    let key = read_key(&args.key)?;
    let senders: Vec<PublicKey> = args
        .from
        .iter()
        .map(|it| public(it))
        .collect::<Result<_>>()?;
    let envelope = read(args.file.as_deref(), MOST_PLAINTEXT + MOST_AROUND)?;
    let held = lock(&args.state)?;
    let mut received = match fs::read(&args.state) {
        Ok(text) => Received::from_bytes(&text)
            .map_err(|_| failed(&args.state, "it does not say which messages came"))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Received::default(),
        Err(error) => return Err(failed(&args.state, error)),
    };
    received.in_order(args.in_order);
    let opened = message::open(&key, &senders, &envelope, now(), &mut received);
    let opened = opened.map_err(refused)?;
    if args.aad.is_some_and(|aad| aad.as_bytes() != opened.aad) {
        return Err(Failure::plain(
            "the message is not taken: it says something else in the open",
        ));
    }
    // First it is known that it came: after a crash it is lost, and never there twice.
    replace(&args.state, &received.to_bytes())?;
    drop(held);
    session.output.raw(&opened.plaintext)
}
