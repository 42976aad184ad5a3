//! The keychain of who runs a command.

use skep_keepers::keychain::{self, Attended, KeychainError};
use zeroize::Zeroizing;

use crate::failure::{Exit, Failure, Result};
use crate::session::Session;

/// Whether somebody may be asked to unlock it.
const fn attended(session: &Session) -> Attended {
    match session.global.no_input {
        true => Attended::No,
        false => Attended::Yes,
    }
}

fn failed(error: &KeychainError) -> Failure {
    let detail = error.to_string();
    match error {
        KeychainError::Away(_) => Failure::plain(detail)
            .hint("Without a keychain keep it in a file that only you can read."),
        KeychainError::NoEntry(name) => Failure::new(Exit::Auth, detail).hint(format!(
            "`secret-tool store --label {name} service skep username {name}` makes one."
        )),
        KeychainError::Taken(_) => Failure::plain(detail).hint("Take another name."),
        KeychainError::Name(_) => Failure::usage(detail),
        KeychainError::NotBuilt => Failure::plain(detail),
    }
}

/// What an entry holds.
pub(crate) async fn get(session: &Session, entry: &str) -> Result<Zeroizing<String>> {
    let got = keychain::get(entry, attended(session)).await;
    got.map_err(|error| failed(&error))
}

/// Makes an entry.
pub(crate) async fn put(session: &Session, entry: &str, text: &str) -> Result {
    let put = keychain::put(entry, text, attended(session)).await;
    put.map_err(|error| failed(&error))
}

/// Whether the keychain has no such entry.
pub(crate) async fn is_free(session: &Session, entry: &str) -> Result<bool> {
    match keychain::get(entry, attended(session)).await {
        Ok(_) => Ok(false),
        Err(KeychainError::NoEntry(_)) => Ok(true),
        Err(error) => Err(failed(&error)),
    }
}

/// Checks that the keychain has no such entry.
pub(crate) async fn check_free(session: &Session, entry: &str) -> Result {
    match is_free(session, entry).await? {
        true => Ok(()),
        false => Err(failed(&KeychainError::Taken(entry.to_owned()))),
    }
}
