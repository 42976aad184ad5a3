//! Notes: what one rater says of one version of a template, signed with the rater's key; and what many say
//! together.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use semver::Version;
use serde::{Deserialize, Serialize};
use skep_core::Timestamp;
use skep_crypto::canonical;
use skep_crypto::signing::{Publisher, SigningKey};

use crate::error::malformed;
use crate::index::{Listed, Ratings};
use crate::{
    LONGEST_LINE, LONGEST_NOTE, MOST_NOTE, TemplateError, VERSION, is_digest, is_line, is_name,
};

/// What is signed begins with this and a byte 0.
const SIGNED: &str = "skep template rating v1";

/// A note that was read, is well-formed and was signed by its rater.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Note {
    version: u32,
    /// The template.
    pub template: String,
    /// Its version.
    pub template_version: Version,
    /// The SHA-256 of the packed template that was rated.
    pub sha256: String,
    /// From 1 to 5.
    pub stars: u64,
    /// What is said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When: RFC 3339.
    pub at: String,
    /// Whose it is.
    pub rater: String,
    signature: String,
}

fn signed_text(note: &Note) -> Vec<u8> {
    let mut value = serde_json::to_value(note).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("signature");
    }
    let mut text = format!("{SIGNED}\0");
    canonical::write(&value, &mut text);
    text.into_bytes()
}

impl Note {
    /// Rates a template and signs that.
    ///
    /// # Errors
    /// [`TemplateError::Malformed`], [`TemplateError::Crypto`].
    pub fn sign(
        rated: &Listed,
        stars: u64,
        note: Option<String>,
        at: Timestamp,
        key: &SigningKey,
    ) -> Result<Self, TemplateError> {
        let mut made = Self {
            version: VERSION,
            template: rated.name.clone(),
            template_version: rated.version.clone(),
            sha256: rated.sha256.clone(),
            stars,
            note,
            at: at.to_string(),
            rater: key.publisher()?.to_string(),
            signature: String::new(),
        };
        made.check()?;
        made.signature = STANDARD.encode(key.sign(&signed_text(&made))?);
        Ok(made)
    }

    /// Reads one, of a line of a file, and checks its signature.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn parse(line: &[u8]) -> Result<Self, TemplateError> {
        if line.len() > MOST_NOTE {
            return Err(malformed("the note", "it has over 8 KiB"));
        }
        let odd = |error: serde_json::Error| malformed("the note", error.to_string());
        let note: Self = serde_json::from_slice(line).map_err(odd)?;
        note.check()?;
        let signature = STANDARD.decode(&note.signature);
        let signature = signature.map_err(|_| TemplateError::Signature)?;
        match note.rater()?.signed(&signed_text(&note), &signature) {
            true => Ok(note),
            false => Err(TemplateError::Signature),
        }
    }

    /// It as a line of a file, without a line break.
    #[must_use]
    pub fn render(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    fn rater(&self) -> Result<Publisher, TemplateError> {
        let rater = self.rater.parse();
        rater.map_err(|_| malformed("rater", "it is no public key"))
    }

    fn at(&self) -> Result<Timestamp, TemplateError> {
        let at = self.at.parse();
        at.map_err(|error: skep_core::time::ParseTimestampError| malformed("at", error.to_string()))
    }

    fn check(&self) -> Result<(), TemplateError> {
        if self.version != VERSION {
            return Err(TemplateError::Version(self.version));
        }
        self.rater()?;
        self.at()?;
        if !is_name(&self.template) || self.template_version.to_string().len() > LONGEST_LINE {
            return Err(malformed("template", "it is no name, or no version"));
        }
        if !is_digest(&self.sha256) {
            return Err(malformed("sha256", "it is no SHA-256"));
        }
        if !(1..=5).contains(&self.stars) {
            return Err(malformed("stars", "there are 1 to 5"));
        }
        match &self.note {
            Some(note) if !is_line(note, LONGEST_NOTE) => Err(malformed(
                "note",
                "it is not one line of 1 to 1000 characters",
            )),
            _ => Ok(()),
        }
    }

    /// What it is about: there is one note of a rater for each.
    #[must_use]
    pub fn about(&self) -> (&str, &str, &Version) {
        (&self.rater, &self.template, &self.template_version)
    }
}

/// Counts notes into what an index lists: one of a rater for each version of a template, the newest. Those of
/// another template than the listed ones, of other bytes, or from after `now` do not count; they are given back
/// with why, by their place.
pub fn tally(
    notes: &[Note],
    templates: &mut [Listed],
    now: Timestamp,
) -> Vec<(usize, &'static str)> {
    let mut refused = Vec::new();
    let mut newest: BTreeMap<_, (Timestamp, &Note)> = BTreeMap::new();
    for (place, note) in notes.iter().enumerate() {
        let listed = templates
            .iter()
            .find(|it| it.name == note.template && it.version == note.template_version);
        let why = match (listed, note.at()) {
            (None, _) => "the index has no such template",
            (Some(it), _) if it.sha256 != note.sha256 => "it is about other bytes than the index's",
            (_, Ok(at)) if at <= now => {
                let kept = newest.entry(note.about()).or_insert((at, note));
                // Of two at once, the one with fewer stars: which stood first in a file says nothing.
                if (at, std::cmp::Reverse(note.stars)) > (kept.0, std::cmp::Reverse(kept.1.stars)) {
                    *kept = (at, note);
                }
                continue;
            }
            _ => "it is from the future",
        };
        refused.push((place, why));
    }
    for it in templates.iter_mut() {
        it.ratings = None;
    }
    for (_, note) in newest.into_values() {
        let listed = templates
            .iter_mut()
            .find(|it| it.name == note.template && it.version == note.template_version);
        if let Some(it) = listed {
            let sum = it.ratings.get_or_insert(Ratings { count: 0, stars: 0 });
            sum.count += 1;
            sum.stars += note.stars;
        }
    }
    refused
}
