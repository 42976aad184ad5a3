//! The ways into the vault that the configuration names: tried at the start, by order, and again in the background
//! when a keychain, a token or a KMS was not there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use skep_core::config::Settings;
use skep_crypto::passphrase::Passphrase;
use skep_keepers::keychain::{self, Attended, KeychainError};
use skep_keepers::{Keeper, KeeperError};
use skep_store::{By, Db};
use skep_vault::seal::{Opening, SealKey, SealKind};
use skep_vault::{Vault, VaultError};
use zeroize::Zeroizing;

use crate::ServerError;
use crate::keys::keep_new;

/// The key file in the data folder.
const FILE: &str = "seal.key";
/// What the first seal is called when the start makes it.
const FIRST: &str = "server";
/// How long the start waits for a way that is slow; it is tried on in the background.
const AT_START: Duration = Duration::from_secs(5);
/// When it is tried again at first, and at most so long later.
const SOON: Duration = Duration::from_secs(5);
const LATE: Duration = Duration::from_secs(60);

/// A way in.
#[derive(Debug)]
enum Way {
    /// What opens it is at hand, or with a keeper.
    Given(Opening),
    /// An entry of the keychain.
    Keychain(String),
    /// A key file, which need not be there.
    File(PathBuf),
}

/// What trying them came to.
pub(crate) enum Tried {
    /// It is open.
    Open,
    /// It stays sealed, or nobody has set it up.
    Sealed(VaultError),
}

/// What is known of the last try.
#[derive(Debug, Default)]
struct Last {
    why: Option<String>,
    again: Option<Instant>,
    pause: Duration,
    /// The ways that said no, by their places: they are asked again by order only.
    refused: BTreeMap<usize, KeeperError>,
}

/// The ways in.
pub(crate) struct Ways {
    all: Vec<Way>,
    /// Whether a key may be made when nobody has set the vault up.
    auto: bool,
    /// In whose name it is set up.
    by: By,
    last: Mutex<Last>,
    /// Who tries them; one after the other.
    turn: tokio::sync::Mutex<()>,
}

/// What went wrong with one way.
enum Failed {
    /// The server cannot go on: a file is unreadable, or the store.
    Server(ServerError),
    /// This way is none now.
    Way(KeeperError),
}

fn wrong(key: &'static str, reason: &dyn std::fmt::Display) -> ServerError {
    ServerError::Seal {
        key,
        reason: reason.to_string(),
    }
}

fn of_file(path: &Path) -> Result<Option<Opening>, ServerError> {
    let failed = |reason: String| ServerError::File {
        path: path.to_owned(),
        reason,
    };
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let text = Zeroizing::new(text);
            let key = SealKey::new(&text).map_err(|error| failed(error.to_string()))?;
            Ok(Some(Opening::Key(key)))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// The key of a token that the configuration names.
fn token(settings: &Settings) -> Result<Option<Arc<dyn Keeper>>, ServerError> {
    let Some(key) = &settings.seal_pkcs11 else {
        return Ok(None);
    };
    let unset = "name the token's module, such as /usr/lib/softhsm/libsofthsm2.so";
    let module = settings.seal_pkcs11_module.as_ref();
    let module = module.ok_or_else(|| wrong("seal.pkcs11_module", &unset))?;
    let pin = settings.seal_pkcs11_pin.as_ref();
    let pin = pin.map(|pin| Zeroizing::new(pin.reveal().trim().to_owned()));
    let keeper = skep_keepers::pkcs11(module, key, pin);
    keeper
        .map(Some)
        .map_err(|error| wrong("seal.pkcs11", &error))
}

/// The vault of a store, with the ways into it, open if one of them opens it.
pub(crate) async fn vault(
    db: &Db,
    settings: &Settings,
    by: &By,
) -> Result<(Vault, Ways), ServerError> {
    let vault = Vault::new(db.clone());
    let ways = Ways::new(settings, db.folder(), by.clone())?;
    ways.start(&vault).await?;
    Ok((vault, ways))
}

impl Ways {
    /// Those of the configuration, the most special first.
    fn new(settings: &Settings, folder: &Path, by: By) -> Result<Self, ServerError> {
        let mut all = Vec::new();
        if let Some(text) = &settings.seal_key {
            let key = SealKey::new(text.reveal()).map_err(|error| wrong("seal.key", &error))?;
            all.push(Way::Given(Opening::Key(key)));
        }
        if let Some(text) = &settings.seal_passphrase {
            let passphrase = Passphrase::new(text.reveal());
            let passphrase = passphrase.map_err(|error| wrong("seal.passphrase", &error))?;
            all.push(Way::Given(Opening::Passphrase(passphrase)));
        }
        let keeper = |keeper| Way::Given(Opening::Keeper(keeper));
        all.extend(token(settings)?.map(keeper));
        if let Some(address) = &settings.seal_kms {
            let kms = skep_keepers::kms(address).map_err(|error| wrong("seal.kms", &error))?;
            all.push(keeper(kms));
        }
        all.extend(settings.seal_keychain.clone().map(Way::Keychain));
        let file = settings.seal_file.clone();
        all.push(Way::File(file.unwrap_or_else(|| folder.join(FILE))));
        Ok(Self {
            all,
            auto: settings.seal_auto,
            by,
            last: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// The keeper of a kind that the configuration names.
    pub(crate) fn keeper(&self, kind: SealKind) -> Option<Opening> {
        self.all.iter().find_map(|way| match way {
            Way::Given(opening @ Opening::Keeper(_)) if opening.kind() == kind => {
                Some(opening.clone())
            }
            _ => None,
        })
    }

    /// Opens the vault when the server starts, or leaves it sealed and says so.
    async fn start(&self, vault: &Vault) -> Result<(), ServerError> {
        match tokio::time::timeout(AT_START, self.open(vault)).await {
            Ok(tried) => tried.map(drop),
            Err(_) => {
                let seconds = AT_START.as_secs();
                let why = format!("no answer within {seconds} s");
                tracing::warn!("the vault stays sealed for now: {why}");
                self.note(Some(why), true);
                Ok(())
            }
        }
    }

    /// Tries each way until one opens the vault. What nobody has set up is set up with the first of them.
    pub(crate) async fn open(&self, vault: &Vault) -> Result<Tried, ServerError> {
        let _turn = self.turn.lock().await;
        let is_set_up = vault.is_set_up().await.map_err(failed)?;
        let mut said: Vec<String> = Vec::new();
        let (mut again, mut last) = (false, VaultError::WrongOpening);
        for (at, way) in self.all.iter().enumerate() {
            // A no is not asked for again by itself: one more wrong PIN may lock a token.
            let refused = self.last.lock().refused.get(&at).cloned();
            if let Some(error) = refused {
                said.push(error.to_string());
                last = error.into();
                match is_set_up {
                    true => continue,
                    false => break,
                }
            }
            let error = match self.one(way, is_set_up, vault).await {
                Ok(true) => {
                    self.rest();
                    return Ok(Tried::Open);
                }
                Ok(false) if is_set_up => continue,
                // What is named first sets it up, or nothing does: another would be a way in that nobody wants.
                Ok(false) => break,
                Err(Failed::Server(error)) => {
                    self.note(Some(error.to_string()), true);
                    return Err(error);
                }
                Err(Failed::Way(error)) => error,
            };
            again |= error.is_passing();
            if !error.is_passing() {
                self.last.lock().refused.insert(at, error.clone());
            }
            said.push(error.to_string());
            last = error.into();
            if !is_set_up {
                break;
            }
        }
        let why = match (said.is_empty(), is_set_up) {
            (false, _) => said.join("; "),
            (true, true) => "the configuration has nothing that opens it".to_owned(),
            (true, false) => String::new(),
        };
        self.tell(&why, is_set_up);
        self.note((!why.is_empty()).then_some(why), again);
        Ok(Tried::Sealed(last))
    }

    /// Says why it is sealed, once.
    fn tell(&self, why: &str, is_set_up: bool) {
        let is_new = self.last.lock().why.as_deref() != Some(why);
        match (is_set_up, why.is_empty()) {
            _ if !is_new => {}
            (true, _) => tracing::warn!("the vault stays sealed: {why}"),
            (false, false) => tracing::warn!("the vault cannot be set up: {why}"),
            (false, true) => {
                tracing::info!("nobody has set the vault up; `skep vault seals add` does");
            }
        }
    }

    /// Whether one way opens the vault.
    async fn one(&self, way: &Way, is_set_up: bool, vault: &Vault) -> Result<bool, Failed> {
        let may_make = self.auto && !is_set_up;
        let opening = match way {
            Way::Given(opening) => Some(opening.clone()),
            Way::Keychain(name) => Some(of_keychain(name, may_make).await?),
            Way::File(path) => {
                if may_make {
                    let key = SealKey::random().map_err(|it| Failed::Server(failed(it)))?;
                    // The file first: what it opens is made only when it is safe.
                    let kept = keep_new(path, &format!("{}\n", key.text()));
                    kept.map_err(Failed::Server)?;
                }
                of_file(path).map_err(Failed::Server)?
            }
        };
        let Some(opening) = opening else {
            return Ok(false);
        };
        let done = match is_set_up {
            true => vault.unseal(opening).await,
            false => vault.set_up(&self.by, opening, FIRST).await,
        };
        match done {
            Ok(()) => Ok(true),
            Err(VaultError::WrongOpening) => Ok(false),
            Err(VaultError::Keeper(error)) => Err(Failed::Way(error)),
            Err(error) => Err(Failed::Server(failed(error))),
        }
    }

    fn note(&self, why: Option<String>, again: bool) {
        let mut last = self.last.lock();
        last.why = why;
        last.pause = (last.pause * 2).clamp(SOON, LATE);
        last.again = again.then(|| Instant::now() + last.pause);
    }

    /// Whether it is time to try again what was not there.
    pub(crate) fn is_due(&self) -> bool {
        let again = self.last.lock().again;
        again.is_some_and(|at| at <= Instant::now())
    }

    /// Asks those again that said no: somebody orders it.
    pub(crate) fn forgive(&self) {
        self.last.lock().refused.clear();
    }

    /// Waits until nobody tries.
    pub(crate) async fn settled(&self) {
        drop(self.turn.lock().await);
    }

    /// Tries nothing again: it is open, or somebody sealed it.
    pub(crate) fn rest(&self) {
        *self.last.lock() = Last::default();
    }

    /// Why it is sealed, and whether that is tried again.
    pub(crate) fn why(&self) -> Option<String> {
        let last = self.last.lock();
        let why = last.why.clone()?;
        Some(match last.again {
            Some(_) => format!("{why}; it is tried again by itself"),
            None => why,
        })
    }
}

fn failed(error: VaultError) -> ServerError {
    match error {
        VaultError::Store(error) => ServerError::from(error),
        other => wrong("seal", &other),
    }
}

/// The key in an entry of the keychain, which is made when it may.
async fn of_keychain(name: &str, may_make: bool) -> Result<Opening, Failed> {
    let away = |error: KeychainError| {
        let said = error.to_string();
        Failed::Way(match error.is_passing() {
            true => KeeperError::Away(said),
            false => KeeperError::Refused(said),
        })
    };
    let text = match keychain::get(name, Attended::No).await {
        Err(KeychainError::NoEntry(_)) if may_make => {
            let key = SealKey::random().map_err(|it| Failed::Server(failed(it)))?;
            // The keychain first: what it opens is made only when it is safe.
            let put = keychain::put(name, key.text(), Attended::No).await;
            put.map_err(away)?;
            return Ok(Opening::Key(key));
        }
        text => text.map_err(away)?,
    };
    let key = SealKey::new(&text).map_err(|error| {
        let said = format!("the keychain's entry `{name}` is no seal key: {error}");
        Failed::Way(KeeperError::Refused(said))
    })?;
    Ok(Opening::Key(key))
}
