//! People of the workspace, and invitations to it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use skep_api::{AcceptInvitation, Invitation, NewInvitation, NewRole, User};
use skep_core::Timestamp;

use super::account::password;
use super::sso;
use crate::failure::Result;
use crate::output::{Format, Row, age};
use crate::session::Session;

const ROLES: [&str; 4] = ["viewer", "member", "admin", "owner"];

/// What to do with people.
#[derive(Debug, Subcommand)]
pub(crate) enum UsersVerb {
    /// List the people of the workspace
    #[command(visible_alias = "ls")]
    List,
    /// Invite somebody and print what they have to show; nobody can print it again
    Invite(InviteArgs),
    /// List the open invitations
    Invitations,
    /// Take an invitation back
    Withdraw(WithdrawArgs),
    /// Take an invitation: make an account, or show that there is one
    Join(JoinArgs),
    /// Give somebody another role
    Role(RoleArgs),
    /// Take somebody out of the workspace
    #[command(visible_alias = "rm")]
    Remove(RemoveArgs),
}

/// Flags of `users invite`.
#[derive(Debug, Args)]
#[command(after_help = "\
Skep sends no mail: hand the printed text over. It counts once, for this
address only.

Examples:
  skep users invite ada@example.com --role member
  skep users join --name Ada        # what Ada does with it")]
pub(crate) struct InviteArgs {
    /// Their e-mail address
    email: String,
    /// What they may do at most
    #[arg(long, value_name = "ROLE", default_value = "member", value_parser = ROLES)]
    role: String,
    /// For how long it counts
    #[arg(long, value_name = "DURATION", default_value = "7d")]
    expires: String,
}

/// Flags of `users withdraw`.
#[derive(Debug, Args)]
pub(crate) struct WithdrawArgs {
    /// The invitation, `inv_…`
    id: String,
}

/// Flags of `users join`.
#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    /// A file with the invitation's text [default: asked]
    #[arg(long, value_name = "FILE")]
    invitation_file: Option<PathBuf>,
    /// What people call you; not needed with an account
    #[arg(long, value_name = "NAME", default_value = "")]
    name: String,
    /// A file with the password [default: asked]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Take it with an account at a provider instead of a password [default: the only one]
    #[arg(long, value_name = "PROVIDER", num_args = 0..=1, default_missing_value = "",
        conflicts_with = "password_file")]
    sso: Option<String>,
}

/// Flags of `users role`.
#[derive(Debug, Args)]
pub(crate) struct RoleArgs {
    /// Who, `usr_…` or their address
    user: String,
    /// What they may do at most
    #[arg(value_parser = ROLES)]
    role: String,
}

/// Flags of `users remove`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// Who, `usr_…` or their address
    user: String,
}

impl Row for User {
    const HEADERS: &'static [&'static str] = &["ID", "EMAIL", "NAME", "ROLE", "2ND FACTOR", "AGE"];

    fn name(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.clone(),
            self.email.clone(),
            self.name.clone(),
            self.role.clone(),
            if self.second_factor { "yes" } else { "no" }.to_owned(),
            age(&self.since, now),
        ]
    }
}

impl Row for Invitation {
    const HEADERS: &'static [&'static str] = &["ID", "EMAIL", "ROLE", "BY", "AGE", "ENDS"];

    fn name(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let day = self.expires_at.split('T').next().unwrap_or_default();
        vec![
            self.id.clone(),
            self.email.clone(),
            self.role.clone(),
            self.invited_by.clone(),
            age(&self.created_at, now),
            day.to_owned(),
        ]
    }
}

/// The id of somebody who is named by it or by their address.
async fn id(session: &Session, who: &str) -> Result<String> {
    if !who.contains('@') {
        return Ok(who.to_owned());
    }
    let email = who.trim().to_lowercase();
    let all = session.client()?.users().await?.items;
    let found = all.into_iter().find(|user| user.email == email);
    // One whom nobody knows is told by the server.
    Ok(found.map_or_else(|| who.to_owned(), |user| user.id))
}

pub(crate) async fn run(session: &Session, verb: UsersVerb) -> Result {
    let output = &session.output;
    match verb {
        UsersVerb::List => output.list(&session.client()?.users().await?.items),
        UsersVerb::Invitations => output.list(&session.client()?.invitations().await?.items),
        UsersVerb::Invite(args) => invite(session, args).await,
        UsersVerb::Join(args) => join(session, args).await,
        UsersVerb::Withdraw(WithdrawArgs { id }) => {
            session.client()?.withdraw_invitation(&id).await?;
            let said = format!("{id} does not count any more.");
            output.done(&json!({ "withdrawn": id }), &id, &said)
        }
        UsersVerb::Role(RoleArgs { user, role }) => {
            let id = id(session, &user).await?;
            let wish = NewRole { role: role.clone() };
            session.client()?.set_role(&id, &wish).await?;
            let said = format!("{user} has the role {role} now.");
            output.done(&json!({ "user": id, "role": role }), &id, &said)
        }
        UsersVerb::Remove(RemoveArgs { user }) => {
            session.confirm(&format!("Take {user} out of the workspace?"))?;
            let id = id(session, &user).await?;
            session.client()?.remove_user(&id).await?;
            let said = format!("{user} is not in the workspace any more.");
            output.done(&json!({ "removed": id }), &id, &said)
        }
    }
}

async fn invite(session: &Session, args: InviteArgs) -> Result {
    let wish = NewInvitation {
        email: args.email,
        role: args.role,
        expires_in: Some(args.expires),
    };
    let made = session.client()?.invite(&wish).await?;
    match session.output.format {
        Format::Table | Format::Html | Format::Name => {
            let Invitation {
                email,
                workspace,
                role,
                ..
            } = &made.invitation;
            session.output.note(&format!(
                "For {email}, to join {workspace} as {role} with `skep users join`. It is not told again."
            ));
            let line = format!("{}\n", made.secret);
            session.output.raw(line.as_bytes())
        }
        Format::Json | Format::Yaml => session.output.document(&made),
    }
}

async fn join(session: &Session, args: JoinArgs) -> Result {
    let client = session.keyless_client(None, Duration::from_secs(60))?;
    let invitation = args.invitation_file.as_deref();
    let mut wish = AcceptInvitation {
        secret: password(session, invitation, "Invitation")?,
        name: args.name,
        password: String::new(),
        proof: None,
    };
    match &args.sso {
        Some(provider) => {
            let proof = sso::prove(session, &client, Some(provider)).await?;
            wish.proof = Some(proof);
        }
        None => wish.password = password(session, args.password_file.as_deref(), "Password")?,
    }
    let user = client.accept_invitation(&wish).await?;
    let how = match &args.sso {
        Some(provider) => format!("--sso {provider}"),
        None => user.email.clone(),
    };
    let said = format!(
        "{} is in, as {}. Go on with `skep login {}`.",
        user.name,
        user.role,
        how.trim_end()
    );
    session.output.done(&user, &user.id, &said)
}
