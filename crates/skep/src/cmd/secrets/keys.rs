//! What opens what is elsewhere: age identities, from where SOPS looks for them, too, and other stores of secrets.

use std::path::{Path, PathBuf};

use skep_crypto::age::Identity;
use skep_sources::{Source, SourceError};
use zeroize::Zeroizing;

use super::value::given;
use crate::failure::{Failure, Result};
use crate::session::Session;

/// Bytes of a file of identities.
const MOST: u64 = 64 << 10;

fn of_text(text: &[u8], of: &str) -> Result<Vec<Identity>> {
    let wrong = || {
        Failure::plain(format!("{of}: it holds no identity of age"))
            .hint("`age-keygen -o FILE` makes one: AGE-SECRET-KEY-1…")
    };
    let text = std::str::from_utf8(text).map_err(|_| wrong())?;
    Identity::parse_all(text).map_err(|_| wrong())
}

/// The identities of these files; without any, those that SOPS would take.
pub(super) fn identities(session: &Session, files: &[PathBuf]) -> Result<Vec<Identity>> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let mut found = Vec::new();
    let mut read = |path: &Path| -> Result {
        let bytes = given(session, Some(path), MOST)?;
        found.extend(of_text(&bytes, &path.display().to_string())?);
        Ok(())
    };
    for path in files {
        read(path)?;
    }
    if !files.is_empty() {
        return Ok(found);
    }
    if let Some(path) = variable("SOPS_AGE_KEY_FILE") {
        read(Path::new(&path))?;
    }
    let home = variable("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = home.or_else(|| variable("HOME").map(|home| Path::new(&home).join(".config")));
    let usual = home.map(|home| home.join("sops/age/keys.txt"));
    if let Some(path) = usual.filter(|path| path.is_file()) {
        read(&path)?;
    }
    if let Some(text) = variable("SOPS_AGE_KEY") {
        let text = Zeroizing::new(text.into_encoded_bytes());
        found.extend(of_text(&text, "SOPS_AGE_KEY")?);
    }
    Ok(found)
}

/// What a store says.
pub(super) fn told(address: &str, error: &SourceError) -> Failure {
    let failure = Failure::plain(format!("{address}: {error}"));
    match error {
        SourceError::There(_) => failure
            .hint("--on-conflict replace gives them new values, --on-conflict skip leaves them."),
        SourceError::Changed(_) | SourceError::Partly { .. } => failure.hint(
            "Look at what is there, and do it again: what is written already stays as it is.",
        ),
        SourceError::Refused {
            status: 401 | 403, ..
        } => failure.hint("The token or key is wrong there, or may not do this."),
        SourceError::Network { .. } | SourceError::Late(_) => {
            failure.hint("Is its address right, and can it be reached from here?")
        }
        _ => failure,
    }
}

/// The store of secrets at an address, when it is one.
pub(super) fn store(address: &str) -> Result<Option<Source>> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    Source::of(address, &variable, None).map_err(|error| told(address, &error))
}
