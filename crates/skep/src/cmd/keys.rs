//! API keys: made, listed, replaced, ended.

use clap::{Args, Subcommand};
use skep_api::{ApiKey, CreatedApiKey, NewApiKey, RotateApiKey};
use skep_core::Timestamp;

use crate::failure::{Failure, Result};
use crate::output::{Format, Row, age};
use crate::session::Session;

/// What to do with API keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysVerb {
    /// List the keys of the workspace
    #[command(visible_alias = "ls")]
    List,
    /// Make a key and print it; nobody can print it again
    Create(CreateArgs),
    /// Make a key in the place of another, which counts a little longer
    Rotate(RotateArgs),
    /// End a key at once
    Revoke(RevokeArgs),
    /// Print a new key for the file of `keys.file`; needs no server
    Generate,
}

/// Flags of `keys create`.
#[derive(Debug, Args)]
#[command(after_help = "\
A key gets no more than the one that makes it has. Scopes hold it to a part of
its role: groups of actions (read, use, operate, sensitive, administer) or
actions (agent:call); `skep policy schema` shows them all. The key alone goes
to the standard output.

Examples:
  skep keys create ci --role member --scope use --expires 90d
  skep keys create dashboard --role viewer > dashboard.key
  skep keys create backup-admin --role admin --canary > /srv/backup/admin.key")]
pub(crate) struct CreateArgs {
    /// What people call it
    name: String,
    /// What it may do at most
    #[arg(long, value_name = "ROLE", default_value = "member",
        value_parser = ["viewer", "member", "admin", "owner"])]
    role: String,
    /// Only this of its role; can be given again [default: all]
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// For how long it counts, such as 90d [default: without an end]
    #[arg(long, value_name = "DURATION")]
    expires: Option<String>,
    /// How often it may be used, such as 600/1m [default: as often as all may]
    #[arg(long, value_name = "RATE")]
    rate: Option<String>,
    /// It may do nothing, and whoever uses it is found: `skep security`
    #[arg(long, conflicts_with = "scopes")]
    canary: bool,
}

/// Flags of `keys rotate`.
#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    /// The key, `key_…`
    id: String,
    /// For how long the old one still counts, at most 90d
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    overlap: String,
    /// For how long the new one counts [default: without an end]
    #[arg(long, value_name = "DURATION")]
    expires: Option<String>,
}

/// Flags of `keys revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// The key, `key_…`
    id: String,
}

impl Row for ApiKey {
    const HEADERS: &'static [&'static str] =
        &["ID", "NAME", "ROLE", "SCOPES", "AGE", "LAST USE", "ENDS"];

    fn name(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let used = self.used_at.as_ref().map(|at| age(at, now));
        let day = |time: &String| time.split('T').next().unwrap_or_default().to_owned();
        vec![
            self.id.clone(),
            self.name.clone(),
            self.role.clone(),
            self.scopes.join(","),
            age(&self.created_at, now),
            used.unwrap_or_else(|| "never".to_owned()),
            self.expires_at.as_ref().map(day).unwrap_or_default(),
        ]
    }
}

pub(crate) async fn run(session: &Session, verb: KeysVerb) -> Result {
    if let KeysVerb::Generate = verb {
        let text = skep_server::new_key_text().map_err(|error| Failure::public(&error))?;
        return session.output.raw(format!("{text}\n").as_bytes());
    }
    let client = session.client()?;
    match verb {
        KeysVerb::Generate => Ok(()),
        KeysVerb::List => session.output.list(&client.keys().await?.items),
        KeysVerb::Create(args) => {
            let wanted = NewApiKey {
                name: args.name,
                role: args.role,
                scopes: (!args.scopes.is_empty()).then_some(args.scopes),
                expires_in: args.expires,
                rate: args.rate,
                canary: args.canary,
            };
            tell(session, &client.create_key(&wanted).await?)
        }
        KeysVerb::Rotate(args) => {
            let how = RotateApiKey {
                overlap: Some(args.overlap),
                expires_in: args.expires,
            };
            tell(session, &client.rotate_key(&args.id, &how).await?)
        }
        KeysVerb::Revoke(args) => {
            let id = &args.id;
            session.confirm(&format!(
                "End {id}? Whoever uses it is refused from now on."
            ))?;
            client.revoke_key(id).await?;
            let said = format!("{id} is revoked.");
            session
                .output
                .done(&serde_json::json!({ "revoked": id }), id, &said)
        }
    }
}

/// Prints a new key: the key alone on the standard output, so that it can go to a file.
fn tell(session: &Session, made: &CreatedApiKey) -> Result {
    match session.output.format {
        Format::Table | Format::Html | Format::Name => {
            let ApiKey { id, name, role, .. } = &made.key;
            session.output.note(&format!(
                "{name} ({id}) has the role {role}. Keep it: it is not told again."
            ));
            session.output.raw(format!("{}\n", made.secret).as_bytes())
        }
        Format::Json | Format::Yaml => session.output.document(made),
    }
}
