//! `lock`: an agent in one encrypted file, `agent.lock`. No server takes part, unless its vault is named as the
//! place of a passphrase or an identity, or `pull` asks it for a memory.

pub(crate) mod carry;
mod compare;
mod consent;
mod content;
mod dotenv;
mod edit;
mod file;
mod migrate;
mod places;
pub(super) mod recipients;
mod run;
pub(super) mod settings;
mod transfer;
mod tree;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};
use skep_api::LockOpening;
use skep_crypto::signing::{Publisher, SigningKey};
use skep_lock::{
    CREDENTIALS, Entries, Lock, LockError, MEMORY, Open, Opens, PERSONALITY, Recipient, Value,
};
use zeroize::Zeroizing;

use crate::cmd::secrets::value;
use crate::failure::{Failure, Result};
use crate::session::Session;
use file::{Held, KeyArgs, SecretArgs, refused};
use recipients::ToArgs;
use settings::{LogLevel, Settings, Telling};

/// Bytes of a value.
const MOST_VALUE: u64 = 32 << 20;

/// What to do with an `agent.lock`.
#[derive(Debug, Subcommand)]
pub(crate) enum LockVerb {
    /// Make a file for an agent
    Init(recipients::InitArgs),
    /// Show who opens a file and what is in it; needs no key
    Show(PathArgs),
    /// Write an entry of a layer
    Set(SetArgs),
    /// Print an entry, or a whole layer
    Get(GetArgs),
    /// Take an entry or a layer away
    #[command(visible_alias = "rm")]
    Remove(RemoveArgs),
    /// Change an entry or a layer in an editor
    Edit(edit::EditArgs),
    /// Write layers or entries in the open: JSON, YAML, .env
    Export(transfer::ExportArgs),
    /// Take entries from JSON, YAML or .env into a file
    Import(transfer::ImportArgs),
    /// Take the memory of an agent of the server into its file, when it
    /// has grown
    Pull(carry::PullArgs),
    /// Start a program with its credentials, after asking
    Run(run::RunArgs),
    /// List what `run` was allowed for longer, or take it back
    Consents(run::ConsentsArgs),
    /// Make a file of this version of one of version 1
    Migrate(migrate::MigrateArgs),
    /// Check a file: its form, and with a key all that the key opens
    Validate(ValidateArgs),
    /// Make a new root and encrypt everything anew, for one file or all
    /// of a tree
    Rotate(recipients::RotateArgs),
    /// Give a recipient a new passphrase, and the file a new root
    Rekey(recipients::RekeyArgs),
    /// Let one more open the file, or some of its layers
    Share(recipients::ShareArgs),
    /// Take that back: a new root, which the others get
    Unshare(recipients::UnshareArgs),
    /// Print a file as text for git, or how two files differ
    Diff(compare::DiffArgs),
    /// Put two files together that follow a third, for git
    Merge(compare::MergeArgs),
    /// Make a key that signs files and print its public half
    Keygen(KeygenArgs),
    /// Sign a file as it is; needs no key that opens it
    Sign(SignArgs),
    /// Check that a publisher signed a file; needs no key that opens it
    Verify(VerifyArgs),
}

/// A file.
#[derive(Debug, Args)]
pub(crate) struct PathArgs {
    /// The file
    #[arg(long, value_name = "FILE", default_value = "agent.lock")]
    file: PathBuf,
}

/// Flags of `lock set`.
#[derive(Debug, Args)]
#[command(after_help = "\
A value never stands in the command: it comes from a file, from the standard
input, or is asked for without showing it. One line break at its end is left
out when it is asked for or piped in, and kept from a file.

Examples:
  skep lock set credentials/OPENAI_API_KEY
  skep lock set personality/prompt --from-file prompt.md
  echo '{\"temperature\": 0.2}' | skep lock set personality/model --json")]
pub(crate) struct SetArgs {
    /// LAYER/ENTRY: credentials, personality, memory, or a layer of one's own
    entry: String,
    /// A file with the value; `-` is the standard input [default: asked]
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    /// The value is JSON, not a text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    key: KeyArgs,
}

/// Flags of `lock get`.
#[derive(Debug, Args)]
#[command(after_help = "\
A text goes to the standard output as it is; anything else, and a layer, as
JSON.

Example:
  skep lock get credentials/OPENAI_API_KEY --identity ~/.age/key.txt")]
pub(crate) struct GetArgs {
    /// LAYER/ENTRY, or LAYER
    entry: String,
    #[command(flatten)]
    key: KeyArgs,
}

/// Flags of `lock remove`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// LAYER/ENTRY, or LAYER
    entry: String,
    #[command(flatten)]
    key: KeyArgs,
}

/// Flags of `lock validate`.
#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// Check the form only; needs no key
    #[arg(long)]
    form: bool,
    #[command(flatten)]
    key: KeyArgs,
}

/// Flags of `lock keygen`.
#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// The file to make; it must not be there yet
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

/// Flags of `lock sign`.
#[derive(Debug, Args)]
pub(crate) struct SignArgs {
    /// The publisher's key, a file of `lock keygen`
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    path: PathArgs,
}

/// Flags of `lock verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The publisher who must have signed it: skepsig1_…
    /// [default: the settings']
    #[arg(long, value_name = "PUBLIC")]
    publisher: Option<String>,
    #[command(flatten)]
    path: PathArgs,
}

/// What the program is called to be `skep lock`.
const SHORT: &str = "bp";

/// The command's words: those of `skep lock` when the program is called `bp`.
pub(crate) fn words(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = words.collect();
    let name = words.first().map(Path::new).and_then(Path::file_name);
    let is_short = name.is_some_and(|name| name == SHORT);
    let asks_version = words
        .get(1)
        .is_some_and(|it| it == "--version" || it == "-V");
    if is_short && !asks_version {
        words.insert(1, "lock".into());
    }
    words
}

impl LockVerb {
    /// The file that it is about, beside which its settings are looked for.
    fn file(&self) -> &Path {
        match self {
            Self::Init(args) => args.file(),
            Self::Show(args) => &args.file,
            Self::Set(args) => &args.key.file,
            Self::Get(args) => &args.key.file,
            Self::Remove(args) => &args.key.file,
            Self::Validate(args) => &args.key.file,
            Self::Edit(args) => &args.key.file,
            Self::Export(args) => &args.key.file,
            Self::Import(args) => &args.key.file,
            Self::Pull(args) => &args.key.file,
            Self::Run(args) => &args.key.file,
            Self::Consents(args) => &args.path.file,
            Self::Migrate(args) => args.file.as_ref().unwrap_or(&args.from),
            Self::Rotate(args) => &args.keep.key.file,
            Self::Rekey(args) => &args.keep.key.file,
            Self::Share(args) => &args.key.file,
            Self::Unshare(args) => &args.keep.key.file,
            Self::Sign(args) => &args.path.file,
            Self::Verify(args) => &args.path.file,
            // Git's files lie anywhere; a key has no file yet.
            Self::Diff(_) | Self::Merge(_) | Self::Keygen(_) => Path::new("agent.lock"),
        }
    }

    /// What it opens a file with, when it opens one.
    const fn secret(&mut self) -> Option<&mut SecretArgs> {
        Some(match self {
            Self::Validate(args) if args.form => return None,
            // The files of before are put back, or let go.
            Self::Rotate(args) if args.undo || args.forget => return None,
            Self::Set(args) => &mut args.key.secret,
            Self::Get(args) => &mut args.key.secret,
            Self::Remove(args) => &mut args.key.secret,
            Self::Validate(args) => &mut args.key.secret,
            Self::Edit(args) => &mut args.key.secret,
            Self::Export(args) => &mut args.key.secret,
            Self::Import(args) => &mut args.key.secret,
            Self::Pull(args) => &mut args.key.secret,
            Self::Run(args) => &mut args.key.secret,
            Self::Rotate(args) => &mut args.keep.key.secret,
            Self::Rekey(args) => &mut args.keep.key.secret,
            Self::Share(args) => &mut args.key.secret,
            Self::Unshare(args) => &mut args.keep.key.secret,
            Self::Diff(args) => &mut args.secret,
            Self::Merge(args) => &mut args.secret,
            _ => return None,
        })
    }

    /// What a file is opened for, as the audit log has it.
    const fn word(&self) -> &'static str {
        match self {
            Self::Set(_) => "set",
            Self::Get(_) => "get",
            Self::Remove(_) => "remove",
            Self::Validate(_) => "validate",
            Self::Edit(_) => "edit",
            Self::Export(_) => "export",
            Self::Import(_) => "import",
            Self::Pull(_) => "pull",
            Self::Run(_) => "run",
            Self::Rotate(_) => "rotate",
            Self::Rekey(_) => "rekey",
            Self::Share(_) => "share",
            Self::Unshare(_) => "unshare",
            Self::Diff(_) => "diff",
            Self::Merge(_) => "merge",
            _ => "open",
        }
    }

    /// For whom it makes keys, when it makes some.
    const fn to(&mut self) -> Option<&mut ToArgs> {
        match self {
            Self::Init(args) => Some(&mut args.to),
            Self::Share(args) => Some(&mut args.to),
            Self::Rekey(args) => Some(&mut args.to),
            Self::Migrate(args) => Some(&mut args.to),
            _ => None,
        }
    }

    /// Fetches what lies elsewhere, before anything is done.
    async fn find(&mut self, session: &Session, settings: &Settings) -> Result {
        let file = self.file().to_owned();
        if let Some(secret) = self.secret() {
            secret.find(session, &file, settings).await?;
            told(session, &file, settings, self.word()).await?;
        }
        match self.to() {
            Some(to) => to.find(session, &file).await,
            None => Ok(()),
        }
    }
}

impl LockVerb {
    /// Where the publisher stands whose signature is wanted, of the verbs that open a file or check one.
    fn publisher(&mut self) -> Option<&mut Option<String>> {
        let key = match self {
            Self::Set(args) => &mut args.key,
            Self::Get(args) => &mut args.key,
            Self::Remove(args) => &mut args.key,
            Self::Validate(args) => &mut args.key,
            Self::Edit(args) => &mut args.key,
            Self::Export(args) => &mut args.key,
            Self::Import(args) => &mut args.key,
            Self::Pull(args) => &mut args.key,
            Self::Run(args) => &mut args.key,
            Self::Rotate(args) => &mut args.keep.key,
            Self::Rekey(args) => &mut args.keep.key,
            Self::Share(args) => &mut args.key,
            Self::Unshare(args) => &mut args.keep.key,
            Self::Verify(args) => return Some(&mut args.publisher),
            // They open no file that is there, or show who signed it.
            Self::Init(_)
            | Self::Show(_)
            | Self::Consents(_)
            | Self::Migrate(_)
            | Self::Diff(_)
            | Self::Merge(_)
            | Self::Keygen(_)
            | Self::Sign(_) => return None,
        };
        Some(&mut key.publisher)
    }
}

/// Tells the server that a file is opened, where the settings want that.
pub(super) async fn told(
    session: &Session,
    path: &Path,
    settings: &Settings,
    command: &str,
) -> Result {
    let Some(telling) = settings.audit else {
        return Ok(());
    };
    // What cannot be read is told by who opens it; a tree has files of its own.
    let Ok(lock) = file::read(path) else {
        return Ok(());
    };
    let opening = LockOpening {
        agent: lock.agent().id.clone(),
        epoch: lock.epoch(),
        command: command.to_owned(),
    };
    let told = match session.client() {
        Ok(client) => client.tell_opening(&opening).await.map_err(Failure::from),
        Err(error) => Err(error),
    };
    match (told, telling) {
        (Ok(()), _) => Ok(()),
        (Err(error), Telling::Must) => Err(error
            .hint("The settings of this file want each opening in the server's audit log (`audit = \"must\"`).")),
        (Err(error), Telling::Try) => {
            session
                .output
                .note(&format!("The server does not know that it was opened: {error}."));
            Ok(())
        }
    }
}

/// The session as the settings want it, where no flag says otherwise.
fn settled(session: &Session, settings: &Settings) -> Session {
    let mut session = Session {
        global: session.global.clone(),
        output: session.output.clone(),
    };
    let is_set = session.global.quiet || session.global.verbose > 0;
    match settings.log_level {
        Some(LogLevel::Error) if !is_set => session.output.quiet = true,
        Some(LogLevel::Debug) if !is_set => session.output.verbose = true,
        _ => {}
    }
    session
}

pub(crate) async fn run(session: &Session, mut verb: LockVerb) -> Result {
    let settings = settings::of(verb.file())?;
    let session = &settled(session, &settings);
    if let (Some(pinned), Some(wanted)) = (settings.publisher, verb.publisher()) {
        wanted.get_or_insert_with(|| pinned.to_string());
    }
    verb.find(session, &settings).await?;
    match verb {
        LockVerb::Edit(args) => edit::edit(session, &args).await,
        LockVerb::Export(args) => transfer::export(session, &args),
        LockVerb::Import(args) => transfer::import(session, &args),
        LockVerb::Pull(args) => carry::pull(session, &args).await,
        LockVerb::Run(args) => run::run(session, &args),
        LockVerb::Consents(args) => run::consents(session, &args),
        LockVerb::Migrate(args) => migrate::migrate(session, &args),
        LockVerb::Init(args) => recipients::init(session, &args),
        LockVerb::Show(args) => show(session, &args.file),
        LockVerb::Set(args) => set(session, &args),
        LockVerb::Get(args) => get(session, &args),
        LockVerb::Remove(args) => remove(session, &args),
        LockVerb::Validate(args) => validate(session, &args),
        LockVerb::Rotate(args) => recipients::rotate(session, &args),
        LockVerb::Rekey(args) => recipients::rekey(session, &args),
        LockVerb::Share(args) => recipients::share(session, &args),
        LockVerb::Unshare(args) => recipients::unshare(session, &args),
        LockVerb::Diff(args) => compare::diff(session, &args),
        LockVerb::Merge(args) => compare::merge(session, &args),
        LockVerb::Keygen(args) => keygen(session, &args.key),
        LockVerb::Sign(args) => sign(session, &args),
        LockVerb::Verify(args) => verify(session, &args),
    }
}

/// LAYER/ENTRY in its parts.
fn parts(text: &str) -> (&str, Option<&str>) {
    match text.split_once('/') {
        Some((layer, entry)) => (layer, Some(entry)),
        None => (text, None),
    }
}

/// With what a recipient opens a file, for people.
fn with(opens: &Opens) -> String {
    match opens {
        Opens::Argon2id {
            memory_kib, passes, ..
        } => format!("passphrase, argon2id {} MiB × {passes}", memory_kib >> 10),
        Opens::Pbkdf2 { rounds, .. } => format!("passphrase, pbkdf2-sha256 × {rounds}"),
        Opens::Age { recipient } => recipient.clone(),
    }
}

/// What a recipient may.
const fn access(recipient: &Recipient) -> &'static str {
    match recipient.writes() {
        true => "read-write",
        false => "read",
    }
}

fn about(lock: &Lock) -> Json {
    let recipients = lock
        .recipients()
        .iter()
        .map(|it| json!({"name": it.name, "with": with(&it.opens), "layers": it.layers, "access": access(it)}));
    let layers = lock.layers().iter().map(
        |it| json!({"name": it.name, "epoch": it.epoch, "sealed_bytes": it.sealed.len() / 4 * 3}),
    );
    json!({
        "agent": lock.agent(),
        "epoch": lock.epoch(),
        "root_epoch": lock.root_epoch(),
        "writer": lock.writer(),
        "publisher": lock.publisher().map(|it| it.to_string()),
        "recipients": recipients.collect::<Json>(),
        "layers": layers.collect::<Json>(),
    })
}

fn show(session: &Session, path: &Path) -> Result {
    let lock = file::read(path)?;
    let recipients: Vec<String> = lock
        .recipients()
        .iter()
        .map(|it| {
            let layers = it.layers.as_ref().map(|layers| layers.join(", "));
            let layers = layers.unwrap_or_else(|| "every layer".to_owned());
            format!(
                "{} ({}), {}: {layers}",
                it.name,
                with(&it.opens),
                access(it)
            )
        })
        .collect();
    let layers: Vec<String> = lock
        .layers()
        .iter()
        .map(|it| format!("{} (epoch {})", it.name, it.epoch))
        .collect();
    let publisher = lock.publisher().map(|it| it.to_string());
    session.output.one(
        &about(&lock),
        &lock.agent().name,
        &[
            ("Agent", lock.agent().name.clone()),
            ("Id", lock.agent().id.clone()),
            ("Epoch", lock.epoch().to_string()),
            ("Root of epoch", lock.root_epoch().to_string()),
            ("Written by", lock.writer().to_owned()),
            (
                "Signed by",
                publisher.unwrap_or_else(|| "nobody".to_owned()),
            ),
            ("Recipients", recipients.join("; ")),
            ("Layers", layers.join(", ")),
        ],
    )
}

/// Writes a file that was changed and says so.
fn saved(session: &Session, held: &Held, open: Open, said: &str) -> Result {
    let signed = open.lock().publisher().is_some();
    let lock = open.finish().map_err(|error| refused(&held.path, error))?;
    held.save(&lock)?;
    if signed && lock.publisher().is_none() {
        session
            .output
            .note("The signature is gone with the change; sign it again with `skep lock sign`.");
    }
    let name = &lock.agent().name;
    session.output.done(
        &about(&lock),
        name,
        &format!("{said} Epoch {}.", lock.epoch()),
    )
}

fn set(session: &Session, args: &SetArgs) -> Result {
    let (layer, Some(entry)) = parts(&args.entry) else {
        return Err(Failure::usage(format!("`{}` names no entry", args.entry))
            .hint("Write LAYER/ENTRY, such as credentials/TOKEN."));
    };
    let (held, mut open) = file::open(session, &args.key)?;
    let text = value::given(session, args.from_file.as_deref(), MOST_VALUE)?;
    let wrong = |why: &str| Failure::usage(format!("the value is no {why}"));
    let value = match args.json {
        true => serde_json::from_slice::<Json>(&text)
            .map_err(|_| wrong("JSON"))?
            .into(),
        false => {
            let text = std::str::from_utf8(&text).map_err(|_| wrong("text in UTF-8"))?;
            Value::Text(Zeroizing::new(text.to_owned()))
        }
    };
    let mut entries = layer_or_none(&held, &open, layer)?;
    entries.insert(entry.to_owned(), value);
    let put = open.put(layer, &entries);
    put.map_err(|error| refused(&held.path, error))?;
    saved(session, &held, open, &format!("{} is set.", args.entry))
}

fn layer_or_none(held: &Held, open: &Open, layer: &str) -> Result<Entries> {
    match open.layer(layer) {
        Ok(entries) => Ok(entries),
        Err(LockError::NoLayer(_)) => Ok(Entries::new()),
        Err(error) => Err(refused(&held.path, error)),
    }
}

fn no_entry(held: &Held, layer: &str, entry: &str, entries: &Entries) -> Failure {
    let names: Vec<&str> = entries.keys().map(String::as_str).collect();
    let failure = Failure::plain(format!(
        "{}: there is no entry `{entry}` in the layer `{layer}`",
        held.path.display()
    ));
    match names.is_empty() {
        true => failure.hint("The layer is empty."),
        false => failure.hint(format!("There are: {}.", names.join(", "))),
    }
}

fn get(session: &Session, args: &GetArgs) -> Result {
    let (layer, entry) = parts(&args.entry);
    let (held, open) = file::open(session, &args.key)?;
    let entries = open.layer(layer);
    let entries = entries.map_err(|error| refused(&held.path, error))?;
    let Some(entry) = entry else {
        return session.output.document(&entries);
    };
    match entries.get(entry) {
        None => Err(no_entry(&held, layer, entry, &entries)),
        Some(Value::Text(text)) => session.output.raw(text.as_bytes()),
        Some(value) => session.output.document(value),
    }
}

fn remove(session: &Session, args: &RemoveArgs) -> Result {
    let (layer, entry) = parts(&args.entry);
    let (held, mut open) = file::open(session, &args.key)?;
    let wrong = |error| refused(&held.path, error);
    match entry {
        None => open.remove(layer).map_err(wrong)?,
        Some(entry) => {
            let mut entries = open.layer(layer).map_err(wrong)?;
            if entries.remove(entry).is_none() {
                return Err(no_entry(&held, layer, entry, &entries));
            }
            open.put(layer, &entries).map_err(wrong)?;
        }
    }
    saved(session, &held, open, &format!("{} is gone.", args.entry))
}

fn validate(session: &Session, args: &ValidateArgs) -> Result {
    if args.form {
        let lock = file::read(&args.key.file)?;
        args.key.trusted(&lock)?;
        let said = "The form is right. Only a key tells whether it is what was written.";
        return session.output.done(&about(&lock), "right", said);
    }
    let (_, open) = file::open(session, &args.key)?;
    let lock = open.lock();
    let closed: Vec<&str> = lock
        .layers()
        .iter()
        .map(|it| it.name.as_str())
        .filter(|layer| !open.opens(layer))
        .collect();
    let mut said = format!(
        "It is what was written, as far as {} can tell: the header and {} of {} layers.",
        open.by(),
        lock.layers().len() - closed.len(),
        lock.layers().len()
    );
    if !closed.is_empty() {
        said.push_str(&format!(" Not opened: {}.", closed.join(", ")));
    }
    session.output.done(&about(lock), "right", &said)
}

fn keygen(session: &Session, path: &Path) -> Result {
    let key = SigningKey::generate().map_err(anyhow::Error::from)?;
    file::secret(path, &key.reveal())?;
    let public = key.publisher().map_err(anyhow::Error::from)?;
    session.output.raw(format!("{public}\n").as_bytes())
}

/// The key that a file of [`keygen`] holds.
pub(super) fn signing_key(path: &Path) -> Result<SigningKey> {
    let text = file::read_secret(path)?;
    SigningKey::parse(&text).map_err(|_| {
        Failure::plain(format!("{}: there is no key in it", path.display()))
            .hint("`skep lock keygen` makes one.")
    })
}

fn sign(session: &Session, args: &SignArgs) -> Result {
    let key = signing_key(&args.key)?;
    let held = Held::of(session, &args.path.file)?;
    let mut lock = file::read(&held.path)?;
    lock.sign(&key)
        .map_err(|error| refused(&held.path, error))?;
    held.save(&lock)?;
    let publisher = lock.publisher().map(|it| it.to_string());
    let said = format!("Signed as {}.", publisher.unwrap_or_default());
    session
        .output
        .done(&about(&lock), &lock.agent().name, &said)
}

fn verify(session: &Session, args: &VerifyArgs) -> Result {
    let wanted = args.publisher.as_deref().ok_or_else(|| {
        Failure::usage("nobody says who must have signed it")
            .hint("Name them with --publisher, or as `publisher` in the settings.")
    })?;
    let publisher = publisher(wanted)?;
    let lock = file::read(&args.path.file)?;
    let verified = lock.verify(&publisher);
    verified.map_err(|error| refused(&args.path.file, error))?;
    let said = format!("Signed by {publisher}, epoch {}.", lock.epoch());
    session
        .output
        .done(&about(&lock), &lock.agent().name, &said)
}

pub(super) fn publisher(text: &str) -> Result<Publisher> {
    text.parse().map_err(|_| {
        Failure::usage(format!(
            "`{text}` is no publisher; one begins with skepsig1_"
        ))
    })
}

/// The layers that a new file has.
const LAYERS: [&str; 3] = [CREDENTIALS, MEMORY, PERSONALITY];
