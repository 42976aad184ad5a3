//! Who may do what with a secret: shares, wishes for them, leases.

use clap::Args;
use serde_json::json;
use skep_api::{NewSecretRequest, NewSecretShare, SecretLease, SecretRequest, SecretShare};
use skep_core::Timestamp;

use super::SecretsVerb;
use crate::failure::Result;
use crate::output::{Row, age};
use crate::session::Session;

/// Flags of `secrets share`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep secrets share billing/stripe agent:billing use
  skep secrets share db/password user:usr_01… reveal --for 2h")]
pub(crate) struct ShareArgs {
    /// The secret
    name: String,
    /// Who: `agent:NAME`, `user:usr_…`, `key:key_…`
    holder: String,
    /// What they may
    #[arg(value_parser = ["use", "reveal", "write"])]
    may: String,
    /// For how long, such as 30d [default: without an end]
    #[arg(long = "for", value_name = "DURATION")]
    lasts: Option<String>,
}

/// Flags of `secrets unshare`.
#[derive(Debug, Args)]
pub(crate) struct UnshareArgs {
    /// The secret
    name: String,
    /// Who
    holder: String,
    /// What they may not any more
    #[arg(value_parser = ["use", "reveal", "write"])]
    may: String,
}

/// Flags of `secrets request`.
#[derive(Debug, Args)]
pub(crate) struct RequestArgs {
    /// The secret
    name: String,
    /// What you want to do
    #[arg(value_parser = ["use", "reveal", "write"])]
    may: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// For how long
    #[arg(long = "for", value_name = "DURATION", default_value = "1h")]
    lasts: String,
}

/// Flags of `secrets requests`.
#[derive(Debug, Args)]
pub(crate) struct RequestsArgs {
    /// Those in this state
    #[arg(long, value_name = "STATE", default_value = "waiting",
        value_parser = ["waiting", "approved", "denied", "withdrawn"])]
    state: String,
}

/// A wish.
#[derive(Debug, Args)]
pub(crate) struct DecideArgs {
    /// The wish, `acr_…`
    id: String,
}

/// Flags of `secrets release`.
#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// The secret
    name: String,
    /// The lease, `lse_…`
    lease: String,
}

impl Row for SecretShare {
    const HEADERS: &'static [&'static str] = &["HOLDER", "MAY", "AGE", "BY", "ENDS"];

    fn name(&self) -> String {
        self.holder.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.holder.clone(),
            self.may.clone(),
            age(&self.created_at, now),
            self.created_by.clone(),
            self.expires_at.clone().unwrap_or_default(),
        ]
    }
}

impl Row for SecretRequest {
    const HEADERS: &'static [&'static str] = &["ID", "SECRET", "HOLDER", "MAY", "FOR", "REASON"];

    fn name(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![
            self.id.clone(),
            self.secret.clone(),
            self.holder.clone(),
            self.may.clone(),
            self.lasts.clone(),
            self.reason.clone(),
        ]
    }
}

impl Row for SecretLease {
    const HEADERS: &'static [&'static str] = &["ID", "HOLDER", "AGE", "ENDS", "HANGS ON"];

    fn name(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.clone(),
            self.holder.clone(),
            age(&self.created_at, now),
            self.expires_at.clone(),
            self.parent.clone().unwrap_or_default(),
        ]
    }
}

pub(super) async fn run(session: &Session, verb: SecretsVerb) -> Result {
    let client = session.client()?;
    let output = &session.output;
    match verb {
        SecretsVerb::Shares(args) => output.list(&client.secret_shares(&args.name).await?.items),
        SecretsVerb::Share(args) => {
            let new = NewSecretShare {
                holder: args.holder,
                may: args.may,
                lasts: args.lasts,
            };
            let made = client.share_secret(&args.name, &new).await?;
            let until = made.expires_at.as_ref().map(|end| format!(" until {end}"));
            let until = until.unwrap_or_default();
            let said = format!("{} may {} {}{until}.", made.holder, made.may, args.name);
            output.done(&made, &made.holder, &said)
        }
        SecretsVerb::Unshare(UnshareArgs { name, holder, may }) => {
            client.unshare_secret(&name, &holder, &may).await?;
            let said = format!("{holder} may not {may} {name} any more.");
            output.done(&json!({ "holder": holder, "may": may }), &holder, &said)
        }
        SecretsVerb::Request(args) => {
            let new = NewSecretRequest {
                may: args.may,
                lasts: args.lasts,
                reason: args.reason,
            };
            let made = client.ask_for_secret(&args.name, &new).await?;
            let said = format!("{} waits for a yes.", made.id);
            output.done(&made, &made.id, &said)
        }
        SecretsVerb::Requests(args) => {
            let all = client.secret_requests(Some(&args.state)).await?;
            output.list(&all.items)
        }
        SecretsVerb::Approve(args) => {
            let made = client.decide_request(&args.id, true).await?;
            let said = format!("{} may {} it for {}.", made.holder, made.may, made.lasts);
            output.done(&made, &made.id, &said)
        }
        SecretsVerb::Deny(args) => {
            let made = client.decide_request(&args.id, false).await?;
            output.done(&made, &made.id, &format!("{} is denied.", made.id))
        }
        SecretsVerb::Withdraw(args) => {
            let made = client.withdraw_request(&args.id).await?;
            output.done(&made, &made.id, &format!("{} is withdrawn.", made.id))
        }
        SecretsVerb::Leases(args) => output.list(&client.secret_leases(&args.name).await?.items),
        SecretsVerb::Release(ReleaseArgs { name, lease }) => {
            let ended = client.release_lease(&name, &lease).await?;
            let said = format!("{} leases of {name} have ended.", ended.ended);
            output.done(&ended, &lease, &said)
        }
        // The others are done where they are said.
        _ => Ok(()),
    }
}
