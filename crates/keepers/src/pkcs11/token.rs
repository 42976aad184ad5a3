//! A token and its module. Each question begins and ends its own session: a token may come and go meanwhile, and
//! nobody stays logged in.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Function, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;
use parking_lot::Mutex;
use skep_crypto::Key;
use skep_vault::keeper::{Keeper, KeeperError};
use skep_vault::seal::SealKind;
use zeroize::Zeroizing;

use super::Pkcs11Key;
use crate::kms::key_of;
use crate::wait::Asked;

/// How long a token may take.
const ANSWER: Duration = Duration::from_secs(20);
/// Bytes of an initialization vector.
const IV: usize = 12;
/// Bits of a tag.
const TAG_BITS: std::ffi::c_ulong = 128;

/// A key on a token.
#[derive(Clone)]
pub(super) struct TokenKey {
    module: PathBuf,
    key: Pkcs11Key,
    pin: Option<Zeroizing<String>>,
    /// The module, loaded when it is first needed and never unloaded: some leave threads behind.
    loaded: Arc<Mutex<Option<Pkcs11>>>,
    asked: Asked,
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TokenKey").field(&self.key.text).finish()
    }
}

/// What is done with the key.
enum Order {
    Encrypt(Key),
    Decrypt(Vec<u8>),
}

impl TokenKey {
    pub(super) fn new(module: &Path, key: Pkcs11Key, pin: Option<Zeroizing<String>>) -> Self {
        Self {
            module: module.to_owned(),
            key,
            pin,
            loaded: Arc::default(),
            asked: Asked::default(),
        }
    }

    fn away(&self, why: &str) -> KeeperError {
        KeeperError::Away(format!("{}: {why}", self.key.text))
    }

    fn refused(&self, why: &str) -> KeeperError {
        KeeperError::Refused(format!("{}: {why}", self.key.text))
    }

    /// What a module's error means. Its words are names of the standard and hold nothing of ours.
    fn failed(&self, error: &Error) -> KeeperError {
        let Error::Pkcs11(code, function) = error else {
            return self.refused(&format!("the module does not work as it should: {error}"));
        };
        let said = format!("the token said {code:?} to {function:?}");
        match (function, code) {
            (
                Function::Login,
                RvError::PinIncorrect | RvError::PinLenRange | RvError::PinInvalid,
            ) => self.refused("the PIN is wrong: set seal.pkcs11_pin; the token counts wrong ones"),
            (_, RvError::PinLocked) => {
                self.refused("the PIN is locked: unlock it by the token's own tool")
            }
            (_, RvError::TokenNotPresent | RvError::DeviceRemoved | RvError::SlotIdInvalid) => {
                self.away("the token is not there")
            }
            // It may have been counted.
            (Function::Login, _) => self.refused(&said),
            (Function::Decrypt | Function::DecryptInit, code) if is_of_cipher(code) => {
                KeeperError::Wrong(self.key.text.clone())
            }
            (
                _,
                RvError::DeviceError
                | RvError::DeviceMemory
                | RvError::HostMemory
                | RvError::FunctionFailed
                | RvError::GeneralError
                | RvError::SessionHandleInvalid
                | RvError::SessionClosed
                | RvError::SessionCount,
            ) => self.away(&said),
            _ => self.refused(&said),
        }
    }

    /// The module, begun.
    fn begin(&self) -> Result<Begun, KeeperError> {
        let mut loaded = self.loaded.lock();
        let module = match &*loaded {
            Some(module) => module.clone(),
            None => {
                let module = Pkcs11::new(&self.module).map_err(|error| {
                    let path = self.module.display();
                    self.refused(&format!("the module {path} cannot be loaded: {error}"))
                })?;
                *loaded = Some(module.clone());
                module
            }
        };
        let arguments = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
        match module.initialize(arguments) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {
                Ok(Begun(module))
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// The one slot with the token that is meant.
    fn slot(&self, module: &Pkcs11) -> Result<(Slot, TokenInfo), KeeperError> {
        let slots = module.get_slots_with_token();
        let mut found = None;
        for slot in slots.map_err(|error| self.failed(&error))? {
            // One that is pulled out meanwhile is not there.
            let Ok(token) = module.get_token_info(slot) else {
                continue;
            };
            let is = |wanted: &Option<String>, is: &str| {
                wanted.as_ref().is_none_or(|wanted| wanted == is.trim_end())
            };
            let fits = is(&self.key.token, token.label())
                && is(&self.key.serial, token.serial_number())
                && token.token_initialized();
            if fits && found.replace((slot, token)).is_some() {
                return Err(self.refused("two tokens are called so: name its serial="));
            }
        }
        found.ok_or_else(|| self.away("the token is not there"))
    }

    fn log_in(&self, session: &Session, token: &TokenInfo) -> Result<(), KeeperError> {
        if !token.login_required() {
            return Ok(());
        }
        if token.user_pin_locked() {
            return Err(self.refused("the PIN is locked: unlock it by the token's own tool"));
        }
        let pin = match &self.pin {
            // The token asks for it itself.
            None if token.protected_authentication_path() => None,
            None => return Err(self.refused("it wants a PIN: set seal.pkcs11_pin")),
            Some(_) if token.user_pin_final_try() => {
                return Err(self.refused(
                    "one more wrong PIN would lock the token: log in once by its own tool",
                ));
            }
            Some(pin) => Some(AuthPin::from(pin.as_str())),
        };
        match session.login(UserType::User, pin.as_ref()) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// The one key that is meant.
    fn object(&self, session: &Session) -> Result<ObjectHandle, KeeperError> {
        let mut template = vec![
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
        ];
        let label = self.key.object.as_ref().map(|it| it.as_bytes().to_vec());
        template.extend(label.map(Attribute::Label));
        template.extend(self.key.id.clone().map(Attribute::Id));
        let found = session.find_objects(&template);
        match found.map_err(|error| self.failed(&error))?[..] {
            [one] => Ok(one),
            [] => Err(self.refused(
                "the token has no such AES key; `pkcs11-tool --keygen --key-type AES:32` makes one",
            )),
            _ => Err(self.refused("two keys are called so: name its id=")),
        }
    }

    fn carry_out(&self, order: Order, context: &str) -> Result<Vec<u8>, KeeperError> {
        let module = self.begin()?;
        let (slot, token) = self.slot(&module.0)?;
        let session = module.0.open_ro_session(slot);
        let session = session.map_err(|error| self.failed(&error))?;
        self.log_in(&session, &token)?;
        let key = self.object(&session)?;
        let wrong = |error: Error| self.failed(&error);
        match order {
            Order::Encrypt(plain) => {
                let mut iv: [u8; IV] =
                    skep_crypto::random().map_err(|error| self.away(&error.to_string()))?;
                let gcm = GcmParams::new(&mut iv, context.as_bytes(), TAG_BITS.into());
                let mechanism = Mechanism::AesGcm(gcm.map_err(wrong)?);
                let cipher = session.encrypt(&mechanism, key, plain.expose());
                let cipher = cipher.map_err(wrong)?;
                // A token may have put its own there.
                drop(mechanism);
                Ok([&iv[..], &cipher].concat())
            }
            Order::Decrypt(wrapped) => {
                let split = wrapped.split_first_chunk::<IV>();
                let wrong_size = || KeeperError::Wrong(self.key.text.clone());
                let (iv, cipher) = split.ok_or_else(wrong_size)?;
                let mut iv = *iv;
                let gcm = GcmParams::new(&mut iv, context.as_bytes(), TAG_BITS.into());
                let mechanism = Mechanism::AesGcm(gcm.map_err(wrong)?);
                session.decrypt(&mechanism, key, cipher).map_err(wrong)
            }
        }
    }

    async fn ask(&self, order: Order, context: &str) -> Result<Vec<u8>, KeeperError> {
        let (own, context) = (self.clone(), context.to_owned());
        let question = move || own.carry_out(order, &context);
        match self.asked.ask(ANSWER, question).await {
            Ok(answer) => answer,
            Err(silent) => Err(self.away(&silent.told(ANSWER))),
        }
    }
}

/// Whether a decryption failed for what was decrypted. Not every module uses the code that is for that.
const fn is_of_cipher(code: &RvError) -> bool {
    matches!(
        code,
        RvError::EncryptedDataInvalid
            | RvError::EncryptedDataLenRange
            | RvError::GeneralError
            | RvError::FunctionFailed
            | RvError::SignatureInvalid
    )
}

/// A module that was begun, and is ended.
struct Begun(Pkcs11);

impl Drop for Begun {
    fn drop(&mut self) {
        let _ = self.0.clone().finalize();
    }
}

#[async_trait]
impl Keeper for TokenKey {
    fn kind(&self) -> SealKind {
        SealKind::Pkcs11
    }

    fn key(&self) -> &str {
        &self.key.text
    }

    async fn wrap(&self, key: &Key, context: &str) -> Result<Vec<u8>, KeeperError> {
        self.ask(Order::Encrypt(key.clone()), context).await
    }

    async fn unwrap(&self, wrapped: &[u8], context: &str) -> Result<Key, KeeperError> {
        let plain = self.ask(Order::Decrypt(wrapped.to_vec()), context).await?;
        let plain = Zeroizing::new(plain);
        key_of(&plain).ok_or_else(|| KeeperError::Wrong(self.key.text.clone()))
    }
}
