//! The keychain of the desktop: the Secret Service of freedesktop.org over D-Bus (GNOME Keyring, KWallet,
//! KeePassXC). Machines without a desktop have none, and everything else works without it.
//!
//! An entry has the attributes `service=skep` and `username=NAME`, so that
//! `secret-tool store --label NAME service skep username NAME` makes one and others' programs find it.

use std::time::Duration;

use zeroize::Zeroizing;

use crate::wait::Asked;

/// Characters of an entry's name.
const MOST_NAME: usize = 200;
/// How long a keychain may take that asks nobody.
const ANSWER: Duration = Duration::from_secs(8);
/// How long somebody may take who is asked to unlock it.
const PERSON: Duration = Duration::from_secs(90);

/// Whether somebody is there who may be asked to unlock it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attended {
    /// Somebody is at the desktop.
    Yes,
    /// A server asks: a locked keychain stays locked.
    No,
}

/// Why a keychain does not give or take anything. None says anything of what is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeychainError {
    /// There is none, or it does not answer, or it is locked: later it may.
    #[error("the keychain: {0}")]
    Away(String),
    /// There is no such entry.
    #[error("the keychain has no entry `{0}`")]
    NoEntry(String),
    /// There is one already.
    #[error("the keychain has an entry `{0}` already")]
    Taken(String),
    /// It is no name.
    #[error("`{0}` is no name of an entry: write 1 to {MOST_NAME} characters")]
    Name(String),
    /// It was left out of this program.
    #[error("this program was built without keychains: build it with `--features keychain`")]
    NotBuilt,
}

impl KeychainError {
    /// Whether the same may succeed later by itself.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Away(_))
    }
}

/// What an entry holds.
///
/// # Errors
/// [`KeychainError::NoEntry`], [`KeychainError::Away`].
pub async fn get(name: &str, attended: Attended) -> Result<Zeroizing<String>, KeychainError> {
    let (own, limit) = (checked(name)?, limit(attended));
    ask(limit, move || service::get(&own, attended)).await
}

/// Makes an entry.
///
/// # Errors
/// [`KeychainError::Taken`], [`KeychainError::Away`].
pub async fn put(name: &str, text: &str, attended: Attended) -> Result<(), KeychainError> {
    let (own, limit) = (checked(name)?, limit(attended));
    let text = Zeroizing::new(text.to_owned());
    ask(limit, move || service::put(&own, &text, attended)).await
}

fn checked(name: &str) -> Result<String, KeychainError> {
    let count = name.chars().count();
    match (1..=MOST_NAME).contains(&count)
        && !name.chars().any(char::is_control)
        && !name.trim().is_empty()
    {
        true => Ok(name.to_owned()),
        false => Err(KeychainError::Name(name.chars().take(MOST_NAME).collect())),
    }
}

const fn limit(attended: Attended) -> Duration {
    match attended {
        Attended::Yes => PERSON,
        Attended::No => ANSWER,
    }
}

async fn ask<T: Send + 'static>(
    limit: Duration,
    question: impl FnOnce() -> Result<T, KeychainError> + Send + 'static,
) -> Result<T, KeychainError> {
    // There is one keychain for all of the program.
    static ASKED: std::sync::OnceLock<Asked> = std::sync::OnceLock::new();
    let asked = ASKED.get_or_init(Asked::default).clone();
    match asked.ask(limit, question).await {
        Ok(answer) => answer,
        Err(silent) => Err(KeychainError::Away(silent.told(limit))),
    }
}

#[cfg(not(feature = "keychain"))]
mod service {
    use zeroize::Zeroizing;

    use super::{Attended, KeychainError};

    pub(super) fn get(_: &str, _: Attended) -> Result<Zeroizing<String>, KeychainError> {
        Err(KeychainError::NotBuilt)
    }

    pub(super) fn put(_: &str, _: &str, _: Attended) -> Result<(), KeychainError> {
        Err(KeychainError::NotBuilt)
    }
}

#[cfg(feature = "keychain")]
mod service {
    use std::collections::HashMap;
    use std::path::Path;

    use dbus_secret_service::{EncryptionType, Error, Item, SecretService};
    use zeroize::Zeroizing;

    use super::{Attended, KeychainError, PERSON};

    /// The service that all entries are of.
    const SERVICE: &str = "skep";
    const NONE: &str = "there is no session bus (DBUS_SESSION_BUS_ADDRESS), which machines \
                        without a desktop do not have; keep the key in a file there";

    fn away(error: &Error) -> KeychainError {
        KeychainError::Away(match error {
            Error::Unavailable => "no program offers one on the session bus".to_owned(),
            Error::Locked | Error::Prompt => "it is locked: log in, or unlock it".to_owned(),
            Error::NoResult => "it has no default collection".to_owned(),
            Error::Dbus(error) => match error.name() {
                Some(
                    "org.freedesktop.DBus.Error.ServiceUnknown"
                    | "org.freedesktop.DBus.Error.Spawn.ServiceNotFound",
                ) => "no program offers one on the session bus".to_owned(),
                Some("org.freedesktop.Secret.Error.IsLocked") => {
                    "it is locked: log in, or unlock it".to_owned()
                }
                Some(name) => format!("D-Bus says {name}"),
                None => "D-Bus cannot be reached".to_owned(),
            },
            // What else it says could be of an entry.
            _ => "its answer is not understood".to_owned(),
        })
    }

    fn connect(attended: Attended) -> Result<SecretService, KeychainError> {
        let text = |name: &str| std::env::var_os(name).filter(|it| !it.is_empty());
        let runtime = text("XDG_RUNTIME_DIR").map(|it| Path::new(&it).join("bus"));
        let is_there =
            text("DBUS_SESSION_BUS_ADDRESS").is_some() || runtime.is_some_and(|path| path.exists());
        // libdbus would start a program to look for one.
        if !is_there {
            return Err(KeychainError::Away(NONE.to_owned()));
        }
        let seconds = match attended {
            Attended::Yes => PERSON.as_secs(),
            Attended::No => 0,
        };
        // The bus is the user's own; whoever listens there can ask the keychain itself.
        SecretService::connect_with_max_prompt_timeout(EncryptionType::Plain, seconds)
            .map_err(|error| away(&error))
    }

    /// The entry, unlocked.
    fn find<'a>(service: &'a SecretService, name: &str) -> Result<Option<Item<'a>>, KeychainError> {
        let attributes = HashMap::from([("service", SERVICE), ("username", name)]);
        let found = service.search_items(attributes);
        let mut found = found.map_err(|error| away(&error))?;
        if let Some(item) = found.unlocked.pop() {
            return Ok(Some(item));
        }
        let Some(item) = found.locked.pop() else {
            return Ok(None);
        };
        item.unlock().map_err(|error| away(&error))?;
        Ok(Some(item))
    }

    fn read(item: &Item<'_>) -> Result<Zeroizing<String>, KeychainError> {
        let bytes = item.get_secret().map_err(|error| away(&error))?;
        let bytes = Zeroizing::new(bytes);
        let text = std::str::from_utf8(&bytes);
        let text = text.map_err(|_| KeychainError::Away("the entry is no text".to_owned()))?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    pub(super) fn get(name: &str, attended: Attended) -> Result<Zeroizing<String>, KeychainError> {
        let service = connect(attended)?;
        match find(&service, name)? {
            Some(item) => read(&item),
            None => Err(KeychainError::NoEntry(name.to_owned())),
        }
    }

    pub(super) fn put(name: &str, text: &str, attended: Attended) -> Result<(), KeychainError> {
        let service = connect(attended)?;
        if find(&service, name)?.is_some() {
            return Err(KeychainError::Taken(name.to_owned()));
        }
        let attributes = HashMap::from([("service", SERVICE), ("username", name)]);
        // Not the collection of the session, which is gone with it.
        let collection = service.get_default_collection();
        let collection = collection.map_err(|error| away(&error))?;
        let unlocked = collection.ensure_unlocked();
        unlocked.map_err(|error| away(&error))?;
        let label = format!("Skep: {name}");
        let made = collection.create_item(&label, attributes, text.as_bytes(), false, "text/plain");
        let item = made.map_err(|error| away(&error))?;
        match read(&item)?.as_str() == text {
            true => Ok(()),
            false => Err(KeychainError::Away(
                "it gives something else back than it was given".to_owned(),
            )),
        }
    }
}

#[cfg(test)]
mod tests;
