//! Who shows a key, and where the first one is kept.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use skep_core::units::Rate;
use skep_core::{Workspace, Workspaces};
use skep_guard::Principal;
use skep_guard::identity::SESSION_PREFIX;
use skep_guard::keys::{CONFIGURATION, KeyError, Keys, NewKey, PREFIX, new_text, read_file};
use skep_guard::tokens::PREFIX as TOKEN_PREFIX;
use skep_store::{By, Db};

use crate::ServerError;

/// Where the first key is kept for the CLI, in the data folder.
const FILE: &str = "admin.key";
/// What the first key is called.
const FIRST: &str = "admin";

/// Makes another key like the first one in a store that no server has, and keeps it where the first
/// is kept: for a store that came here without it.
///
/// # Errors
/// [`ServerError`].
pub(crate) async fn new_admin_key(db: &Db) -> Result<(), ServerError> {
    let keys = Keys::open(db.clone(), Workspaces::default(), Vec::new()).await?;
    make(db, &keys, &By::nobody()).await.map(drop)
}

/// Makes a key, keeps it in its file and then in the store.
async fn make(db: &Db, keys: &Keys, by: &By) -> Result<String, ServerError> {
    let failed = |error: KeyError| match error {
        KeyError::Store(error) => error.into(),
        other => ServerError::Random(other.to_string()),
    };
    let text = new_text().map_err(failed)?;
    // The file first: after a crash in between there is still no key, and another is made.
    keep(&db.folder().join(FILE), &text)?;
    let workspace = Workspace::default();
    let made = keys.first(by, &workspace, FIRST, text.clone());
    made.await.map_err(failed)?;
    Ok(text)
}

/// The text of a key that is in no store.
///
/// # Errors
/// [`ServerError::Random`].
pub fn new_key_text() -> Result<String, ServerError> {
    new_text().map_err(|error| ServerError::Random(error.to_string()))
}

/// The keys of the store and of a file; the first one is made when there is none, and told.
pub(crate) async fn open(
    db: &Db,
    file: Option<&Path>,
    by: &By,
    workspaces: &Workspaces,
) -> Result<(Keys, Option<String>), ServerError> {
    let given = match file {
        Some(file) => read_given(file)?,
        None => Vec::new(),
    };
    let keys = Keys::open(db.clone(), workspaces.clone(), given).await?;
    // One of the configuration alone could not make another.
    if keys
        .list(&Workspace::default())
        .iter()
        .any(|key| key.created_by != CONFIGURATION)
    {
        return Ok((keys, None));
    }
    let first = make(db, &keys, by).await?;
    Ok((keys, Some(first)))
}

/// The keys of the configuration's file, which nobody else may read.
fn read_given(path: &Path) -> Result<Vec<(NewKey, String)>, ServerError> {
    let failed = |reason: String| ServerError::Keys {
        path: path.to_owned(),
        reason,
    };
    let about = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    if about.permissions().mode() & 0o077 != 0 {
        return Err(failed("others may read it; `chmod 600` it".to_owned()));
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    read_file(&text).map_err(failed)
}

/// The credential by which a request is known.
pub(crate) fn shown(headers: &HeaderMap) -> Option<&str> {
    match headers.get(skep_api::HEADER_API_KEY) {
        Some(value) => value.to_str().ok(),
        None => headers.get(AUTHORIZATION).and_then(bearer),
    }
}

/// Whether a request shows a credential of ours, valid or not.
pub(crate) fn shows_any(headers: &HeaderMap, is_ours: impl Fn(&str) -> bool) -> bool {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    headers.contains_key(skep_api::HEADER_API_KEY) || values.any(|it| has_ours(it, &is_ours))
}

/// Who sends this request. Every credential of ours is taken out of the headers, so that no agent sees
/// one; an `Authorization` that is not ours stays, for the agent. `is_ours` knows tokens of others that
/// are for Skep.
pub(crate) fn authenticate(
    find: impl Fn(&str) -> Option<(Principal, Option<Rate>)>,
    is_ours: impl Fn(&str) -> bool,
    headers: &mut HeaderMap,
) -> Credential {
    let look = |text: &str| match text {
        text if text.starts_with(SESSION_PREFIX) => Credential::Session(text.to_owned()),
        text if text.starts_with(TOKEN_PREFIX) => Credential::Token(text.to_owned()),
        text => match find(text) {
            Some((principal, rate)) => Credential::Key(principal, rate),
            None => Credential::Nothing,
        },
    };
    let bearer = headers.get(AUTHORIZATION).and_then(bearer);
    let of_bearer = bearer.map_or(Credential::Nothing, look);
    let ours = !matches!(of_bearer, Credential::Nothing);
    take_out(headers, ours, is_ours);
    match headers.remove(skep_api::HEADER_API_KEY) {
        Some(value) => value.to_str().map_or(Credential::Nothing, look),
        None => of_bearer,
    }
}

/// What somebody shows.
#[derive(Debug)]
pub(crate) enum Credential {
    /// A key that counts, and how often it may be used.
    Key(Principal, Option<Rate>),
    /// An agent's token, which may count.
    Token(String),
    /// The text of a session, which may count.
    Session(String),
    /// Nothing that is ours.
    Nothing,
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// Whether a credential of ours, valid or not, stands anywhere in an `Authorization`.
fn has_ours(value: &HeaderValue, is_ours: impl Fn(&str) -> bool) -> bool {
    value
        .as_bytes()
        .split(|byte| byte.is_ascii_whitespace() || b",;:=\"'".contains(byte))
        .any(|word| {
            let text = || std::str::from_utf8(word).is_ok_and(&is_ours);
            word.starts_with(PREFIX.as_bytes()) || text()
        })
}

/// Leaves the `Authorization` of an agent's own.
fn take_out(headers: &mut HeaderMap, first_is_ours: bool, is_ours: impl Fn(&str) -> bool) {
    let has_key = |value: &HeaderValue| has_ours(value, &is_ours);
    let values = headers.get_all(AUTHORIZATION);
    if !first_is_ours && !values.iter().any(&has_key) {
        return;
    }
    let others = values.iter().skip(usize::from(first_is_ours));
    let others: Vec<_> = others.filter(|value| !has_key(value)).cloned().collect();
    headers.remove(AUTHORIZATION);
    for value in others {
        headers.append(AUTHORIZATION, value);
    }
}

/// Keeps a secret in a file for the server's user alone, which takes the place of one that is there.
fn keep(path: &Path, key: &str) -> Result<(), ServerError> {
    write(path, key, |new| std::fs::rename(new, path))
}

/// As [`keep`], unless there is a file: then it stays, and this is false.
pub(crate) fn keep_new(path: &Path, key: &str) -> Result<bool, ServerError> {
    let mut kept = true;
    write(path, key, |new| {
        let linked = std::fs::hard_link(new, path);
        std::fs::remove_file(new)?;
        match linked {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                kept = false;
                Ok(())
            }
            linked => linked,
        }
    })?;
    Ok(kept)
}

/// Writes a secret so that its file is whole or not there, and for its owner only.
fn write(
    path: &Path,
    key: &str,
    place: impl FnOnce(&Path) -> std::io::Result<()>,
) -> Result<(), ServerError> {
    let failed = |error: std::io::Error| ServerError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let written = || -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        writeln!(file, "{key}")?;
        file.sync_all()?;
        place(&new)?;
        path.parent()
            .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    written().map_err(failed)
}

#[cfg(test)]
mod tests {
    use skep_guard::{PrincipalKind, Scopes};

    use super::*;

    /// Finds the one key that is right.
    fn find(text: &str) -> Option<(Principal, Option<Rate>)> {
        let principal = Principal {
            kind: PrincipalKind::ApiKey,
            id: "key".into(),
            workspace: Workspace::default(),
            role: None,
            scopes: Scopes::all(),
        };
        (text == "skep_right").then_some((principal, None))
    }

    fn authenticate(headers: &mut HeaderMap) -> Option<Principal> {
        let is_ours = |text: &str| text == "ey.of.others";
        match super::authenticate(find, is_ours, headers) {
            Credential::Key(principal, _) => Some(principal),
            _ => None,
        }
    }

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn a_right_key_is_taken_out() {
        for (name, value) in [
            ("authorization", "bearer skep_right"),
            ("skep-api-key", "skep_right"),
        ] {
            let mut headers = headers(name, value);
            assert!(authenticate(&mut headers).is_some());
            assert!(headers.is_empty());
        }
    }

    #[test]
    fn the_agents_own_authorization_stays() {
        let mut both = headers("authorization", "Bearer agents-own");
        both.insert("skep-api-key", HeaderValue::from_static("skep_right"));
        assert!(authenticate(&mut both).is_some());
        assert_eq!(both, headers("authorization", "Bearer agents-own"));
    }

    #[test]
    fn no_key_of_ours_stays_beside_another() {
        for value in [
            "Bearer skep_right",
            "bearer  skep_other",
            "skep_right",
            "Digest username=\"skep_other\"",
        ] {
            let mut both = headers("authorization", value);
            both.append(AUTHORIZATION, HeaderValue::from_static("Bearer agents-own"));
            both.insert("skep-api-key", HeaderValue::from_static("skep_right"));
            assert!(authenticate(&mut both).is_some(), "{value}");
            assert_eq!(both, headers("authorization", "Bearer agents-own"));
        }
        // A wrong key is not mended by a right one beside it, and goes too.
        let mut both = headers("authorization", "Bearer skep_right");
        both.insert("skep-api-key", HeaderValue::from_static("skep_wrong"));
        assert!(authenticate(&mut both).is_none());
        assert!(both.is_empty());
    }

    #[test]
    fn a_session_is_shown_as_a_key_is_and_taken_out() {
        for (name, value) in [
            ("authorization", "Bearer skep_session_x"),
            ("skep-api-key", "skep_session_x"),
        ] {
            let mut headers = headers(name, value);
            let shown = super::authenticate(find, |_| false, &mut headers);
            assert!(matches!(shown, Credential::Session(text) if text == "skep_session_x"));
            assert!(headers.is_empty());
        }
    }

    #[test]
    fn a_token_for_us_goes_whoever_is_known() {
        let mut both = headers("authorization", "Bearer ey.of.others");
        both.append(
            AUTHORIZATION,
            HeaderValue::from_static("Bearer ey.of.agents"),
        );
        both.insert("skep-api-key", HeaderValue::from_static("skep_right"));
        assert!(authenticate(&mut both).is_some());
        assert_eq!(both, headers("authorization", "Bearer ey.of.agents"));
    }

    #[test]
    fn wrong_keys_are_nobody() {
        for (name, value) in [
            ("authorization", "Bearer skep_wrong"),
            ("authorization", "Basic skep_right"),
            ("authorization", "skep_right"),
            ("skep-api-key", ""),
            ("x-api-key", "skep_right"),
        ] {
            assert!(
                authenticate(&mut headers(name, value)).is_none(),
                "{name}: {value}"
            );
        }
    }
}
