//! The body of a request in the user's editor.

use std::io::{IsTerminal, Write};

use bytes::Bytes;
use tokio::process::Command;

use crate::failure::{Exit, Failure, Result};
use crate::session::Session;

const OTHERWISE: &str = "vi";

/// Fails early where nobody can edit.
pub(super) fn must_be_possible(session: &Session) -> Result {
    let seen = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if session.global.no_input || !seen {
        return Err(Failure::usage("--edit needs a terminal")
            .hint("Give the body with `-d BODY` or `-d @FILE`."));
    }
    Ok(())
}

/// What the user made of the body.
pub(super) async fn edited(body: &Bytes) -> Result<Bytes> {
    if std::str::from_utf8(body).is_err() {
        return Err(
            Failure::usage("the body is no text, which an editor could change")
                .hint("Give another with `-d @FILE`."),
        );
    }
    let suffix = match serde_json::from_slice::<serde::de::IgnoredAny>(body) {
        Ok(_) => ".json",
        Err(_) => ".txt",
    };
    let mut builder = tempfile::Builder::new();
    let mut file = builder.prefix("skep-replay-").suffix(suffix).tempfile()?;
    file.write_all(body)?;
    file.flush()?;
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR"));
    let editor = editor.unwrap_or_else(|| OTHERWISE.into());
    // The variable may hold arguments; the shell splits them, as others do.
    let mut command = std::ffi::OsString::from("exec ");
    command.push(&editor);
    command.push(" \"$1\"");
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).arg("sh").arg(file.path());
    let status = shell.status().await?;
    if !status.success() {
        let detail = format!(
            "the editor `{}` ended with {status}",
            editor.to_string_lossy()
        );
        return Err(Failure::new(Exit::Cancelled, detail)
            .hint("Nothing was sent. Set EDITOR to another one."));
    }
    // Editors put a new file in the place of the old one.
    let changed = Bytes::from(std::fs::read(file.path())?);
    match changed == body {
        true => Err(Failure::new(
            Exit::Cancelled,
            "the body was not changed: nothing was sent",
        )
        .hint("Without --edit it is sent as it was.")),
        false => Ok(changed),
    }
}
