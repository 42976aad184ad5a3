//! Logging in at a provider by a browser, on this machine or any other: the browser shows a code at its end, which
//! counts only with what this program keeps to itself. Nobody who is sent a link logs anybody else in by it: the
//! code has to be brought here.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use serde_json::json;
use sha2::{Digest, Sha256};
use skep_api::{DropLink, Link, NewLink, Proof};
use skep_client::{Client, ClientError};
use skep_core::Timestamp;

use super::account::password;
use crate::failure::{Failure, Result};
use crate::output::{Row, age};
use crate::session::Session;

/// Flags of `account link`.
#[derive(Debug, Args)]
pub(crate) struct LinkArgs {
    /// The provider [default: the only one]
    provider: Option<String>,
    /// A file with the password, when the login is not fresh; `-` is the standard input [default: asked]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// Flags of `account unlink`.
#[derive(Debug, Args)]
pub(crate) struct UnlinkArgs {
    /// The link, `lnk_…`
    id: String,
    /// A file with the password, when the login is not fresh; `-` is the standard input [default: asked]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl Row for Link {
    const HEADERS: &'static [&'static str] = &["ID", "PROVIDER", "EMAIL", "AGE", "LAST USE"];

    fn name(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let provider = self.provider.as_ref().unwrap_or(&self.issuer);
        vec![
            self.id.clone(),
            provider.clone(),
            self.email.clone().unwrap_or_default(),
            age(&self.created_at, now),
            age(&self.used_at, now),
        ]
    }
}

/// Where a login at a provider begins: at the one that is named, else the only one.
async fn door(client: &Client, named: Option<&str>) -> Result<String> {
    let all = client.providers().await?.items;
    let names: Vec<&str> = all.iter().map(|it| it.name.as_str()).collect();
    let there = match names.is_empty() {
        true => "There is none: `auth.providers` names the file that says so.".to_owned(),
        false => format!("There are: {}.", names.join(", ")),
    };
    let found = match named.filter(|name| !name.is_empty()) {
        Some(name) => all.iter().find(|it| it.name == name),
        None => all.first().filter(|_| all.len() == 1),
    };
    let found = found.ok_or_else(|| {
        let said = named.filter(|name| !name.is_empty());
        let said = said.map_or_else(
            || "it has to be said which provider is meant".to_owned(),
            |name| format!("there is no provider `{name}`"),
        );
        Failure::usage(said).hint(there)
    })?;
    Ok(found.login.clone())
}

/// Lets a browser log in at a provider, and asks for the code that it shows then.
pub(crate) async fn prove(
    session: &Session,
    client: &Client,
    provider: Option<&str>,
) -> Result<Proof> {
    let door = door(client, provider).await?;
    let secret = skep_crypto::random::<32>()
        .map_err(|error| Failure::new(crate::failure::Exit::Failure, error.to_string()))?;
    let verifier = URL_SAFE_NO_PAD.encode(secret);
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
    if session.global.no_input {
        return Err(Failure::usage(
            "a browser logs in, and nobody is there to bring its code",
        ));
    }
    let mut err = io::stderr();
    writeln!(
        err,
        "Open this in a browser, on any machine, and log in there:\n\n  {door}?challenge={challenge}\n"
    )?;
    write!(err, "The code that it shows then: ")?;
    let mut code = String::new();
    io::stdin().lock().read_line(&mut code)?;
    if !io::stdin().is_terminal() {
        writeln!(err)?;
    }
    let code = code.trim().to_owned();
    match code.is_empty() {
        true => Err(Failure::usage("there is no code")),
        false => Ok(Proof { verifier, code }),
    }
}

/// Does something that may want the password; asks for it when it does.
async fn with_password<T>(
    session: &Session,
    file: Option<&Path>,
    mut what: impl AsyncFnMut(Option<String>) -> std::result::Result<T, ClientError>,
) -> Result<T> {
    if file.is_none() {
        match what(None).await {
            Err(ClientError::Problem { problem, .. }) if problem.code == "not-fresh" => {}
            other => return Ok(other?),
        }
    }
    let password = password(session, file, "Password")?;
    Ok(what(Some(password)).await?)
}

pub(crate) async fn links(session: &Session) -> Result {
    session.output.list(&session.client()?.links().await?.items)
}

pub(crate) async fn link(session: &Session, args: LinkArgs) -> Result {
    let client = session.client()?;
    let proof = prove(session, &client, args.provider.as_deref()).await?;
    let made = with_password(session, args.password_file.as_deref(), async |password| {
        let proof = proof.clone();
        client.link(&NewLink { proof, password }).await
    });
    let made = made.await?;
    let of = made.provider.as_ref().unwrap_or(&made.issuer);
    let said = format!("`skep login --sso {of}` lets you in from now on.");
    session.output.done(&made, &made.id, &said)
}

pub(crate) async fn unlink(session: &Session, args: UnlinkArgs) -> Result {
    let client = session.client()?;
    let dropped = with_password(session, args.password_file.as_deref(), async |password| {
        client.unlink(&args.id, &DropLink { password }).await
    });
    dropped.await?;
    let id = &args.id;
    let said = format!("{id} is gone, and the sessions that began by it.");
    session.output.done(&json!({ "dropped": id }), id, &said)
}
