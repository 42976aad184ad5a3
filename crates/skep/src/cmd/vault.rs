//! The vault: open or sealed, its ways in, and rotations of its keys.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use skep_api::{
    CreatedSeal, KeyRotation, NewRootRotation, NewSeal, NewSecretRotation, Unseal, VaultSeal,
    VaultStatus,
};
use skep_client::Client;
use skep_core::Timestamp;
use zeroize::Zeroizing;

use crate::cmd::account::password;
use crate::cmd::keychain;
use crate::failure::Result;
use crate::output::{Format, Row, age};
use crate::session::Session;

/// What to do with the vault.
#[derive(Debug, Subcommand)]
pub(crate) enum VaultVerb {
    /// Show whether it is open, and the ways in
    Status,
    /// Seal it on this server: its keys leave the memory
    Seal,
    /// Open it on this server
    Unseal(UnsealArgs),
    /// Add or remove ways in
    #[command(subcommand)]
    Seals(SealsVerb),
    /// Replace keys while they are used
    Rotate(RotateArgs),
    /// List rotations
    Rotations(LevelArgs),
    /// Go back to the keys of before
    Rollback(OrderArgs),
    /// Destroy what the old keys wrapped, now
    Finish(OrderArgs),
}

/// Ways into the vault.
#[derive(Debug, Subcommand)]
pub(crate) enum SealsVerb {
    /// Add a way in: a key that is printed once, a passphrase, a key outside
    Add(AddArgs),
    /// Take a way in away
    Remove(RemoveArgs),
}

/// Flags of `vault unseal`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep vault unseal                       # asks for the passphrase
  skep vault unseal --key-file seal.key
  skep vault unseal --keychain vault
  skep vault unseal --configured          # the token is plugged in now")]
pub(crate) struct UnsealArgs {
    /// A file with a seal key; `-` is the standard input
    #[arg(long, value_name = "FILE", group = "with")]
    key_file: Option<PathBuf>,
    /// A file with the passphrase; `-` is the standard input [default: asked]
    #[arg(long, value_name = "FILE", group = "with")]
    passphrase_file: Option<PathBuf>,
    /// A seal key in an entry of your keychain
    #[arg(long, value_name = "ENTRY", group = "with")]
    keychain: Option<String>,
    /// What the server's configuration names: a token, a KMS, its keychain,
    /// a file
    #[arg(long, group = "with")]
    configured: bool,
}

/// Flags of `vault seals add`.
#[derive(Debug, Args)]
#[command(after_help = "\
The key of a token or of a KMS is the one that the server's configuration names
(seal.pkcs11, seal.kms): the server asks for it, with what it has.

Examples:
  skep vault seals add operator > operator.key
  skep vault seals add safe --passphrase
  skep vault seals add laptop --keychain vault
  skep vault seals add hsm --pkcs11
  skep vault seals add cloud --kms")]
pub(crate) struct AddArgs {
    /// What people call it
    name: String,
    /// A passphrase, which is asked for, instead of a key
    #[arg(long)]
    passphrase: bool,
    /// A file with the passphrase; `-` is the standard input
    #[arg(long, value_name = "FILE", group = "with")]
    passphrase_file: Option<PathBuf>,
    /// Put the key into a new entry of your keychain
    #[arg(
        long,
        value_name = "ENTRY",
        group = "with",
        conflicts_with = "passphrase"
    )]
    keychain: Option<String>,
    /// The key of the server's token
    #[arg(long, group = "with", conflicts_with = "passphrase")]
    pkcs11: bool,
    /// The key of the server's KMS
    #[arg(long, group = "with", conflicts_with = "passphrase")]
    kms: bool,
}

/// Flags of `vault seals remove`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// Its number
    id: i64,
}

/// Flags of `vault rotate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Reading and writing go on. Until the old keys are destroyed, `skep vault
rollback` goes back to them.

Examples:
  skep vault rotate                       # the workspace's key
  skep vault rotate --level data --keep 24h
  skep vault rotate --level root")]
pub(crate) struct RotateArgs {
    /// Which keys: those of the values (encrypted again), the workspace's, the root key
    #[arg(long, value_name = "LEVEL", default_value = "workspace", value_parser = ["data", "workspace", "root"])]
    level: String,
    /// For how long one can go back
    #[arg(long, value_name = "DURATION", default_value = "7d")]
    keep: String,
}

/// Whose rotations.
#[derive(Debug, Args)]
pub(crate) struct LevelArgs {
    /// Those of the root key, not those of the workspace's keys
    #[arg(long)]
    root: bool,
}

/// A rotation.
#[derive(Debug, Args)]
pub(crate) struct OrderArgs {
    /// The rotation, `rot_…`
    id: String,
    /// It is one of the root key
    #[arg(long)]
    root: bool,
}

impl Row for VaultSeal {
    const HEADERS: &'static [&'static str] = &["SEAL", "KIND", "NAME", "KEPT BY", "AGE"];

    fn name(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.kind.clone(),
            self.name.clone(),
            self.kept_by.clone().unwrap_or_default(),
            age(&self.created_at, now),
        ]
    }
}

impl Row for KeyRotation {
    const HEADERS: &'static [&'static str] =
        &["ID", "LEVEL", "PHASE", "KEYS", "DONE", "AGE", "BACK UNTIL"];

    fn name(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.clone(),
            self.level.clone(),
            self.phase.clone(),
            format!("{} → {}", self.old, self.new),
            self.done.to_string(),
            age(&self.started_at, now),
            self.keeps_until.clone().unwrap_or_default(),
        ]
    }
}

fn tell(session: &Session, status: &VaultStatus) -> Result {
    if !matches!(session.output.format, Format::Table | Format::Html) {
        return session.output.one(status, &status.state, &[]);
    }
    let said = match status.state.as_str() {
        "open" => "The vault is open.",
        "sealed" => "The vault is sealed; `skep vault unseal` opens it.",
        _ => "Nobody has set the vault up; `skep vault seals add NAME` does.",
    };
    session.output.say(said)?;
    match status.seals.is_empty() {
        true => Ok(()),
        false => session.output.list(&status.seals),
    }
}

fn tell_seal(session: &Session, made: &CreatedSeal) -> Result {
    let seal = &made.seal;
    match (&session.output.format, &made.key) {
        (Format::Json | Format::Yaml, _) => session.output.document(made),
        (_, Some(key)) => {
            session.output.note(&format!(
                "Seal {} is made. Keep its key where nobody else reads it: it is not told again.",
                seal.id
            ));
            session.output.raw(format!("{key}\n").as_bytes())
        }
        (_, None) => session.output.say(&format!("Seal {} is made.", seal.id)),
    }
}

fn tell_rotation(session: &Session, rotation: &KeyRotation) -> Result {
    let KeyRotation {
        id, level, phase, ..
    } = rotation;
    let said = format!("{id} ({level}) is {phase}.");
    session.output.done(rotation, id, &said)
}

/// What somebody opens the vault with.
async fn opening(session: &Session, args: &UnsealArgs) -> Result<Unseal> {
    if args.configured {
        return Ok(Unseal {
            configured: true,
            ..Unseal::default()
        });
    }
    let key = match (&args.keychain, args.key_file.as_deref()) {
        (Some(entry), _) => Some(keychain::get(session, entry).await?.to_string()),
        (None, Some(file)) => Some(password(session, Some(file), "Key")?),
        (None, None) => None,
    };
    let file = args.passphrase_file.as_deref();
    let passphrase = match key {
        Some(_) => None,
        None => Some(password(session, file, "Passphrase")?),
    };
    Ok(Unseal {
        key,
        passphrase,
        configured: false,
    })
}

/// Adds a way in. A key for the keychain is there before anybody is told that it is made.
async fn add(session: &Session, client: &Client, args: AddArgs) -> Result {
    let file = args.passphrase_file.as_deref();
    let passphrase = match args.passphrase || file.is_some() {
        true => Some(password(session, file, "Passphrase")?),
        false => None,
    };
    let kept_by = match (args.pkcs11, args.kms) {
        (true, _) => Some("pkcs11".to_owned()),
        (_, true) => Some("kms".to_owned()),
        _ => None,
    };
    if let Some(entry) = &args.keychain {
        keychain::check_free(session, entry).await?;
    }
    let new = NewSeal {
        name: args.name,
        passphrase,
        kept_by,
    };
    let mut made = client.add_seal(&new).await?;
    let (Some(entry), Some(key)) = (&args.keychain, made.key.take().map(Zeroizing::new)) else {
        return tell_seal(session, &made);
    };
    if let Err(failure) = keychain::put(session, entry, &key).await {
        let id = made.seal.id;
        return Err(match client.remove_seal(id).await {
            Ok(()) => failure,
            // The first one is the last one, too.
            Err(_) => failure.hint(format!(
                "Nobody has the key of seal {id}: add another seal, then `skep vault seals remove {id}`."
            )),
        });
    }
    session
        .output
        .note(&format!("Its key lies in your keychain, as `{entry}`."));
    tell_seal(session, &made)
}

pub(crate) async fn run(session: &Session, verb: VaultVerb) -> Result {
    let client = session.client()?;
    match verb {
        VaultVerb::Status => tell(session, &client.vault().await?),
        VaultVerb::Seal => {
            session.confirm(
                "Seal the vault? Whatever needs a secret is refused until it is opened again.",
            )?;
            tell(session, &client.seal_vault().await?)
        }
        VaultVerb::Unseal(args) => {
            let with = opening(session, &args).await?;
            tell(session, &client.unseal_vault(&with).await?)
        }
        VaultVerb::Seals(SealsVerb::Add(args)) => add(session, &client, args).await,
        VaultVerb::Seals(SealsVerb::Remove(RemoveArgs { id })) => {
            session.confirm(&format!(
                "Remove seal {id}? What it is of opens the vault no more."
            ))?;
            client.remove_seal(id).await?;
            let said = format!("Seal {id} is gone.");
            let removed = json!({ "removed": id });
            session.output.done(&removed, &id.to_string(), &said)
        }
        VaultVerb::Rotate(RotateArgs { level, keep }) => {
            let keep = Some(keep);
            let begun = match level.as_str() {
                "root" => client.rotate_root(&NewRootRotation { keep }).await?,
                _ => {
                    client
                        .rotate_workspace(&NewSecretRotation { level, keep })
                        .await?
                }
            };
            tell_rotation(session, &begun)
        }
        VaultVerb::Rotations(LevelArgs { root }) => session
            .output
            .list(&client.key_rotations(root).await?.items),
        VaultVerb::Rollback(OrderArgs { id, root }) => {
            session.confirm(&format!("Go back to the keys before {id}?"))?;
            tell_rotation(
                session,
                &client.order_rotation(root, &id, "rollback").await?,
            )
        }
        VaultVerb::Finish(OrderArgs { id, root }) => {
            session.confirm(&format!(
                "Destroy the keys before {id}? One cannot go back then."
            ))?;
            tell_rotation(session, &client.order_rotation(root, &id, "finish").await?)
        }
    }
}
