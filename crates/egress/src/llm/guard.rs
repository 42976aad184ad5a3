//! What a request may not be: of a model that its sender may not ask, too large, or with a secret in it. No I/O.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use skep_scan::Scanner;

use super::plan::Plan;
use super::preferences::{Leaks, Preferences};
use crate::EgressError;

/// What looks like one only by its name: prompts talk of passwords.
const BY_NAME: &str = "secret-assignment";
/// Kinds of secrets that an error names.
const MOST_NAMED: usize = 5;

fn held<T>(why: String) -> Result<T, EgressError> {
    Err(EgressError::Held(why))
}

impl Plan {
    /// Holds a request against the preferences of who sends it: the models that they may not ask are left out.
    ///
    /// # Errors
    /// [`EgressError::Held`], and [`EgressError::TooLarge`].
    pub(super) fn hold(
        &mut self,
        preferences: Preferences,
        body: &[u8],
    ) -> Result<(), EgressError> {
        if let Some(most) = preferences.most_body
            && body.len() as u64 > most
        {
            return Err(EgressError::TooLarge(most));
        }
        let before = self.targets.len();
        // A question for the list of models has none.
        self.targets
            .retain(|it| it.model.is_empty() || preferences.has(&it.name()));
        if self.targets.is_empty() && before > 0 {
            let asked = self.asked.as_deref().unwrap_or_default();
            let models = preferences.models.unwrap_or_default().join(", ");
            return held(format!(
                "`{asked}` is none of the models that may be asked: {models}"
            ));
        }
        if let Some(most) = preferences.most_output
            && self.costs()
        {
            let output = self.glance.most_output.unwrap_or(0);
            if output > most {
                return held(format!(
                    "an answer of {output} tokens is asked for, and {most} is the most"
                ));
            }
        }
        let looks = preferences.leaks == Some(Leaks::Block) || preferences.redacts().is_some();
        if looks && self.has_texts() && has_twins(body) {
            return held(
                "a field stands in it twice, and another may be read than is looked at".to_owned(),
            );
        }
        if preferences.leaks == Some(Leaks::Block) && self.costs() {
            let Some(found) = secrets_in(body) else {
                return held("it cannot be looked through for secrets".to_owned());
            };
            if !found.is_empty() {
                return held(format!(
                    "what looks like a secret stands in it: {}",
                    found.join(", ")
                ));
            }
        }
        self.preferences = preferences;
        self.redact(body)
    }
}

/// Whether an object in a body has a field twice, however deep; what is no JSON has none.
fn has_twins(body: &[u8]) -> bool {
    let mut twins = false;
    let mut read = serde_json::Deserializer::from_slice(body);
    // An error elsewhere is told by who reads it.
    let _ = Once(&mut twins).deserialize(&mut read);
    twins
}

/// A value whose objects have each field once.
struct Once<'t>(&'t mut bool);

impl<'de> DeserializeSeed<'de> for Once<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Once<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Once(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            *self.0 |= !names.insert(name);
            map.next_value_seed(Once(self.0))?;
        }
        Ok(())
    }
}

/// The kinds of what looks like a secret in the texts of a body, each once; nothing, when the body cannot be read.
fn secrets_in(body: &[u8]) -> Option<Vec<&'static str>> {
    let mut found = Vec::new();
    let body = serde_json::from_slice(body).ok()?;
    texts(&body, &mut |text| look(text, &mut found));
    found.truncate(MOST_NAMED);
    Some(found)
}

fn look(text: &str, found: &mut Vec<&'static str>) {
    // Keys and tokens of Skep are no business of a model.
    let is_own = |it: &str| it.len() > 20;
    let (mut scanner, mut findings) = (Scanner::new(&is_own), Vec::new());
    for (at, line) in text.lines().enumerate() {
        scanner.line(at + 1, line, &mut findings);
    }
    scanner.finish(&mut findings);
    for finding in findings {
        if finding.rule != BY_NAME && !found.contains(&finding.rule) {
            found.push(finding.rule);
        }
    }
}

/// Every text of a value, names of fields too, however deep: the parser has bounded that.
fn texts(value: &Value, look: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => look(text),
        Value::Array(all) => all.iter().for_each(|it| texts(it, look)),
        Value::Object(all) => {
            for (name, value) in all {
                look(name);
                texts(value, look);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_stands_twice_is_seen_however_deep() {
        for (body, twice) in [
            (r#"{"a":1,"b":[{"a":1},{"a":null}]}"#, false),
            (r#"{"m":[{"content":"a@b.c","content":"hi"}]}"#, true),
            (r#"{"m":[{"content":1.5,"cont\u0065nt":"hi"}]}"#, true),
            (r#"{"a":{"b":true,"b":-1}}"#, true),
            ("no", false),
        ] {
            assert_eq!(has_twins(body.as_bytes()), twice, "{body}");
        }
    }

    #[test]
    fn a_secret_is_found_in_any_text_of_a_request() {
        let key =
            "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\n-----END RSA PRIVATE KEY-----";
        let github = format!("ghp_{}", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
        let body = serde_json::json!({
            "messages": [
                { "role": "user", "content": format!("see\n{key}") },
                { "role": "tool", "content": [{ "type": "text", "text": format!("token {github}") }] },
            ],
        });
        let found = secrets_in(body.to_string().as_bytes()).unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
        let plain =
            serde_json::json!({ "messages": [{ "content": "what is a password=hunter2?" }] });
        assert!(secrets_in(plain.to_string().as_bytes()).unwrap().is_empty());
        assert_eq!(secrets_in(b"{"), None);
    }
}
