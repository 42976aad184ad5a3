//! Values as they come in and go out: never in a command's words.

use std::io::{self, IsTerminal, Read};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use skep_api::Revealed;
use zeroize::Zeroizing;

use super::ValueArgs;
use crate::cmd::account::password;
use crate::failure::{Failure, Result};
use crate::session::Session;

/// Bytes of a value; the server takes no more.
const MOST: u64 = 256 << 10;

/// A value in the form in which it is sent.
pub(super) struct Sent {
    pub(super) text: Option<String>,
    pub(super) base64: Option<String>,
    pub(super) generate: Option<String>,
}

fn all(mut from: impl Read, most: u64) -> Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(4_096));
    from.by_ref().take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(Failure::usage(format!(
            "a value has at most {} KiB",
            most >> 10
        ))),
        false => Ok(bytes),
    }
}

/// The bytes that are given: of a file, of the standard input, or of who is asked.
pub(in crate::cmd) fn given(
    session: &Session,
    from_file: Option<&Path>,
    most: u64,
) -> Result<Zeroizing<Vec<u8>>> {
    let mut bytes = match from_file {
        Some(path) if path == Path::new("-") => all(io::stdin().lock(), most)?,
        Some(path) => {
            let file = std::fs::File::open(path).map_err(|error| {
                Failure::usage(format!("{} cannot be read: {error}", path.display()))
            })?;
            all(file, most)?
        }
        None if !io::stdin().is_terminal() && !session.global.no_input => {
            all(io::stdin().lock(), most)?
        }
        None => Zeroizing::new(password(session, None, "Value")?.into_bytes()),
    };
    // What a pipe ends with is the line's, not the value's.
    let piped = from_file.is_none_or(|path| path == Path::new("-"));
    if piped && bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok(bytes)
}

/// Reads the value that is meant.
pub(super) fn read(session: &Session, args: &ValueArgs) -> Result<Sent> {
    if let Some(kind) = &args.generate {
        return Ok(Sent {
            text: None,
            base64: None,
            generate: Some(kind.clone()),
        });
    }
    let bytes = given(session, args.from_file.as_deref(), MOST)?;
    if bytes.is_empty() {
        return Err(Failure::usage("the value is empty")
            .hint("Pipe it in, name a file with --from-file, or use --generate."));
    }
    let text = std::str::from_utf8(&bytes).ok().map(str::to_owned);
    let base64 = text.is_none().then(|| STANDARD.encode(&bytes[..]));
    Ok(Sent {
        text,
        base64,
        generate: None,
    })
}

/// The bytes of a value that was shown.
pub(super) fn bytes(shown: &Revealed) -> Result<Zeroizing<Vec<u8>>> {
    match (&shown.value, &shown.value_base64) {
        (Some(text), _) => Ok(Zeroizing::new(text.as_bytes().to_vec())),
        (None, Some(base64)) => {
            let bytes = STANDARD.decode(base64).map_err(anyhow::Error::from)?;
            Ok(Zeroizing::new(bytes))
        }
        (None, None) => Ok(Zeroizing::default()),
    }
}
