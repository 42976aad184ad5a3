//! An index: which templates there are, where, and with which bytes. It is signed as a whole.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use semver::Version;
use serde::{Deserialize, Serialize};
use skep_core::Timestamp;
use skep_crypto::canonical;
use skep_crypto::signing::{Publisher, SigningKey};

use crate::error::malformed;
use crate::form::path_refused;
use crate::{
    LAST_SERIAL, LONGEST_LINE, MOST_INDEX, MOST_ITEMS, MOST_LISTED, MOST_PACKED, Template,
    TemplateError, VERSION, digest, is_digest, is_line, is_name,
};

/// What is signed begins with this and a byte 0.
const SIGNED: &str = "skep templates index v1";

/// What raters said of a template, together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ratings {
    /// How many.
    pub count: u64,
    /// Their stars together.
    pub stars: u64,
}

impl Ratings {
    /// The mean, with one digit: `4.5`.
    #[must_use]
    pub fn mean(&self) -> String {
        let tenths = (self.stars * 10 + self.count / 2) / self.count.max(1);
        format!("{}.{}", tenths / 10, tenths % 10)
    }
}

/// A template in an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// What it is called.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// What it is, in a few words.
    pub title: String,
    /// What it does, in a line.
    pub about: String,
    /// Words by which it is found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What its agent is written with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framework: Option<String>,
    /// Under which it may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// Where it is: a path below the index's folder, or a URL.
    pub address: String,
    /// The SHA-256 of the packed template, in hexadecimal.
    pub sha256: String,
    /// Its bytes.
    pub size: u64,
    /// What raters said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratings: Option<Ratings>,
}

impl Listed {
    /// A packed template, as an index lists it.
    #[must_use]
    pub fn of(template: &Template, packed: &[u8], address: String) -> Self {
        let form = &template.form;
        Self {
            name: form.name.clone(),
            version: form.version.clone(),
            title: form.title.clone(),
            about: form.about.clone(),
            tags: form.tags.clone(),
            framework: form.framework.clone(),
            licence: form.licence.clone(),
            address,
            sha256: digest(packed),
            size: packed.len() as u64,
            ratings: None,
        }
    }

    /// Whether these bytes, and this template in them, are what is listed.
    ///
    /// # Errors
    /// [`TemplateError::NotListed`].
    pub fn is(&self, template: &Template, packed: &[u8]) -> Result<(), TemplateError> {
        let form = &template.form;
        let name = (form.name.clone(), self.name.clone());
        let version = (form.version.to_string(), self.version.to_string());
        self.bytes_are(packed)?;
        for (what, (is, wanted)) in [("its name", name), ("its version", version)] {
            if is != wanted {
                return Err(TemplateError::NotListed { what, is, wanted });
            }
        }
        Ok(())
    }

    /// Whether these bytes are what is listed. Ask before they are looked into.
    ///
    /// # Errors
    /// [`TemplateError::NotListed`].
    pub fn bytes_are(&self, packed: &[u8]) -> Result<(), TemplateError> {
        let size = (packed.len().to_string(), self.size.to_string());
        let sha256 = (digest(packed), self.sha256.clone());
        for (what, (is, wanted)) in [("its size", size), ("its SHA-256", sha256)] {
            if is != wanted {
                return Err(TemplateError::NotListed { what, is, wanted });
            }
        }
        Ok(())
    }

    /// Whether every word stands in what is said of it, in any case.
    #[must_use]
    pub fn fits(&self, words: &[String]) -> bool {
        let mut text = format!("{} {} {}", self.name, self.title, self.about);
        let more = self.tags.iter().chain(&self.framework);
        more.for_each(|it| text.push_str(&format!(" {it}")));
        let text = text.to_lowercase();
        words.iter().all(|word| text.contains(&word.to_lowercase()))
    }

    fn check(&self) -> Result<(), TemplateError> {
        let shown: String = self.name.escape_debug().take(LONGEST_LINE).collect();
        let wrong = |field: &str, why: &str| Err(malformed(format!("{shown}, {field}"), why));
        if !is_name(&self.name) {
            return wrong("name", "it is no name of a template");
        }
        let lines = [&self.title, &self.about, &self.address].into_iter();
        let lines = lines.chain(&self.framework).chain(&self.licence);
        for line in lines {
            if !is_line(line, LONGEST_LINE) {
                return wrong(
                    "title to licence",
                    "one is not one line of 1 to 200 characters",
                );
            }
        }
        if self.version.to_string().len() > LONGEST_LINE {
            return wrong("version", "it has over 200 characters");
        }
        if self.tags.len() > MOST_ITEMS || !self.tags.iter().all(|tag| is_name(tag)) {
            return wrong("tags", "up to 64, each of a-z, 0-9 and `-`");
        }
        if !self.address.contains("://") && path_refused(&self.address).is_some() {
            return wrong("address", "it is neither a path below the index nor a URL");
        }
        if !is_digest(&self.sha256) {
            return wrong("sha256", "it is no SHA-256 in lower-case hexadecimal");
        }
        if self.size > MOST_PACKED as u64 {
            return wrong("size", "it is over 8 MiB");
        }
        match self.ratings {
            Some(Ratings { count, stars })
                if count == 0
                    || count > LAST_SERIAL / 5
                    || !(count..=5 * count).contains(&stars) =>
            {
                wrong("ratings", "each has 1 to 5 stars")
            }
            _ => Ok(()),
        }
    }
}

/// An index that was read, is well-formed and was signed by [`Index::publisher`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    version: u32,
    /// One that follows has a higher one.
    pub serial: u64,
    /// Until when it counts: RFC 3339.
    pub expires: String,
    /// The templates, each version by itself.
    pub templates: Vec<Listed>,
    publisher: String,
    signature: String,
}

/// What is known of who makes an index, before it is read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expected<'a> {
    /// Who must have signed it, as the settings say.
    pub publisher: Option<Publisher>,
    /// What was seen of it last.
    pub seen: Option<&'a Index>,
    /// Also one that is older than that, or has expired.
    pub older: bool,
}

/// What is signed: all but the signature, in canonical JSON.
fn signed_text(index: &Index) -> Vec<u8> {
    let mut value = serde_json::to_value(index).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("signature");
    }
    let mut text = format!("{SIGNED}\0");
    canonical::write(&value, &mut text);
    text.into_bytes()
}

impl Index {
    /// Makes and signs one.
    ///
    /// # Errors
    /// [`TemplateError::Malformed`], [`TemplateError::Crypto`].
    pub fn sign(
        serial: u64,
        expires: Timestamp,
        mut templates: Vec<Listed>,
        key: &SigningKey,
    ) -> Result<Self, TemplateError> {
        templates
            .sort_by(|one, other| (&one.name, &one.version).cmp(&(&other.name, &other.version)));
        let mut index = Self {
            version: VERSION,
            serial,
            expires: expires.to_string(),
            templates,
            publisher: key.publisher()?.to_string(),
            signature: String::new(),
        };
        index.check()?;
        index.signature = STANDARD.encode(key.sign(&signed_text(&index))?);
        Ok(index)
    }

    /// Reads one and checks its signature, whoever's it is.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, TemplateError> {
        #[derive(Deserialize)]
        struct Which {
            version: u32,
        }
        if bytes.len() > MOST_INDEX {
            return Err(malformed("the index", "it has over 8 MiB"));
        }
        let odd = |error: serde_json::Error| malformed("the index", error.to_string());
        let Which { version } = serde_json::from_slice(bytes).map_err(odd)?;
        if version != VERSION {
            return Err(TemplateError::Version(version));
        }
        let index: Self = serde_json::from_slice(bytes).map_err(odd)?;
        index.check()?;
        let signature = STANDARD.decode(&index.signature);
        let signature = signature.map_err(|_| TemplateError::Signature)?;
        match index.publisher()?.signed(&signed_text(&index), &signature) {
            true => Ok(index),
            false => Err(TemplateError::Signature),
        }
    }

    /// It as it is written to a file.
    #[must_use]
    pub fn render(&self) -> String {
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        format!("{text}\n")
    }

    /// Who signed it.
    ///
    /// # Errors
    /// [`TemplateError::Malformed`].
    pub fn publisher(&self) -> Result<Publisher, TemplateError> {
        let publisher = self.publisher.parse();
        publisher.map_err(|_| malformed("the index, publisher", "it is no public key"))
    }

    fn check(&self) -> Result<(), TemplateError> {
        self.publisher()?;
        if !(1..=LAST_SERIAL).contains(&self.serial) {
            return Err(malformed("the index, serial", "it is from 1 to 2^53 - 1"));
        }
        let odd = |error: skep_core::time::ParseTimestampError| {
            malformed("the index, expires", error.to_string())
        };
        self.expires.parse::<Timestamp>().map_err(odd)?;
        if self.templates.len() > MOST_LISTED {
            return Err(malformed("the index", "it lists over 10000 templates"));
        }
        let mut all = BTreeSet::new();
        for it in &self.templates {
            it.check()?;
            if !all.insert((&it.name, &it.version)) {
                let place = format!("{} {}", it.name, it.version);
                return Err(malformed(place, "it is listed twice"));
            }
        }
        Ok(())
    }

    /// Whether it is to be taken: by who signed it, by what was seen before, and by the time.
    ///
    /// # Errors
    /// [`TemplateError::Publisher`], [`TemplateError::Older`], [`TemplateError::Twice`], [`TemplateError::Expired`].
    pub fn accept(&self, expected: Expected<'_>, now: Timestamp) -> Result<(), TemplateError> {
        let is = self.publisher()?;
        let seen = expected
            .seen
            .map(|seen| Ok::<_, TemplateError>((seen, seen.publisher()?)));
        let seen = seen.transpose()?;
        // Who is named in the settings counts; else who was there first.
        let wanted = expected.publisher.or(seen.map(|(_, publisher)| publisher));
        if let Some(wanted) = wanted.filter(|wanted| *wanted != is) {
            return Err(TemplateError::Publisher { is, wanted });
        }
        if expected.older {
            return Ok(());
        }
        // Another publisher, whom the settings name now, counts anew.
        if let Some((seen, _)) = seen.filter(|(_, publisher)| *publisher == is) {
            if self.serial < seen.serial {
                let (is, seen) = (self.serial, seen.serial);
                return Err(TemplateError::Older { is, seen });
            }
            if self.serial == seen.serial && self != seen {
                return Err(TemplateError::Twice(self.serial));
            }
        }
        match self.expires.parse::<Timestamp>() {
            Ok(expires) if expires > now => Ok(()),
            _ => Err(TemplateError::Expired(self.expires.clone())),
        }
    }

    /// The newest version of a template, or the one that is named. One that is not yet released (`1.0.0-rc.1`) is
    /// the newest only when there is no other.
    #[must_use]
    pub fn find(&self, name: &str, version: Option<&Version>) -> Option<&Listed> {
        let named = self.templates.iter().filter(|it| it.name == name);
        match version {
            Some(version) => named.into_iter().find(|it| it.version == *version),
            None => named.max_by_key(|it| (it.version.pre.is_empty(), &it.version)),
        }
    }
}

/// The URL, or the path, of what an index at `index` lists at `address`. A URL must be of the index's own host and
/// scheme, or be https.
///
/// # Errors
/// [`TemplateError::Malformed`].
pub fn joined(index: &str, address: &str) -> Result<String, TemplateError> {
    let origin = |url: &str| {
        let (scheme, rest) = url.split_once("://")?;
        let host = rest.split(['/', '?', '#']).next()?;
        Some((scheme.to_ascii_lowercase(), host.to_ascii_lowercase()))
    };
    if address.contains("://") {
        let is_own = origin(index).is_some() && origin(index) == origin(address);
        let is_safe = origin(address).is_some_and(|(scheme, _)| scheme == "https");
        return match is_own || is_safe {
            true => Ok(address.to_owned()),
            false => Err(malformed(
                address,
                "it is neither https nor the index's own host",
            )),
        };
    }
    let index = index.split(['?', '#']).next().unwrap_or_default();
    let root = index.find("://").map_or(0, |at| at + 3);
    let folder = match index[root..].rfind('/') {
        Some(at) => &index[..=root + at],
        None if root > 0 => return Ok(format!("{index}/{}", address.replace(' ', "%20"))),
        None => "",
    };
    match root {
        0 => Ok(format!("{folder}{address}")),
        _ => Ok(format!("{folder}{}", address.replace(' ', "%20"))),
    }
}
