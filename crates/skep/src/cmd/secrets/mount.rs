//! Other stores that are mounted in the vault.

use clap::Args;
use serde_json::json;
use skep_api::{MountedSecrets, NewSecretMount, SecretMount};
use skep_client::Client;
use skep_core::Timestamp;

use crate::failure::{Exit, Failure, Result};
use crate::output::{Row, age};
use crate::session::Session;

/// Flags of `secrets mount`.
#[derive(Debug, Args)]
#[command(after_help = "\
The secret of --with lies in the vault and is a JSON object of the variables
that the store's own programs know, such as
  {\"VAULT_ADDR\": \"https://…\", \"VAULT_TOKEN\": \"…\"}

Examples:
  skep secrets create vault-login --from-file login.json
  skep secrets mount prod vault:secret/app --with vault-login
  skep secrets reveal prod/db/password --reason 'to see that it works'")]
pub(crate) struct MountArgs {
    /// Below which path its secrets are; nothing may be there yet
    path: String,
    /// Where it is: vault:MOUNT/PATH, aws:PREFIX, azure:NAME, gcp:PROJECT
    address: String,
    /// The secret with what opens it
    #[arg(long, value_name = "SECRET")]
    with: String,
    /// For how long it is not asked again for a secret, 0s to 24h [default: 1m]
    #[arg(long, value_name = "DURATION")]
    cache: Option<String>,
    /// For how long after that a value counts when it cannot be asked, 10s to 7d
    /// [default: 1h]
    #[arg(long, value_name = "DURATION")]
    stale: Option<String>,
}

/// A path that a store is mounted at.
#[derive(Debug, Args)]
pub(crate) struct PathArgs {
    /// The path, or `mnt_…`
    path: String,
}

impl Row for SecretMount {
    const HEADERS: &'static [&'static str] = &["PATH", "ADDRESS", "WITH", "CACHE", "STALE", "AGE"];

    fn name(&self) -> String {
        self.path.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.path.clone(),
            self.address.clone(),
            self.with.clone(),
            self.cache.clone(),
            self.stale.clone(),
            age(&self.created_at, now),
        ]
    }
}

async fn meant(client: &Client, path: &str) -> Result<SecretMount> {
    let all = client.secret_mounts().await?.items;
    let found = all.into_iter().find(|it| it.path == path || it.id == path);
    found.ok_or_else(|| {
        Failure::new(Exit::Failure, format!("nothing is mounted at `{path}`"))
            .hint("`skep secrets mounts` lists what is.")
    })
}

fn said(session: &Session, begin: &str, has: &MountedSecrets) -> Result {
    let mut said = format!("{begin}; {} secrets are known of it.", has.secrets);
    if has.secrets == 0 {
        said = format!("{begin}; what it has comes as it is used.");
    }
    if has.skipped > 0 {
        said.push_str(&format!(
            " {} can be none here: by their names, or because they are empty or too large.",
            has.skipped
        ));
    }
    session.output.done(has, &has.mount.path, &said)
}

pub(super) async fn mount(session: &Session, args: MountArgs) -> Result {
    let new = NewSecretMount {
        path: args.path,
        address: args.address,
        with: args.with,
        cache: args.cache,
        stale: args.stale,
    };
    let has = session.client()?.mount_secrets(&new).await?;
    let begin = format!("{} is mounted at {}", has.mount.address, has.mount.path);
    said(session, &begin, &has)
}

pub(super) async fn mounts(session: &Session) -> Result {
    let all = session.client()?.secret_mounts().await?;
    session.output.list(&all.items)
}

pub(super) async fn refresh(session: &Session, args: &PathArgs) -> Result {
    let client = session.client()?;
    let mount = meant(&client, &args.path).await?;
    let has = client.refresh_secrets(&mount.id).await?;
    said(session, &format!("{} was asked", mount.address), &has)
}

pub(super) async fn unmount(session: &Session, args: &PathArgs) -> Result {
    let client = session.client()?;
    let mount = meant(&client, &args.path).await?;
    session.confirm(&format!(
        "Unmount {}? Leases and shares of its secrets end.",
        mount.path
    ))?;
    client.unmount_secrets(&mount.id).await?;
    let path = mount.path;
    let said = format!("{path} is unmounted; in the store nothing has changed.");
    session.output.done(&json!({ "path": path }), &path, &said)
}
