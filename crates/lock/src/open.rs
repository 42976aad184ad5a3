//! A file that a key has opened: what is in its layers, and what can be changed.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use skep_crypto::signing::SigningKey;
use skep_crypto::{Key, same};

use crate::form::{decode, decode_array};
use crate::wrap::{Grant, Keys};
use crate::{
    Agent, Entries, LAST_EPOCH, Layer, Lock, LockError, May, Opens, Recipient, Secret, To, VERSION,
    entries, is_name,
};

/// A file that was checked with a key.
#[derive(Clone)]
pub struct Open {
    pub(crate) lock: Lock,
    pub(crate) grant: Grant,
    /// Who opened it.
    by: String,
    pub(crate) changed: bool,
}

impl Lock {
    /// Opens the file with a secret, as any of its recipients or as the one with this name, and checks all
    /// of it that the secret can check.
    ///
    /// # Errors
    /// [`LockError::WrongKey`] when the secret is nobody's here; others when the file was changed.
    pub fn open(&self, secret: &Secret, name: Option<&str>) -> Result<Open, LockError> {
        let (kind, of_kind): (_, fn(&Opens) -> bool) = match secret {
            Secret::Passphrase(_) => ("a passphrase", |it| !matches!(it, Opens::Age { .. })),
            Secret::Age(_) => ("an identity of age", |it| matches!(it, Opens::Age { .. })),
        };
        if let Some(name) = name
            && !self.recipients.iter().any(|it| it.name == name)
        {
            return Err(LockError::NoRecipient(name.to_owned()));
        }
        let mut tried = false;
        for (place, recipient) in self.recipients.iter().enumerate() {
            if !of_kind(&recipient.opens) || name.is_some_and(|it| it != recipient.name) {
                continue;
            }
            tried = true;
            if let Some(grant) = self.unwrap(place, secret)? {
                return self.opened(grant, &recipient.name);
            }
        }
        Err(match tried {
            true => LockError::WrongKey,
            false => LockError::NoSuchKind(kind),
        })
    }

    fn opened(&self, grant: Grant, by: &str) -> Result<Open, LockError> {
        let mac = grant
            .keys
            .mac(self)?
            .mac(Self::spelled(self.header()).as_bytes());
        if !same(&mac, &decode_array::<32>("mac".into(), &self.mac)?) {
            return Err(LockError::Mac);
        }
        let open = Open {
            lock: self.clone(),
            grant,
            by: by.to_owned(),
            changed: false,
        };
        for layer in self.layers() {
            match open.layer(&layer.name) {
                Ok(_) | Err(LockError::NotGiven(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(open)
    }

    fn layer_context(&self, layer: &str, epoch: u64) -> Vec<u8> {
        let id = &self.agent.id;
        format!("skep agent.lock v2 layer\0{layer}\0{id}\0{epoch}").into_bytes()
    }
}

impl Open {
    /// A new file for an agent, with its first recipient, who opens everything.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn create(agent: &str, recipient: &str, to: &To) -> Result<Self, LockError> {
        for name in [agent, recipient] {
            if !is_name(name) {
                return Err(LockError::Name(name.to_owned()));
            }
        }
        let id: [u8; 16] = skep_crypto::random()?;
        let (root, write) = (Key::random()?, SigningKey::generate()?);
        let mut lock = Lock {
            version: VERSION,
            agent: Agent {
                id: format!("{:032x}", u128::from_be_bytes(id)),
                name: agent.to_owned(),
            },
            epoch: 0,
            root_epoch: 1,
            recipients: Vec::new(),
            layers: Vec::new(),
            writers: Vec::new(),
            mac: String::new(),
            written: String::new(),
            signature: None,
        };
        lock.hand_over(None, &write)?;
        let keys = (&root, &write);
        lock.recipients
            .push(lock.wrap(keys, recipient, (None, None), to)?);
        Ok(Self {
            lock,
            grant: Grant {
                keys: Keys::Root(root),
                write: Some(write),
            },
            by: recipient.to_owned(),
            changed: true,
        })
    }

    /// The file as it was opened, and is changed since.
    #[must_use]
    pub const fn lock(&self) -> &Lock {
        &self.lock
    }

    /// The recipient whose key opened it.
    #[must_use]
    pub fn by(&self) -> &str {
        &self.by
    }

    /// Whether the key opens this layer, whether it is there or not.
    #[must_use]
    pub fn opens(&self, layer: &str) -> bool {
        self.grant.keys.layer(&self.lock, layer).is_ok()
    }

    /// Whether the key may write this layer.
    ///
    /// # Errors
    /// [`LockError::ReadOnly`], [`LockError::NotGiven`].
    pub fn may_write(&self, layer: &str) -> Result<(), LockError> {
        self.writer()?;
        self.grant.keys.layer(&self.lock, layer).map(drop)
    }

    /// What is in a layer.
    ///
    /// # Errors
    /// [`LockError::NoLayer`], [`LockError::NotGiven`], [`LockError::Damaged`], [`LockError::Content`].
    pub fn layer(&self, name: &str) -> Result<Entries, LockError> {
        let place = self.lock.layers.iter().position(|it| it.name == name);
        let place = place.ok_or_else(|| LockError::NoLayer(name.to_owned()))?;
        let layer = &self.lock.layers[place];
        let here = self.lock.place_of_layer(place);
        let sealed = decode(here.clone(), &layer.sealed)?;
        let key = self.grant.keys.layer(&self.lock, name)?;
        let context = self.lock.layer_context(name, layer.epoch);
        let opened = key.open(&context, &sealed);
        let opened = opened.map_err(|_| LockError::Damaged(here.clone()))?;
        entries::decode(&here, name, &opened)
    }

    /// A mark of a text that is the same for the same text and root, and tells nothing to who has no key.
    ///
    /// # Errors
    /// [`LockError::Crypto`].
    pub fn mark(&self, text: &str) -> Result<String, LockError> {
        let key = self
            .grant
            .keys
            .mac(&self.lock)?
            .derive("skep agent.lock v2 mark")?;
        let mac = key.mac(text.as_bytes());
        Ok(mac[..6].iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The epoch of what is written next.
    fn next(&self) -> Result<u64, LockError> {
        match self.lock.epoch {
            LAST_EPOCH => Err(LockError::TooMuch {
                what: "changes of a file",
                most: usize::try_from(LAST_EPOCH).unwrap_or(usize::MAX),
            }),
            epoch => Ok(epoch + 1),
        }
    }

    /// Writes a layer.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn put(&mut self, name: &str, entries: &Entries) -> Result<(), LockError> {
        if !is_name(name) {
            return Err(LockError::Name(name.to_owned()));
        }
        self.writer()?;
        let epoch = self.next()?;
        let plain = entries::encode(name, entries)?;
        let key = self.grant.keys.layer(&self.lock, name)?;
        let sealed = key.seal(&self.lock.layer_context(name, epoch), &plain)?;
        let layer = Layer {
            name: name.to_owned(),
            epoch,
            sealed: STANDARD.encode(sealed),
        };
        let layers = &mut self.lock.layers;
        match layers.binary_search_by(|it| it.name.as_str().cmp(name)) {
            Ok(place) => layers[place] = layer,
            Err(place) => layers.insert(place, layer),
        }
        self.changed = true;
        Ok(())
    }

    /// Takes a layer away.
    ///
    /// # Errors
    /// [`LockError::NoLayer`], [`LockError::NotGiven`].
    pub fn remove(&mut self, name: &str) -> Result<(), LockError> {
        self.writer()?;
        self.layer(name)?;
        self.lock.layers.retain(|it| it.name != name);
        self.changed = true;
        Ok(())
    }

    pub(crate) fn root(&self) -> Result<Key, LockError> {
        match &self.grant.keys {
            Keys::Root(root) => Ok(root.clone()),
            Keys::Some(..) => Err(LockError::NotAll),
        }
    }

    /// The key to write with.
    pub(crate) fn writer(&self) -> Result<&SigningKey, LockError> {
        let write = self.grant.write.as_ref();
        write.ok_or_else(|| LockError::ReadOnly(self.by.clone()))
    }

    /// Gives keys to one more: of every layer, or of these, to read and write or to read alone.
    ///
    /// # Errors
    /// [`LockError::NotAll`], [`LockError::ReadOnly`], [`LockError::Exists`], [`LockError::Name`], [`LockError::Crypto`].
    pub fn share(
        &mut self,
        name: &str,
        layers: Option<&[String]>,
        may: Option<May>,
        to: &To,
    ) -> Result<(), LockError> {
        let root = self.root()?;
        let write = self.writer()?.clone();
        let layers = layers.map(|layers| {
            let mut layers = layers.to_vec();
            layers.sort();
            layers.dedup();
            layers
        });
        let names = layers.iter().flatten().map(String::as_str);
        if let Some(wrong) = names.chain([name]).find(|it| !is_name(it)) {
            return Err(LockError::Name(wrong.to_owned()));
        }
        let recipients = &self.lock.recipients;
        let place = match recipients.binary_search_by(|it| it.name.as_str().cmp(name)) {
            Ok(_) => return Err(LockError::Exists(name.to_owned())),
            Err(place) => place,
        };
        let what = (layers.as_deref(), may);
        let recipient = self.lock.wrap((&root, &write), name, what, to)?;
        self.lock.recipients.insert(place, recipient);
        self.changed = true;
        Ok(())
    }

    /// Makes a new root and a new key to write with, and encrypts everything anew. Those named in `without` get no keys any more; each
    /// passphrase of who stays is needed, or a new one for it in `anew`.
    ///
    /// # Errors
    /// [`LockError::NotAll`], [`LockError::NoRecipient`], [`LockError::Nobody`],
    /// [`LockError::NeedsPassphrase`], [`LockError::Crypto`].
    pub fn rotate(
        &mut self,
        without: &[String],
        known: &[Secret],
        anew: &BTreeMap<String, To>,
    ) -> Result<(), LockError> {
        self.root()?;
        let before = self.writer()?;
        let is = |name: &String| self.lock.recipients.iter().any(|it| it.name == *name);
        if let Some(missing) = without.iter().chain(anew.keys()).find(|it| !is(it)) {
            return Err(LockError::NoRecipient(missing.clone()));
        }
        let mut next = self.lock.clone();
        next.root_epoch = self.next()?;
        next.layers.clear();
        next.recipients.clear();
        let (root, write) = (Key::random()?, SigningKey::generate()?);
        next.hand_over(Some(before), &write)?;
        for (place, recipient) in self.lock.recipients.iter().enumerate() {
            if without.contains(&recipient.name) {
                continue;
            }
            let to = match anew.get(&recipient.name) {
                Some(to) => to.clone(),
                None => self.same_again(place, known)?,
            };
            let what = (recipient.layers.as_deref(), recipient.may);
            let recipient = next.wrap((&root, &write), &recipient.name, what, &to)?;
            next.recipients.push(recipient);
        }
        if !next.recipients.iter().any(Recipient::is_owner) {
            return Err(LockError::Nobody);
        }
        let mut open = Self {
            lock: next,
            grant: Grant {
                keys: Keys::Root(root),
                write: Some(write),
            },
            by: self.by.clone(),
            changed: true,
        };
        for layer in self.lock.layers() {
            open.put(&layer.name, &self.layer(&layer.name)?)?;
        }
        *self = open;
        Ok(())
    }

    /// How a recipient is given keys again.
    fn same_again(&self, place: usize, known: &[Secret]) -> Result<To, LockError> {
        let recipient = &self.lock.recipients[place];
        if let Opens::Age { recipient } = &recipient.opens {
            return Ok(To::Age(recipient.parse()?));
        }
        for secret in known {
            if let Secret::Passphrase(passphrase) = secret
                && self.lock.unwrap(place, secret)?.is_some()
            {
                let kdf = self.lock.kdf(place)?.again()?;
                return Ok(To::Passphrase(passphrase.clone(), kdf));
            }
        }
        Err(LockError::NeedsPassphrase(recipient.name.clone()))
    }

    /// The file, one epoch on and without a signature if anything was changed.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn finish(mut self) -> Result<Lock, LockError> {
        if self.changed {
            let write = self.writer()?.clone();
            self.lock.epoch = self.next()?;
            self.lock.signature = None;
            let header = Lock::spelled(self.lock.header());
            let mac = self.grant.keys.mac(&self.lock)?.mac(header.as_bytes());
            self.lock.mac = STANDARD.encode(mac);
            self.lock.write_with(&write)?;
            self.lock.check()?;
            let length = self.lock.render().len();
            if length > crate::MOST_FILE {
                return Err(LockError::TooMuch {
                    what: "bytes of the file",
                    most: crate::MOST_FILE,
                });
            }
        }
        Ok(self.lock)
    }
}
