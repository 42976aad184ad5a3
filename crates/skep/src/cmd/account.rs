//! The person at the keyboard: log in and out, who one is, sessions, password, second factor.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::json;
use skep_api::{
    ConfirmSecondFactor, LoggedIn, Login, Me, NewPassword, Password, ProvenLogin, Session as Entry,
};
use skep_client::ClientError;
use skep_core::Timestamp;

use super::sso;
use crate::failure::{Failure, Result};
use crate::output::{Row, age};
use crate::session::Session;

/// Bytes that a file with a password has at most.
const MOST_FILE: u64 = 4_096;

/// Flags of `login`.
#[derive(Debug, Args)]
#[command(after_help = "\
The session is kept for this server in a file of the user's configuration
folder that nobody else may read, and is used from then on instead of a key,
until `skep logout`.

With --sso a browser logs in at a provider that the server is configured with,
on this machine or another, and shows a code to type in here.

Examples:
  skep login ada@example.com
  skep login --sso
  skep --server https://skep.example login ada@example.com --workspace red")]
pub(crate) struct LoginArgs {
    /// The e-mail address
    #[arg(required_unless_present = "sso")]
    email: Option<String>,
    /// Log in at a provider, by a browser [default: the only one]
    #[arg(long, value_name = "PROVIDER", num_args = 0..=1, default_missing_value = "",
        conflicts_with_all = ["email", "password_file", "code"])]
    sso: Option<String>,
    /// A file with the password; `-` is the standard input [default: asked]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The authenticator's code [default: asked when it is wanted]
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
}

/// Flags of `logout`.
#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    /// End all sessions, on other machines too
    #[arg(long)]
    all: bool,
}

/// What to do with one's own account.
#[derive(Debug, Subcommand)]
pub(crate) enum AccountVerb {
    /// List one's sessions
    Sessions,
    /// End one of one's sessions
    End(EndArgs),
    /// Take another password; all other sessions end
    Password(PasswordArgs),
    /// List one's accounts at providers
    Links,
    /// Come in by an account at a provider from now on
    Link(sso::LinkArgs),
    /// Come in by an account no more
    Unlink(sso::UnlinkArgs),
    /// Want an authenticator's code at each login
    SecondFactor(FactorArgs),
    /// Want no code any more
    DropSecondFactor(FactorArgs),
}

/// Flags of `account end`.
#[derive(Debug, Args)]
pub(crate) struct EndArgs {
    /// The session, `ses_…`
    id: String,
}

/// Flags of `account password`.
#[derive(Debug, Args)]
pub(crate) struct PasswordArgs {
    /// A file with the old password [default: asked]
    #[arg(long, value_name = "FILE")]
    old_file: Option<PathBuf>,
    /// A file with the new password [default: asked]
    #[arg(long, value_name = "FILE")]
    new_file: Option<PathBuf>,
}

/// Flags of `account second-factor`.
#[derive(Debug, Args)]
pub(crate) struct FactorArgs {
    /// A file with the password; `-` is the standard input [default: asked]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl Row for Entry {
    const HEADERS: &'static [&'static str] = &["ID", "FROM", "WITH", "AGE", "LAST USE", ""];

    fn name(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let agent: String = self.agent.chars().take(24).collect();
        let this = if self.current { "this one" } else { "" };
        vec![
            self.id.clone(),
            self.remote.clone(),
            agent,
            age(&self.created_at, now),
            age(&self.used_at, now),
            this.to_owned(),
        ]
    }
}

/// A password from a file, or from the terminal without showing it.
pub(crate) fn password(session: &Session, file: Option<&Path>, what: &str) -> Result<String> {
    let read = match file {
        Some(path) if path == Path::new("-") => {
            let mut text = String::new();
            io::stdin()
                .lock()
                .take(MOST_FILE)
                .read_to_string(&mut text)?;
            text
        }
        Some(path) => {
            let mut text = String::new();
            let file = std::fs::File::open(path).map_err(|error| {
                Failure::usage(format!("{} cannot be read: {error}", path.display()))
            })?;
            file.take(MOST_FILE).read_to_string(&mut text)?;
            text
        }
        None => asked(session, what)?,
    };
    Ok(read.trim_end_matches(['\r', '\n']).to_owned())
}

fn asked(session: &Session, what: &str) -> Result<String> {
    if session.global.no_input || !io::stdin().is_terminal() {
        return Err(
            Failure::usage(format!("{what} is wanted, and nobody is there to ask"))
                .hint("Name a file with it, or `-` for the standard input."),
        );
    }
    let before = tcgetattr(io::stdin()).map_err(io::Error::from)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    // Before it asks: what is typed from then on is neither shown nor lost.
    tcsetattr(io::stdin(), OptionalActions::Flush, &silent).map_err(io::Error::from)?;
    let mut line = String::new();
    let shown = write!(io::stderr(), "{what}: ");
    let read = shown.and_then(|()| io::stdin().lock().read_line(&mut line));
    let restored = tcsetattr(io::stdin(), OptionalActions::Flush, &before);
    writeln!(io::stderr())?;
    read?;
    restored.map_err(io::Error::from)?;
    Ok(line)
}

/// A code from the terminal.
fn code(session: &Session) -> Result<String> {
    if session.global.no_input || !io::stdin().is_terminal() {
        return Err(
            Failure::usage("a code of the authenticator is wanted").hint("Pass it with --code.")
        );
    }
    write!(io::stderr(), "Code of the authenticator: ")?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

pub(crate) async fn login(session: &Session, args: LoginArgs) -> Result {
    let client = session.keyless_client(None, std::time::Duration::from_secs(60))?;
    if let Some(provider) = &args.sso {
        let proof = sso::prove(session, &client, Some(provider)).await?;
        let workspace = session.global.workspace.clone();
        let begun = client
            .login_proven(&ProvenLogin { proof, workspace })
            .await?;
        return logged_in(session, begun);
    }
    let mut wish = Login {
        email: args.email.unwrap_or_default(),
        password: password(session, args.password_file.as_deref(), "Password")?,
        code: args.code,
        workspace: session.global.workspace.clone(),
        token: true,
    };
    let begun = match client.login(&wish).await {
        Err(ClientError::Problem { problem, .. }) if problem.code == "second-factor-needed" => {
            wish.code = Some(code(session)?);
            client.login(&wish).await?
        }
        other => other?,
    };
    logged_in(session, begun)
}

/// Keeps the session that has begun.
fn logged_in(session: &Session, begun: LoggedIn) -> Result {
    let token = begun.token.unwrap_or_default();
    let path = session.keep_login(&token)?;
    let Me {
        workspace, role, ..
    } = &begun.me;
    let role = role.as_deref().unwrap_or("nobody");
    let said = format!(
        "Logged in to {workspace} as {role}; kept in {}.",
        path.display()
    );
    session.output.done(&begun.me, &begun.me.id, &said)
}

pub(crate) async fn logout(session: &Session, args: LogoutArgs) -> Result {
    let which = (!args.all).then_some("current");
    let ended = session.client()?.end_session(which).await;
    session.forget_login()?;
    match ended {
        // One that has ended by itself is gone as well.
        Err(ClientError::Problem { problem, .. }) if problem.code == "unauthorized" => {}
        other => other?,
    }
    let said = "Logged out.";
    session
        .output
        .done(&json!({ "logged_out": true }), "", said)
}

pub(crate) async fn whoami(session: &Session) -> Result {
    let me = session.client()?.me().await?;
    let mut parts = vec![("kind", me.kind.clone()), ("id", me.id.clone())];
    parts.extend(me.email.iter().map(|email| ("email", email.clone())));
    parts.push(("workspace", me.workspace.clone()));
    parts.extend(me.role.iter().map(|role| ("role", role.clone())));
    if !me.scopes.is_empty() {
        parts.push(("scopes", me.scopes.join(",")));
    }
    let lines: Vec<String> = parts
        .iter()
        .map(|(name, value)| format!("{name:<10} {value}"))
        .collect();
    session.output.done(&me, &me.id, &lines.join("\n"))
}

pub(crate) async fn run(session: &Session, verb: AccountVerb) -> Result {
    let client = session.client()?;
    match verb {
        AccountVerb::Sessions => session.output.list(&client.sessions().await?.items),
        AccountVerb::End(EndArgs { id }) => {
            client.end_session(Some(&id)).await?;
            let said = format!("{id} has ended.");
            session.output.done(&json!({ "ended": id }), &id, &said)
        }
        AccountVerb::Password(args) => {
            let wish = NewPassword {
                old: password(session, args.old_file.as_deref(), "Old password")?,
                new: password(session, args.new_file.as_deref(), "New password")?,
            };
            client.change_password(&wish).await?;
            let said = "The new password counts; all other sessions have ended.";
            session.output.done(&json!({ "changed": true }), "", said)
        }
        AccountVerb::Links => sso::links(session).await,
        AccountVerb::Link(args) => sso::link(session, args).await,
        AccountVerb::Unlink(args) => sso::unlink(session, args).await,
        AccountVerb::SecondFactor(args) => {
            let password = password(session, args.password_file.as_deref(), "Password")?;
            let made = client.second_factor().await?;
            session.output.note(&format!(
                "Put this into the authenticator:\n  {}\n  {}",
                made.secret, made.uri
            ));
            let wish = ConfirmSecondFactor {
                code: code(session)?,
                secret: made.secret,
                password,
            };
            let codes = client.confirm_second_factor(&wish).await?.codes;
            session.output.note(
                "A code is wanted from now on. Each of these counts once instead of it; keep them:",
            );
            session
                .output
                .raw(format!("{}\n", codes.join("\n")).as_bytes())
        }
        AccountVerb::DropSecondFactor(args) => {
            let password = password(session, args.password_file.as_deref(), "Password")?;
            client.drop_second_factor(&Password { password }).await?;
            let said = "No code is wanted any more.";
            session.output.done(&json!({ "dropped": true }), "", said)
        }
    }
}
