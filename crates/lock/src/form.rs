//! The form of a file: text of JSON in one spelling only, a line for each recipient and each layer. What
//! is spelled otherwise is refused, so that no byte can be changed unseen.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use sha2::{Digest, Sha256};
use skep_crypto::canonical;
use skep_crypto::signing::{Publisher, SigningKey};

use crate::{
    LAST_EPOCH, LockError, MOST_FILE, MOST_LAYERS, MOST_PASSPHRASES, MOST_RECIPIENTS, VERSION,
    Writer, is_name,
};

const SIGNED: &[u8] = b"skep agent.lock v2 signature\0";
/// The line on which the first recipient stands.
const FIRST_LINE: usize = 2;
/// Bytes of an agent's id.
const ID: usize = 16;

/// Whose file it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// 16 random bytes in hexadecimal, which stay for ever.
    pub id: String,
    /// What it is called.
    pub name: String,
}

/// What a recipient opens the file with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "with", deny_unknown_fields)]
pub enum Opens {
    /// A passphrase, by Argon2id.
    #[serde(rename = "argon2id", rename_all = "camelCase")]
    Argon2id {
        /// Memory in KiB.
        memory_kib: u32,
        /// Passes over it.
        passes: u32,
        /// Lanes.
        lanes: u32,
        /// The salt, in base64.
        salt: String,
    },
    /// A passphrase, by PBKDF2-HMAC-SHA-256.
    #[serde(rename = "pbkdf2-sha256")]
    Pbkdf2 {
        /// How many rounds.
        rounds: u32,
        /// The salt, in base64.
        salt: String,
    },
    /// An identity of age.
    #[serde(rename = "age")]
    Age {
        /// The public half, `age1…`.
        recipient: String,
    },
}

/// What a recipient may do with what it opens, where that is less than everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum May {
    /// Read it: what this recipient writes, others refuse.
    Read,
}

/// Who can open the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipient {
    /// What it is called here.
    pub name: String,
    /// With what.
    pub opens: Opens,
    /// The layers that it opens; every one when it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<String>>,
    /// What it may, when it may not write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may: Option<May>,
    /// The keys, for this recipient only, in base64.
    pub wrapped: String,
}

/// An encrypted layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// What it is called.
    pub name: String,
    /// The file's epoch when it was written.
    pub epoch: u64,
    /// What is in it, encrypted, in base64.
    pub sealed: String,
}

/// A publisher's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// Whose it is, `skepsig1_…`.
    pub publisher: String,
    /// It, in base64.
    pub value: String,
}

/// A file that is well-formed. Only a key tells whether it is what was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Lock {
    pub(crate) version: u32,
    pub(crate) agent: Agent,
    pub(crate) epoch: u64,
    pub(crate) root_epoch: u64,
    pub(crate) recipients: Vec<Recipient>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) writers: Vec<Writer>,
    pub(crate) mac: String,
    pub(crate) written: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signature: Option<Signature>,
}

fn json<T: Serialize>(value: &T) -> Json {
    // Texts, numbers and lists of them always can be written.
    serde_json::to_value(value).unwrap_or(Json::Null)
}

fn lines<T: Serialize>(items: &[T]) -> String {
    let lines: Vec<String> = items
        .iter()
        .map(|item| serde_json::to_string(item).unwrap_or_default())
        .collect();
    lines.join(",\n")
}

pub(crate) fn decode(place: String, text: &str) -> Result<Vec<u8>, LockError> {
    let bytes = STANDARD.decode(text);
    bytes.map_err(|_| LockError::malformed(place, "it is no base64"))
}

pub(crate) fn decode_array<const N: usize>(
    place: String,
    text: &str,
) -> Result<[u8; N], LockError> {
    let bytes = decode(place.clone(), text)?;
    let wrong = |_| LockError::malformed(place, format!("{N} bytes belong here"));
    bytes.try_into().map_err(wrong)
}

/// Tells by its version that a file is another than this format's.
fn version(text: &str) -> Result<(), LockError> {
    let Ok(Json::Object(fields)) = serde_json::from_str::<Json>(text) else {
        return Ok(());
    };
    match fields.get("version") {
        Some(Json::String(text)) if text.starts_with("1.") => Err(LockError::Older),
        Some(Json::Number(number)) => match number.as_u64() {
            Some(number) if number != u64::from(VERSION) => Err(LockError::Version(number)),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Where two texts begin to differ: line and column, from 1.
fn difference(one: &str, other: &str) -> (usize, usize) {
    let same = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b);
    let same = same.count();
    let before = &one.as_bytes()[..same];
    let line = before.iter().filter(|byte| **byte == b'\n').count();
    let start = before.iter().rposition(|byte| *byte == b'\n');
    (line + 1, same - start.map_or(0, |it| it + 1) + 1)
}

impl Lock {
    /// Reads a file.
    ///
    /// # Errors
    /// [`LockError`] with the place, when it is none, or spelled in another way.
    pub fn parse(bytes: &[u8]) -> Result<Self, LockError> {
        if bytes.len() > MOST_FILE {
            return Err(LockError::TooMuch {
                what: "bytes of the file",
                most: MOST_FILE,
            });
        }
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let line = bytes[..error.valid_up_to()].split(|it| *it == b'\n');
            LockError::malformed(format!("line {}", line.count()), "it is no UTF-8")
        })?;
        let lock: Self = serde_json::from_str(text).map_err(|error| {
            let told = error.to_string();
            let why = told.split(" at line ").next().unwrap_or_default();
            let place = format!("line {}, column {}", error.line(), error.column());
            version(text)
                .err()
                .unwrap_or_else(|| LockError::malformed(place, why))
        })?;
        if lock.version != VERSION {
            return Err(LockError::Version(lock.version.into()));
        }
        let spelled = lock.render();
        if spelled != text {
            let (line, column) = difference(text, &spelled);
            let place = format!("line {line}, column {column}");
            return Err(LockError::malformed(
                place,
                "it is not spelled in the one way that counts",
            ));
        }
        lock.check()?;
        Ok(lock)
    }

    /// The file.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = format!(
            "{{\"version\":{},\"agent\":{},\"epoch\":{},\"rootEpoch\":{},\"recipients\":[\n{}\n],\
             \"layers\":[\n{}\n],\"writers\":[\n{}\n],\"mac\":{},\"written\":{}",
            self.version,
            lines(std::slice::from_ref(&self.agent)),
            self.epoch,
            self.root_epoch,
            lines(&self.recipients),
            lines(&self.layers),
            lines(&self.writers),
            Json::from(self.mac.as_str()),
            Json::from(self.written.as_str()),
        );
        if let Some(signature) = &self.signature {
            text.push_str(",\"signature\":");
            text.push_str(&lines(std::slice::from_ref(signature)));
        }
        text.push_str("}\n");
        text
    }

    /// What is wrong with what it says, apart from what only a key can tell.
    pub(crate) fn check(&self) -> Result<(), LockError> {
        let id = &self.agent.id;
        let hexadecimal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if id.len() != 2 * ID || !id.bytes().all(hexadecimal) {
            let why = "it is no id: 32 digits of 0 to 9 and a to f";
            return Err(LockError::malformed("line 1, agent.id", why));
        }
        name("line 1, agent.name", &self.agent.name)?;
        epoch("line 1, epoch", self.epoch, LAST_EPOCH)?;
        epoch("line 1, rootEpoch", self.root_epoch, self.epoch)?;
        let most = |what, most, is: usize| match is > most {
            true => Err(LockError::TooMuch { what, most }),
            false => Ok(()),
        };
        most("recipients", MOST_RECIPIENTS, self.recipients.len())?;
        most("layers", MOST_LAYERS, self.layers.len())?;
        let phrases = self.recipients.iter().filter(|it| !it.is_age());
        most(
            "recipients with a passphrase",
            MOST_PASSPHRASES,
            phrases.count(),
        )?;
        for place in 0..self.recipients.len() {
            self.check_recipient(place)?;
        }
        if !self.recipients.iter().any(Recipient::is_owner) {
            return Err(LockError::malformed(
                "recipients",
                "nobody is there who opens every layer and may write",
            ));
        }
        for (place, layer) in self.layers.iter().enumerate() {
            let here = self.place_of_layer(place);
            name(&here, &layer.name)?;
            epoch(&here, layer.epoch, self.epoch)?;
            if layer.epoch < self.root_epoch {
                let why = "it was written before the root was made";
                return Err(LockError::malformed(here, why));
            }
            decode(here, &layer.sealed)?;
        }
        let layers = self.layers.iter().map(|it| it.name.as_str());
        sorted("layers", layers)?;
        let recipients = self.recipients.iter().map(|it| it.name.as_str());
        sorted("recipients", recipients)?;
        let last = FIRST_LINE
            + self.recipients.len().max(1)
            + 1
            + self.layers.len().max(1)
            + 1
            + self.writers.len().max(1);
        decode_array::<32>(format!("line {last}, mac"), &self.mac)?;
        if let Some(signature) = &self.signature {
            self.signed_by(signature)?;
        }
        self.check_writers()
    }

    fn check_recipient(&self, place: usize) -> Result<(), LockError> {
        let here = self.place_of_recipient(place);
        let recipient = &self.recipients[place];
        name(&here, &recipient.name)?;
        match &recipient.opens {
            Opens::Argon2id { .. } | Opens::Pbkdf2 { .. } => {
                if !self.kdf(place)?.is_accepted() {
                    let why = "the parameters for the passphrase's key are not acceptable";
                    return Err(LockError::malformed(here, why));
                }
            }
            Opens::Age { recipient } => {
                let parsed = recipient.parse::<skep_crypto::age::Recipient>();
                let why = "it is no recipient of age";
                parsed.map_err(|_| LockError::malformed(&here, why))?;
            }
        }
        if let Some(layers) = &recipient.layers {
            for layer in layers {
                name(&here, layer)?;
            }
            let within = (1..=MOST_LAYERS).contains(&layers.len());
            if !within {
                let why = "it has no layer, or too many";
                return Err(LockError::malformed(here, why));
            }
            sorted(&here, layers.iter().map(String::as_str))?;
        }
        decode(here, &recipient.wrapped).map(drop)
    }

    /// Where a recipient stands, for people.
    pub(crate) fn place_of_recipient(&self, place: usize) -> String {
        let name = &self.recipients[place].name;
        format!("line {}, recipient `{name}`", FIRST_LINE + place)
    }

    /// Where a layer stands, for people.
    pub(crate) fn place_of_layer(&self, place: usize) -> String {
        let line = FIRST_LINE + self.recipients.len().max(1) + 1 + place;
        format!("line {line}, layer `{}`", self.layers[place].name)
    }

    /// What the check of the header is made of: everything but itself and the signature, layers by hash.
    pub(crate) fn header(&self) -> Map<String, Json> {
        let layers = self.layers.iter().map(|layer| {
            let hash = Sha256::digest(layer.sealed.as_bytes());
            let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({"name": layer.name, "epoch": layer.epoch, "sha256": hash})
        });
        let mut header = Map::new();
        header.insert("version".into(), self.version.into());
        header.insert("agent".into(), json(&self.agent));
        header.insert("epoch".into(), self.epoch.into());
        header.insert("rootEpoch".into(), self.root_epoch.into());
        header.insert("recipients".into(), json(&self.recipients));
        header.insert("layers".into(), layers.collect());
        header.insert("writers".into(), json(&self.writers));
        header
    }

    /// The canonical text of a header.
    pub(crate) fn spelled(header: Map<String, Json>) -> String {
        let mut text = String::new();
        canonical::write(&Json::Object(header), &mut text);
        text
    }

    fn to_sign(&self, publisher: Publisher) -> Vec<u8> {
        let mut header = self.header();
        header.insert("mac".into(), self.mac.as_str().into());
        header.insert("publisher".into(), publisher.to_string().into());
        [SIGNED, Self::spelled(header).as_bytes()].concat()
    }

    /// Signs the file as it is.
    ///
    /// # Errors
    /// [`LockError::Crypto`].
    pub fn sign(&mut self, key: &SigningKey) -> Result<(), LockError> {
        let publisher = key.publisher()?;
        let value = key.sign(&self.to_sign(publisher))?;
        self.signature = Some(Signature {
            publisher: publisher.to_string(),
            value: STANDARD.encode(value),
        });
        Ok(())
    }

    fn signed_by(&self, signature: &Signature) -> Result<Publisher, LockError> {
        let publisher: Publisher = signature.publisher.parse().map_err(|_| {
            LockError::malformed("signature", "the publisher is none: `skepsig1_…`")
        })?;
        let value: [u8; 64] = decode_array("signature".into(), &signature.value)?;
        match publisher.signed(&self.to_sign(publisher), &value) {
            true => Ok(publisher),
            false => Err(LockError::Signature),
        }
    }

    /// Who signed the file, if anybody; the signature was checked when it was read.
    #[must_use]
    pub fn publisher(&self) -> Option<Publisher> {
        self.signature
            .as_ref()
            .and_then(|signature| signature.publisher.parse().ok())
    }

    /// Checks that it is signed by this publisher.
    ///
    /// # Errors
    /// [`LockError::Unsigned`], [`LockError::Publisher`], [`LockError::Signature`].
    pub fn verify(&self, publisher: &Publisher) -> Result<(), LockError> {
        let signature = self.signature.as_ref().ok_or(LockError::Unsigned)?;
        let is = self.signed_by(signature)?;
        match is == *publisher {
            true => Ok(()),
            false => Err(LockError::Publisher(is.to_string())),
        }
    }

    /// Whose file it is.
    #[must_use]
    pub const fn agent(&self) -> &Agent {
        &self.agent
    }

    /// How often it was changed.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The epoch in which its root was made.
    #[must_use]
    pub const fn root_epoch(&self) -> u64 {
        self.root_epoch
    }

    /// Who can open it.
    #[must_use]
    pub fn recipients(&self) -> &[Recipient] {
        &self.recipients
    }

    /// Its layers.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }
}

impl Recipient {
    /// Whether it opens with an identity of age.
    #[must_use]
    pub const fn is_age(&self) -> bool {
        matches!(self.opens, Opens::Age { .. })
    }

    /// Whether it may change what it opens.
    #[must_use]
    pub const fn writes(&self) -> bool {
        self.may.is_none()
    }

    /// Whether it opens every layer and may write: there is always one.
    pub(crate) const fn is_owner(&self) -> bool {
        self.layers.is_none() && self.writes()
    }
}

fn name(place: &str, text: &str) -> Result<(), LockError> {
    match is_name(text) {
        true => Ok(()),
        false => Err(LockError::malformed(
            place,
            LockError::Name(text.to_owned()).to_string(),
        )),
    }
}

fn epoch(place: &str, is: u64, most: u64) -> Result<(), LockError> {
    match (1..=most).contains(&is) {
        true => Ok(()),
        false => Err(LockError::malformed(
            place,
            format!("the epoch is {is}, and must lie between 1 and {most}"),
        )),
    }
}

/// Names stand in order, each once.
fn sorted<'a>(place: &str, names: impl Iterator<Item = &'a str>) -> Result<(), LockError> {
    let mut before = "";
    for name in names {
        if name <= before {
            let why = format!("`{name}` stands twice, or not in its order");
            return Err(LockError::malformed(place, why));
        }
        before = name;
    }
    Ok(())
}
