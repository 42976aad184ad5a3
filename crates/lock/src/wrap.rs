//! Recipients: who gets which keys, wrapped for one alone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use skep_crypto::age::{Identity, Recipient as AgeRecipient};
use skep_crypto::passphrase::{Passphrase, Recipe, Rounds};
use skep_crypto::signing::SigningKey;
use skep_crypto::{CryptoError, Key};
use zeroize::Zeroizing;

use crate::form::{decode, decode_array};
use crate::{Lock, LockError, May, Opens, Recipient};

const KEY: usize = 32;
/// What begins the keys of one who opens everything, and of one who opens some layers.
const ALL: u8 = 0;
const SOME: u8 = 1;

/// What a file is opened with.
#[derive(Debug, Clone)]
pub enum Secret {
    /// A passphrase.
    Passphrase(Passphrase),
    /// An identity of age.
    Age(Identity),
}

/// How a key is made of a passphrase.
#[derive(Debug, Clone, Copy)]
pub enum Kdf {
    /// Argon2id.
    Argon2id(Recipe),
    /// PBKDF2-HMAC-SHA-256.
    Pbkdf2(Rounds),
}

/// For whom keys are wrapped.
#[derive(Debug, Clone)]
pub enum To {
    /// Who knows a passphrase.
    Passphrase(Passphrase, Kdf),
    /// Who has the identity of this recipient of age.
    Age(AgeRecipient),
}

/// What somebody has.
#[derive(Clone)]
pub(crate) struct Grant {
    pub(crate) keys: Keys,
    /// The key to write with, for who may.
    pub(crate) write: Option<SigningKey>,
}

/// The keys that open layers.
#[derive(Clone)]
pub(crate) enum Keys {
    /// The root, of which all others are made.
    Root(Key),
    /// The key of the header's check, and those of some layers.
    Some(Key, Vec<(String, Key)>),
}

impl Keys {
    /// The keys for a recipient of these layers. Only the root gives keys away.
    fn of(lock: &Lock, root: &Key, layers: Option<&[String]>) -> Result<Self, CryptoError> {
        let Some(layers) = layers else {
            return Ok(Self::Root(root.clone()));
        };
        let keys = layers.iter().map(|layer| {
            let key = root.derive(&lock.layer_purpose(layer))?;
            Ok((layer.clone(), key))
        });
        let mac = root.derive(&lock.mac_purpose())?;
        Ok(Self::Some(mac, keys.collect::<Result<_, CryptoError>>()?))
    }

    pub(crate) fn mac(&self, lock: &Lock) -> Result<Key, CryptoError> {
        match self {
            Self::Root(root) => root.derive(&lock.mac_purpose()),
            Self::Some(mac, _) => Ok(mac.clone()),
        }
    }

    pub(crate) fn layer(&self, lock: &Lock, layer: &str) -> Result<Key, LockError> {
        match self {
            Self::Root(root) => Ok(root.derive(&lock.layer_purpose(layer))?),
            Self::Some(_, keys) => {
                let key = keys.iter().find(|(name, _)| name == layer);
                let key = key.map(|(_, key)| key.clone());
                key.ok_or_else(|| LockError::NotGiven(layer.to_owned()))
            }
        }
    }
}

impl Grant {
    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut keys: Vec<&Key> = match &self.keys {
            Keys::Root(root) => vec![root],
            Keys::Some(mac, keys) => [mac]
                .into_iter()
                .chain(keys.iter().map(|(_, key)| key))
                .collect(),
        };
        keys.extend(self.write.as_ref().map(SigningKey::to_key));
        let mut bytes = Zeroizing::new(Vec::with_capacity(1 + KEY * keys.len()));
        bytes.push(match self.keys {
            Keys::Root(_) => ALL,
            Keys::Some(..) => SOME,
        });
        for key in keys {
            bytes.extend_from_slice(key.expose());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8], recipient: &Recipient) -> Option<Self> {
        let (kind, keys) = bytes.split_first()?;
        let mut keys = keys.chunks(KEY).map(|chunk| {
            let mut key = Zeroizing::new([0; KEY]);
            let fits = chunk.len() == KEY;
            fits.then(|| {
                key.copy_from_slice(chunk);
                Key::from_bytes(*key)
            })
        });
        let first = keys.next()??;
        let mut rest: Vec<Key> = keys.collect::<Option<_>>()?;
        let write = match recipient.writes() {
            true => Some(SigningKey::from_key(rest.pop()?)),
            false => None,
        };
        let keys = match (*kind, &recipient.layers) {
            (ALL, None) if rest.is_empty() => Keys::Root(first),
            (SOME, Some(layers)) if rest.len() == layers.len() => {
                let named = layers.iter().cloned().zip(rest);
                Keys::Some(first, named.collect())
            }
            _ => return None,
        };
        Some(Self { keys, write })
    }
}

impl Lock {
    fn layer_purpose(&self, layer: &str) -> String {
        let (id, epoch) = (&self.agent.id, self.root_epoch);
        format!("skep agent.lock v2 layer\0{layer}\0{id}\0{epoch}")
    }

    fn mac_purpose(&self) -> String {
        let (id, epoch) = (&self.agent.id, self.root_epoch);
        format!("skep agent.lock v2 mac\0{id}\0{epoch}")
    }

    fn wrap_context(&self, recipient: &str) -> Vec<u8> {
        let (id, epoch) = (&self.agent.id, self.root_epoch);
        format!("skep agent.lock v2 recipient\0{recipient}\0{id}\0{epoch}").into_bytes()
    }

    /// A recipient with its keys.
    pub(crate) fn wrap(
        &self,
        (root, write): (&Key, &SigningKey),
        name: &str,
        (layers, may): (Option<&[String]>, Option<May>),
        to: &To,
    ) -> Result<Recipient, LockError> {
        let grant = Grant {
            keys: Keys::of(self, root, layers)?,
            write: may.is_none().then(|| write.clone()),
        };
        let grant = grant.to_bytes();
        let sealed = |key: Result<Key, CryptoError>| key?.seal(&self.wrap_context(name), &grant);
        let (opens, wrapped) = match to {
            To::Passphrase(passphrase, Kdf::Argon2id(recipe)) => {
                let opens = Opens::Argon2id {
                    memory_kib: recipe.memory_kib,
                    passes: recipe.passes,
                    lanes: recipe.lanes,
                    salt: STANDARD.encode(recipe.salt),
                };
                (opens, sealed(recipe.key(passphrase))?)
            }
            To::Passphrase(passphrase, Kdf::Pbkdf2(rounds)) => {
                let opens = Opens::Pbkdf2 {
                    rounds: rounds.rounds,
                    salt: STANDARD.encode(rounds.salt),
                };
                (opens, sealed(rounds.key(passphrase))?)
            }
            To::Age(recipient) => {
                let opens = Opens::Age {
                    recipient: recipient.to_string(),
                };
                (opens, recipient.seal(&grant)?)
            }
        };
        Ok(Recipient {
            name: name.to_owned(),
            opens,
            layers: layers.map(<[String]>::to_vec),
            may,
            wrapped: STANDARD.encode(wrapped),
        })
    }

    /// The keys of a recipient, if this secret is its own.
    pub(crate) fn unwrap(&self, place: usize, secret: &Secret) -> Result<Option<Grant>, LockError> {
        let recipient = &self.recipients[place];
        let here = || self.place_of_recipient(place);
        let wrapped = decode(here(), &recipient.wrapped)?;
        let opened = match (&recipient.opens, secret) {
            (Opens::Age { recipient }, Secret::Age(identity)) => {
                if identity.recipient()?.to_string() != *recipient {
                    return Ok(None);
                }
                // It is this one's, so that any failure is damage.
                let opened = identity.open(&wrapped);
                opened.map_err(|_| LockError::Wrapped(here()))?
            }
            (Opens::Age { .. }, _) | (_, Secret::Age(_)) => return Ok(None),
            (_, Secret::Passphrase(passphrase)) => {
                let key = self.kdf(place)?.key(passphrase)?;
                match key.open(&self.wrap_context(&recipient.name), &wrapped) {
                    Ok(opened) => opened,
                    Err(CryptoError::WrongKey) => return Ok(None),
                    Err(_) => return Err(LockError::Wrapped(here())),
                }
            }
        };
        let grant = Grant::from_bytes(&opened, recipient);
        grant.map(Some).ok_or_else(|| LockError::Wrapped(here()))
    }

    /// How the key of a recipient with a passphrase is made.
    pub(crate) fn kdf(&self, place: usize) -> Result<Kdf, LockError> {
        let here = || self.place_of_recipient(place);
        match &self.recipients[place].opens {
            Opens::Argon2id {
                memory_kib,
                passes,
                lanes,
                salt,
            } => Ok(Kdf::Argon2id(Recipe {
                memory_kib: *memory_kib,
                passes: *passes,
                lanes: *lanes,
                salt: decode_array(format!("{}, salt", here()), salt)?,
            })),
            Opens::Pbkdf2 { rounds, salt } => Ok(Kdf::Pbkdf2(Rounds {
                rounds: *rounds,
                salt: decode_array(format!("{}, salt", here()), salt)?,
            })),
            Opens::Age { .. } => Err(LockError::NoSuchKind("a passphrase")),
        }
    }
}

impl Kdf {
    fn key(&self, passphrase: &Passphrase) -> Result<Key, CryptoError> {
        match self {
            Self::Argon2id(recipe) => recipe.key(passphrase),
            Self::Pbkdf2(rounds) => rounds.key(passphrase),
        }
    }

    pub(crate) fn is_accepted(&self) -> bool {
        match self {
            Self::Argon2id(recipe) => recipe.is_accepted(),
            Self::Pbkdf2(rounds) => rounds.is_accepted(),
        }
    }

    /// The same with a new salt.
    pub(crate) fn again(self) -> Result<Self, CryptoError> {
        let salt = skep_crypto::random()?;
        Ok(match self {
            Self::Argon2id(recipe) => Self::Argon2id(Recipe { salt, ..recipe }),
            Self::Pbkdf2(rounds) => Self::Pbkdf2(Rounds { salt, ..rounds }),
        })
    }
}
