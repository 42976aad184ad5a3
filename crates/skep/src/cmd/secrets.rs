//! Secrets: made, found, changed, lent, shared, shown.

mod access;
mod export;
mod import;
mod keys;
mod mount;
mod scaffold;
mod scan;
mod tree;
pub(super) mod value;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use skep_api::{
    NewSecret, NewVersion, Reveal, Secret, SecretChange, SecretRenewal, SecretVersion,
    SecretVersions,
};
use skep_client::{Client, SecretsQuery};
use skep_core::Timestamp;

use crate::failure::{Failure, Result};
use crate::output::{Format, Row, age};
use crate::session::Session;

/// What to do with secrets.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretsVerb {
    /// List secrets, without their values
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Make a secret
    Create(CreateArgs),
    /// Give a secret a new version
    Put(PutArgs),
    /// Show what is known about a secret
    Show(OneArgs),
    /// List the versions of a secret
    Versions(OneArgs),
    /// Let the secret's hook make a new value
    Rotate(OneArgs),
    /// Print a value; the reason stands in the audit log
    Reveal(RevealArgs),
    /// Change what is known about a secret
    Update(UpdateArgs),
    /// Delete versions; they can be brought back
    Delete(VersionsArgs),
    /// Bring deleted versions back
    Undelete(VersionsArgs),
    /// Destroy the values of versions for ever
    Destroy(VersionsArgs),
    /// Forget a secret with all of its versions, for ever
    #[command(visible_alias = "rm")]
    Remove(OneArgs),
    /// Make secrets of a file, or of another store of secrets: all or none
    Import(import::ImportArgs),
    /// Write secrets into a file, or into another store; each is revealed
    Export(export::ExportArgs),
    /// Mount another store of secrets below a path; it is asked as it is used
    Mount(mount::MountArgs),
    /// List the stores that are mounted
    Mounts,
    /// Ask a mounted store for all that it has, now
    Refresh(mount::PathArgs),
    /// Take a mount away; in the store nothing is done
    Unmount(mount::PathArgs),
    /// Find values that lie in the open, in a tree or in logs; needs no server
    Scan(scan::ScanArgs),
    /// List the secrets that a project needs, and which the vault has
    Scaffold(scaffold::ScaffoldArgs),
    /// Print a new password, token or key; needs no server
    Generate(GenerateArgs),
    /// List who may do what with a secret
    Shares(OneArgs),
    /// Let somebody do something with a secret
    Share(access::ShareArgs),
    /// Take that back; leases of it end
    Unshare(access::UnshareArgs),
    /// Ask to do something with a secret for a time
    Request(access::RequestArgs),
    /// List such wishes
    Requests(access::RequestsArgs),
    /// Say yes to a wish
    Approve(access::DecideArgs),
    /// Say no to a wish
    Deny(access::DecideArgs),
    /// Take one's own wish back
    Withdraw(access::DecideArgs),
    /// List the leases of a secret
    Leases(OneArgs),
    /// End a lease, and those that hang on it
    Release(access::ReleaseArgs),
}

/// Flags of `secrets list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Words, or beginnings of words, of the name
    query: Vec<String>,
    /// Only with this tag: team, team=red; can be given again
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
}

/// Where a value comes from.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct ValueArgs {
    /// A file with the value, as it is; `-` is the standard input [default: asked]
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    /// Let the vault make it: password, token or key, and `:` with a length
    #[arg(long, value_name = "KIND")]
    generate: Option<String>,
}

/// What may be said of a secret.
#[derive(Debug, Args)]
pub(crate) struct AboutArgs {
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// A tag, such as team=red; can be given again
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,
    /// For how long a new version counts, such as 30d
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
    /// How many versions are kept [default: 10]
    #[arg(long, value_name = "NUMBER")]
    keep: Option<u32>,
    /// How often it should get a new value, such as 90d
    #[arg(long, value_name = "DURATION")]
    rotate_every: Option<String>,
}

/// Flags of `secrets create`.
#[derive(Debug, Args)]
#[command(after_help = "\
A value never stands in the command: it comes from a file, from the standard
input, or is asked for without showing it. One line break at its end is left
out when it is asked for or piped in, and kept from a file.

Examples:
  skep secrets create billing/stripe --tag team=pay --rotate-every 90d
  skep secrets create db/password --generate password:32
  kubectl get … | skep secrets create kube/config --from-file -")]
pub(crate) struct CreateArgs {
    /// What it is called: parts of letters, digits, `.`, `_`, `-`, with `/` between
    name: String,
    #[command(flatten)]
    value: ValueArgs,
    #[command(flatten)]
    about: AboutArgs,
    /// Refuse new versions that do not say which one they follow
    #[arg(long)]
    check: bool,
    /// It is bait: whoever touches it is told of
    #[arg(long)]
    canary: bool,
}

/// Flags of `secrets put`.
#[derive(Debug, Args)]
pub(crate) struct PutArgs {
    /// The secret
    name: String,
    #[command(flatten)]
    value: ValueArgs,
    /// The version that it must follow
    #[arg(long, value_name = "VERSION")]
    follows: Option<u32>,
    /// For how long it counts
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
}

/// A secret.
#[derive(Debug, Args)]
pub(crate) struct OneArgs {
    /// The secret: its name, or `sec_…`
    name: String,
}

/// Flags of `secrets reveal`.
#[derive(Debug, Args)]
#[command(after_help = "\
The value alone goes to the standard output, as it is.

Example:
  skep secrets reveal db/password --reason 'restore of 2026-11-20'")]
pub(crate) struct RevealArgs {
    /// The secret
    name: String,
    /// Why; it stands in the audit log
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Which version [default: the latest]
    #[arg(long, value_name = "VERSION")]
    version: Option<u32>,
    /// One field of a value that is a JSON object
    #[arg(long, value_name = "NAME")]
    field: Option<String>,
}

/// Flags of `secrets update`.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// The secret
    name: String,
    /// A new name
    #[arg(long, value_name = "NAME")]
    rename: Option<String>,
    #[command(flatten)]
    about: AboutArgs,
    /// Whether new versions must say which one they follow
    #[arg(long, value_name = "BOOL")]
    check: Option<bool>,
    /// Whether it is bait
    #[arg(long, value_name = "BOOL")]
    canary: Option<bool>,
}

/// Some versions.
#[derive(Debug, Args)]
pub(crate) struct VersionsArgs {
    /// The secret
    name: String,
    /// The versions
    #[arg(required = true)]
    versions: Vec<u32>,
}

/// Flags of `secrets generate`.
#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// password, token or key, and `:` with a length
    #[arg(default_value = "password")]
    kind: String,
}

fn tag(text: &str) -> std::result::Result<(String, String), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    match name.is_empty() {
        true => Err("a tag is NAME=VALUE".to_owned()),
        false => Ok((name.to_owned(), value.to_owned())),
    }
}

impl Row for Secret {
    const HEADERS: &'static [&'static str] = &["NAME", "VERSION", "TAGS", "CHANGED", "DUE"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let day = |time: &String| time.split('T').next().unwrap_or_default().to_owned();
        vec![
            self.name.clone(),
            self.latest.to_string(),
            tags(&self.tags),
            age(&self.updated_at, now),
            self.rotate_at.as_ref().map(day).unwrap_or_default(),
        ]
    }
}

impl Row for SecretVersion {
    const HEADERS: &'static [&'static str] = &["VERSION", "STATE", "AGE", "BY", "ENDS"];

    fn name(&self) -> String {
        self.version.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.version.to_string(),
            self.state.clone(),
            age(&self.created_at, now),
            self.created_by.clone(),
            self.expires_at.clone().unwrap_or_default(),
        ]
    }
}

fn tags(all: &BTreeMap<String, String>) -> String {
    let words = all.iter().map(|(name, value)| match value.is_empty() {
        true => name.clone(),
        false => format!("{name}={value}"),
    });
    words.collect::<Vec<_>>().join(" ")
}

pub(crate) async fn run(session: &Session, verb: SecretsVerb) -> Result {
    match verb {
        SecretsVerb::Generate(args) => {
            let kind: skep_vault::Generate = args
                .kind
                .parse()
                .map_err(|error| Failure::public(&error as &skep_vault::VaultError))?;
            let made = kind.make().map_err(|error| Failure::public(&error))?;
            session.output.raw(&[made.bytes(), b"\n"].concat())
        }
        SecretsVerb::List(args) => list(session, args).await,
        SecretsVerb::Create(args) => create(session, args).await,
        SecretsVerb::Put(args) => put(session, args).await,
        SecretsVerb::Show(args) => show(session, &args.name).await,
        SecretsVerb::Versions(args) => {
            let versions = session.client()?.secret_versions(&args.name).await?;
            session.output.list(&versions.items)
        }
        SecretsVerb::Rotate(args) => rotate(session, &args.name).await,
        SecretsVerb::Reveal(args) => reveal(session, args).await,
        SecretsVerb::Import(args) => import::run(session, args).await,
        SecretsVerb::Export(args) => export::run(session, args).await,
        SecretsVerb::Scan(args) => scan::run(session, &args),
        SecretsVerb::Scaffold(args) => scaffold::run(session, &args).await,
        SecretsVerb::Update(args) => update(session, args).await,
        SecretsVerb::Delete(args) => order(session, args, "delete").await,
        SecretsVerb::Undelete(args) => order(session, args, "undelete").await,
        SecretsVerb::Destroy(args) => {
            let name = &args.name;
            session.confirm(&format!(
                "Destroy {} of {name}? Nobody can bring the values back.",
                numbers(&args.versions)
            ))?;
            order(session, args, "destroy").await
        }
        SecretsVerb::Remove(args) => {
            let name = &args.name;
            session.confirm(&format!(
                "Forget {name} with all of its versions? Nobody can bring them back."
            ))?;
            session.client()?.remove_secret(name).await?;
            let said = format!("{name} is gone.");
            session
                .output
                .done(&json!({ "removed": name }), name, &said)
        }
        SecretsVerb::Mount(args) => mount::mount(session, args).await,
        SecretsVerb::Mounts => mount::mounts(session).await,
        SecretsVerb::Refresh(args) => mount::refresh(session, &args).await,
        SecretsVerb::Unmount(args) => mount::unmount(session, &args).await,
        other => access::run(session, other).await,
    }
}

fn numbers(versions: &[u32]) -> String {
    let all: Vec<String> = versions.iter().map(u32::to_string).collect();
    match all.len() {
        1 => format!("version {}", all[0]),
        _ => format!("versions {}", all.join(", ")),
    }
}

async fn list(session: &Session, args: ListArgs) -> Result {
    let query = (!args.query.is_empty()).then(|| args.query.join(" "));
    let found = all(&session.client()?, query, args.tags).await?;
    session.output.list(&found)
}

/// Every secret that is found, page by page.
async fn all(client: &Client, query: Option<String>, tags: Vec<String>) -> Result<Vec<Secret>> {
    let mut query = SecretsQuery {
        query,
        tags,
        page: skep_client::PageQuery::default(),
    };
    let mut all = Vec::new();
    loop {
        let page = client.secrets(&query).await?;
        all.extend(page.items);
        match page.next {
            Some(next) => query.page.cursor = Some(next),
            None => return Ok(all),
        }
    }
}

async fn create(session: &Session, args: CreateArgs) -> Result {
    let value = value::read(session, &args.value)?;
    let new = NewSecret {
        name: args.name,
        value: value.text,
        value_base64: value.base64,
        generate: value.generate,
        description: args.about.description.unwrap_or_default(),
        tags: args.about.tags.into_iter().collect(),
        ttl: args.about.ttl,
        keep: args.about.keep,
        check: args.check,
        canary: args.canary,
        rotate_every: args.about.rotate_every,
    };
    let made = session.client()?.create_secret(&new).await?;
    let said = format!("{} is made ({}).", made.name, made.id);
    session.output.done(&made, &made.name, &said)
}

async fn put(session: &Session, args: PutArgs) -> Result {
    let value = value::read(session, &args.value)?;
    let new = NewVersion {
        value: value.text,
        value_base64: value.base64,
        generate: value.generate,
        follows: args.follows,
        ttl: args.ttl,
    };
    let put = session.client()?.put_secret(&args.name, &new).await?;
    let said = format!("{} has version {}.", put.name, put.latest);
    session.output.done(&put, &put.name, &said)
}

async fn show(session: &Session, name: &str) -> Result {
    let secret = session.client()?.secret(name).await?;
    let yes = |is: bool| if is { "yes".to_owned() } else { String::new() };
    let lines = [
        ("name", secret.name.clone()),
        ("id", secret.id.clone()),
        ("description", secret.description.clone()),
        ("tags", tags(&secret.tags)),
        ("latest", secret.latest.to_string()),
        ("kept", format!("{} versions", secret.keep)),
        ("counts for", secret.ttl.clone().unwrap_or_default()),
        (
            "rotate every",
            secret.rotate_every.clone().unwrap_or_default(),
        ),
        ("due", secret.rotate_at.clone().unwrap_or_default()),
        (
            "renewal",
            secret.renewal.as_ref().map(renewal).unwrap_or_default(),
        ),
        ("checked", yes(secret.check)),
        ("canary", yes(secret.canary)),
        ("made", secret.created_at.clone()),
        ("changed", secret.updated_at.clone()),
    ];
    session.output.one(&secret, &secret.name, &lines)
}

async fn rotate(session: &Session, name: &str) -> Result {
    let renewal = session.client()?.rotate_secret(name).await?;
    let said = format!(
        "{name} gets a new value: {}. `skep secrets show {name}` says how far it is.",
        renewal.phase
    );
    session.output.done(&renewal, name, &said)
}

/// How far a renewal is, in a line.
fn renewal(renewal: &SecretRenewal) -> String {
    let SecretRenewal {
        phase,
        tries,
        next_at,
        ..
    } = renewal;
    match tries {
        0 => format!("{phase} ({next_at})"),
        tries => format!("{phase}, failed {tries} times, again {next_at}"),
    }
}

async fn reveal(session: &Session, args: RevealArgs) -> Result {
    let wish = Reveal {
        reason: args.reason,
        version: args.version,
        field: args.field,
    };
    let shown = session.client()?.reveal_secret(&args.name, &wish).await?;
    match session.output.format {
        Format::Json | Format::Yaml => session.output.document(&shown),
        Format::Table | Format::Html | Format::Name => {
            let bytes = value::bytes(&shown)?;
            session.output.raw(&bytes)?;
            // A prompt should not stand behind a value; a file should have it as it is.
            match session.output.is_terminal() && !bytes.ends_with(b"\n") {
                true => session.output.raw(b"\n"),
                false => Ok(()),
            }
        }
    }
}

async fn update(session: &Session, args: UpdateArgs) -> Result {
    let about = args.about;
    let tags: BTreeMap<String, String> = about.tags.into_iter().collect();
    let change = SecretChange {
        name: args.rename,
        description: about.description,
        tags: (!tags.is_empty()).then_some(tags),
        ttl: about.ttl,
        keep: about.keep,
        check: args.check,
        canary: args.canary,
        rotate_every: about.rotate_every,
    };
    if change == SecretChange::default() {
        return Err(Failure::usage("nothing is to change")
            .hint("`skep secrets update --help` shows what can."));
    }
    let changed = session.client()?.update_secret(&args.name, &change).await?;
    let said = format!("{} is changed.", changed.name);
    session.output.done(&changed, &changed.name, &said)
}

async fn order(session: &Session, args: VersionsArgs, order: &str) -> Result {
    let which = SecretVersions {
        versions: args.versions,
    };
    let client = session.client()?;
    let secret = client.order_versions(&args.name, order, &which).await?;
    let done = match order {
        "delete" => "deleted",
        "undelete" => "back",
        _ => "destroyed",
    };
    let said = format!("{} of {}: {done}.", numbers(&which.versions), secret.name);
    session.output.done(&secret, &secret.name, &said)
}
