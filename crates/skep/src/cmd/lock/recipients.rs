//! Who opens a file: its first recipient, more of them, fewer, and new keys.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use skep_crypto::passphrase::{Passphrase, Recipe, Rounds};
use skep_lock::{Entries, Kdf, May, Open, Secret, To};

use super::content::Content;
use super::file::{self, Held, KeyArgs, refused};
use super::places::{Found, Place};
use super::settings::{self, Named, Settings};
use super::tree::{self, Order};
use super::{LAYERS, saved, transfer};
use crate::cmd::account::password;
use crate::cmd::templates::shelf::{self, Shelf};
use crate::failure::{Failure, Result};
use crate::session::Session;

/// What the first recipient is called, unless somebody says otherwise.
pub(in crate::cmd) const OWNER: &str = "owner";

/// How a key is made of a passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KdfName {
    /// Argon2id
    Argon2id,
    /// PBKDF2-HMAC-SHA-256, for rules that demand it
    Pbkdf2,
}

/// Whom keys are for.
#[derive(Debug, Args)]
pub(crate) struct ToArgs {
    /// A recipient of age, instead of a passphrase: age1…
    #[arg(long, value_name = "AGE", conflicts_with_all = ["new_passphrase_file", "new_passphrase_from"])]
    age: Option<String>,
    /// A file with the passphrase; `-` is the standard input [default: asked]
    #[arg(long, value_name = "FILE", conflicts_with = "new_passphrase_from")]
    new_passphrase_file: Option<PathBuf>,
    /// The passphrase in this place: vault:SECRET, or keychain:NAME, where a
    /// random one is put when there is none
    #[arg(long, value_name = "PLACE")]
    new_passphrase_from: Option<Place>,
    /// What the place held.
    #[arg(skip)]
    found: Option<Found>,
    /// How the key is made of it
    #[arg(long, value_enum, default_value = "argon2id", value_name = "KDF")]
    kdf: KdfName,
    /// Argon2id: memory, 64 to 1024 [default: 64]
    #[arg(long, value_name = "MIB")]
    memory: Option<u32>,
    /// Argon2id: passes over it, 3 to 16 [default: 3]
    #[arg(long, value_name = "NUMBER")]
    passes: Option<u32>,
    /// PBKDF2: rounds, 600000 to 10000000 [default: 600000]
    #[arg(long, value_name = "NUMBER")]
    rounds: Option<u32>,
}

/// Flags of `lock init`.
#[derive(Debug, Args)]
#[command(after_help = "\
The section [lock] of skep.toml or backpack.toml, in the folder of the file or the
nearest above, may name recipients whom each new file is for. Without --age and
--new-passphrase-file the first of them who opens every layer is its owner.

Examples:
  skep lock init support
  skep lock init support --new-passphrase-from keychain:support
  skep lock init support --template support-agent
  skep lock init support --recipient ada --age age1…")]
pub(crate) struct InitArgs {
    /// The agent's name
    pub(in crate::cmd) name: String,
    /// The file to make; it must not be there yet
    #[arg(long, value_name = "FILE", default_value = "agent.lock")]
    pub(in crate::cmd) file: PathBuf,
    /// What its first recipient is called, who opens every layer
    #[arg(long, value_name = "NAME", default_value = OWNER)]
    pub(in crate::cmd) recipient: String,
    /// Fill it from this template: a file, or a name that `skep templates
    /// list` has or that is in the templates folder of the settings
    #[arg(long, value_name = "TEMPLATE")]
    pub(in crate::cmd) template: Option<PathBuf>,
    /// Leave out the recipients of the settings
    #[arg(long)]
    pub(in crate::cmd) alone: bool,
    #[command(flatten)]
    pub(in crate::cmd) to: ToArgs,
}

impl InitArgs {
    pub(super) fn file(&self) -> &Path {
        &self.file
    }
}

/// Flags of `lock share`.
#[derive(Debug, Args)]
#[command(after_help = "\
Who opens some layers only gets their keys and can change them; nobody else's
keys are known to them. Who may only read opens the same; what they would change
is refused by everybody else.

Examples:
  skep lock share bob --age age1…
  skep lock share eve --read --age age1…
  skep lock share ci --layer personality --layer memory --age age1…")]
pub(crate) struct ShareArgs {
    /// What the recipient is called
    name: String,
    /// A layer to open; can be given again [default: every layer]
    #[arg(long = "layer", value_name = "LAYER")]
    layers: Vec<String>,
    /// To read it, and not to change it
    #[arg(long)]
    read: bool,
    #[command(flatten)]
    pub(super) to: ToArgs,
    #[command(flatten)]
    pub(super) key: KeyArgs,
}

/// Who stays when there is a new root.
#[derive(Debug, Args)]
pub(crate) struct KeepArgs {
    /// A file with the passphrase of another recipient who stays;
    /// can be given again
    #[arg(long, value_name = "FILE")]
    keep: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) key: KeyArgs,
}

/// Flags of `lock rotate`.
#[derive(Debug, Args)]
#[command(after_help = "\
With --tree every agent.lock and NAME.agent.lock under a folder gets a new root:
all of them, or none. One key must open each of them. What is cut off goes on, or
is thrown away, when the command is run again. The old files are kept in
.skep-rotation in the folder until --forget, and --undo puts them back.

Examples:
  skep lock rotate
  skep lock rotate --tree ~/agents --identity ~/.age/key.txt
  skep lock rotate --tree ~/agents --forget")]
pub(crate) struct RotateArgs {
    /// Rotate all files under this folder
    #[arg(long, value_name = "DIR", conflicts_with = "file")]
    tree: Option<PathBuf>,
    /// Put the files of before back
    #[arg(long, requires = "tree", conflicts_with = "forget")]
    pub(super) undo: bool,
    /// Let the files of before go
    #[arg(long, requires = "tree")]
    pub(super) forget: bool,
    #[command(flatten)]
    pub(super) keep: KeepArgs,
}

/// Flags of `lock unshare`.
#[derive(Debug, Args)]
#[command(after_help = "\
What somebody has read stays read, and an older copy of the file still opens
for them: give the services of its credentials new ones, too.")]
pub(crate) struct UnshareArgs {
    /// The recipient
    name: String,
    #[command(flatten)]
    pub(super) keep: KeepArgs,
}

/// Flags of `lock rekey`.
#[derive(Debug, Args)]
pub(crate) struct RekeyArgs {
    /// The recipient
    name: String,
    #[command(flatten)]
    pub(super) to: ToArgs,
    #[command(flatten)]
    pub(super) keep: KeepArgs,
}

impl ToArgs {
    /// For a recipient of age, a passphrase in a file, or one that is asked for.
    pub(in crate::cmd) const fn new(age: Option<String>, file: Option<PathBuf>) -> Self {
        Self {
            age,
            new_passphrase_file: file,
            new_passphrase_from: None,
            found: None,
            kdf: KdfName::Argon2id,
            memory: None,
            passes: None,
            rounds: None,
        }
    }

    /// Whether it says whom keys are for.
    const fn is_given(&self) -> bool {
        self.age.is_some() || self.new_passphrase_file.is_some() || self.found.is_some()
    }

    /// Fetches what lies at the place that is named.
    pub(super) async fn find(&mut self, session: &Session, file: &Path) -> Result {
        if let Some(place) = &self.new_passphrase_from {
            self.found = Some(place.find_or_make(session, file).await?);
        }
        Ok(())
    }

    fn kdf(&self) -> Result<Kdf> {
        let wrong = |flag| Err(Failure::usage(format!("{flag} does not go with --kdf")));
        let made = match self.kdf {
            KdfName::Argon2id if self.rounds.is_some() => return wrong("--rounds"),
            KdfName::Pbkdf2 if self.memory.is_some() => return wrong("--memory"),
            KdfName::Pbkdf2 if self.passes.is_some() => return wrong("--passes"),
            KdfName::Argon2id => Recipe::new().map(|recipe| {
                let memory = self.memory.map(|mib| mib.saturating_mul(1 << 10));
                Kdf::Argon2id(Recipe {
                    memory_kib: memory.unwrap_or(recipe.memory_kib),
                    passes: self.passes.unwrap_or(recipe.passes),
                    ..recipe
                })
            }),
            KdfName::Pbkdf2 => Rounds::new().map(|rounds| {
                Kdf::Pbkdf2(Rounds {
                    rounds: self.rounds.unwrap_or(rounds.rounds),
                    ..rounds
                })
            }),
        };
        Ok(made.map_err(anyhow::Error::from)?)
    }

    pub(super) fn to(&self, session: &Session) -> Result<To> {
        if let Some(text) = &self.age {
            let recipient = text.parse().map_err(|_| {
                Failure::usage(format!("`{text}` is no recipient of age"))
                    .hint("`age-keygen -y FILE` prints the one of an identity: age1…")
            })?;
            return Ok(To::Age(recipient));
        }
        let kdf = self.kdf()?;
        if let Some(found) = &self.found {
            return Ok(To::Passphrase(phrase(found.text().to_owned())?, kdf));
        }
        let file = self.new_passphrase_file.as_deref();
        let text = password(session, file, "New passphrase")?;
        if file.is_none() && password(session, None, "Once more")? != text {
            return Err(Failure::usage("the two are not the same"));
        }
        Ok(To::Passphrase(phrase(text)?, kdf))
    }
}

fn phrase(text: String) -> Result<Passphrase> {
    Passphrase::new(text).map_err(|error| Failure::usage(error.to_string()))
}

pub(super) fn init(session: &Session, args: &InitArgs) -> Result {
    let content = |settings: &Settings| template(session, args, settings);
    let New { held, open, said } = made(session, args, content)?;
    saved(session, &held, open, &said)
}

/// A file that is made and not written yet.
pub(in crate::cmd) struct New {
    held: Held,
    open: Open,
    said: String,
}

impl New {
    /// Writes it, and gives what to say of it.
    pub(in crate::cmd) fn write(self) -> Result<String> {
        let lock = self.open.finish();
        let lock = lock.map_err(|error| refused(&self.held.path, error))?;
        self.held.save(&lock)?;
        Ok(self.said)
    }
}

/// Makes a file for whom it is to be, with this content.
pub(in crate::cmd) fn made(
    session: &Session,
    args: &InitArgs,
    content: impl FnOnce(&Settings) -> Result<Content>,
) -> Result<New> {
    let held = Held::of(session, &args.file)?;
    if held.path.symlink_metadata().is_ok() {
        return Err(
            Failure::plain(format!("{} is there already", args.file.display()))
                .hint("Name another with --file, or remove it."),
        );
    }
    let settings = settings::of(&held.path)?;
    let content = content(&settings)?;
    let mut others = match args.alone {
        true => Vec::new(),
        false => settings.recipients,
    };
    let given = args.to.is_given();
    let first = others.iter().position(Named::is_owner).filter(|_| !given);
    let (name, to) = match first {
        Some(place) => {
            let owner = others.remove(place);
            (owner.name, To::Age(owner.age))
        }
        None => (args.recipient.clone(), args.to.to(session)?),
    };
    others.retain(|it| it.name != name);
    let made = || {
        let mut open = Open::create(&args.name, &name, &to)?;
        for layer in LAYERS {
            open.put(layer, &Entries::new())?;
        }
        for (layer, entries) in &content {
            open.put(layer, entries)?;
        }
        for it in &others {
            open.share(&it.name, it.layers.as_deref(), it.may(), &To::Age(it.age))?;
        }
        Ok(open)
    };
    let open = made().map_err(|error| refused(&held.path, error))?;
    let who: Vec<&str> = open
        .lock()
        .recipients()
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    let said = format!(
        "{} is made for {}, and opens for {}.",
        args.file.display(),
        args.name,
        who.join(", ")
    );
    Ok(New { held, open, said })
}

/// What a template has for a new file: layers in the open, as `lock export` writes them, or a template of agents.
fn template(session: &Session, args: &InitArgs, settings: &Settings) -> Result<Content> {
    let Some(named) = &args.template else {
        return Ok(Content::new());
    };
    let is_template = named.to_string_lossy().ends_with(skep_templates::ENDING);
    let is_there = named.metadata().is_ok_and(|about| !about.is_dir());
    if named == Path::new("-") || is_there && !is_template {
        return transfer::read(session, named, None);
    }
    let folder = settings.templates.as_deref();
    if let Some(folder) = folder.filter(|_| named.components().count() == 1) {
        let endings = ["yaml", "yml", "json"];
        let mut paths = endings
            .map(|it| folder.join(format!("{}.{it}", named.display())))
            .into_iter();
        if let Some(path) = paths.find(|path| path.is_file()) {
            return transfer::read(session, &path, None);
        }
    }
    skeleton(session, &args.name, &named.to_string_lossy(), settings)
}

/// What a template of agents has for a new file; the credentials that it lacks are named.
fn skeleton(session: &Session, agent: &str, named: &str, settings: &Settings) -> Result<Content> {
    let found = Shelf::of(settings).find(named)?;
    let made = found.template.made(agent, &BTreeMap::new());
    let made = made.map_err(|error| shelf::refused(named, error))?;
    shelf::tell_missing(session, &found.template.form.credentials);
    Ok(shelf::content(&made))
}

pub(super) fn share(session: &Session, args: &ShareArgs) -> Result {
    let (held, mut open) = file::open(session, &args.key)?;
    let to = args.to.to(session)?;
    let layers = (!args.layers.is_empty()).then_some(&args.layers[..]);
    let may = args.read.then_some(May::Read);
    let shared = open.share(&args.name, layers, may, &to);
    shared.map_err(|error| refused(&held.path, error))?;
    let what = layers.map_or("every layer".to_owned(), |layers| layers.join(", "));
    let only = if args.read { ", to read it" } else { "" };
    let said = format!("{} opens {what} now{only}.", args.name);
    saved(session, &held, open, &said)
}

impl KeepArgs {
    /// All that is known of recipients' keys, the first one before the others.
    fn known(&self, session: &Session, first: Secret) -> Result<Vec<Secret>> {
        let mut known = vec![first];
        for path in &self.keep {
            let path: &Path = path;
            let text = password(session, Some(path), "Passphrase")?;
            known.push(Secret::Passphrase(phrase(text)?));
        }
        Ok(known)
    }

    /// Opens the file and makes a new root.
    fn rotated(
        &self,
        session: &Session,
        without: &[String],
        anew: impl FnOnce() -> Result<BTreeMap<String, To>>,
    ) -> Result<(Held, Open)> {
        let (held, secret, mut open) = file::open_with(session, &self.key)?;
        let known = self.known(session, secret)?;
        let rotated = open.rotate(without, &known, &anew()?);
        rotated.map_err(|error| refused(&held.path, error))?;
        Ok((held, open))
    }
}

pub(super) fn rotate(session: &Session, args: &RotateArgs) -> Result {
    if let Some(tree) = &args.tree {
        let order = match (args.undo, args.forget) {
            (true, _) => Order::Undo,
            (_, true) => Order::Forget,
            _ => Order::Rotate,
        };
        let known = || {
            let first = args.keep.key.secret.secret(session, tree)?;
            args.keep.known(session, first)
        };
        return tree::run(session, tree, &args.keep.key, order, known);
    }
    let (held, open) = args.keep.rotated(session, &[], || Ok(BTreeMap::new()))?;
    saved(session, &held, open, "The file has a new root.")
}

pub(super) fn unshare(session: &Session, args: &UnshareArgs) -> Result {
    let without = [args.name.clone()];
    let (held, open) = args
        .keep
        .rotated(session, &without, || Ok(BTreeMap::new()))?;
    let said = format!(
        "{} opens nothing that is written from now on; what was read stays read.",
        args.name
    );
    saved(session, &held, open, &said)
}

pub(super) fn rekey(session: &Session, args: &RekeyArgs) -> Result {
    let anew = || Ok(BTreeMap::from([(args.name.clone(), args.to.to(session)?)]));
    let (held, open) = args.keep.rotated(session, &[], anew)?;
    let said = format!("{} has a new key, and the file a new root.", args.name);
    saved(session, &held, open, &said)
}
