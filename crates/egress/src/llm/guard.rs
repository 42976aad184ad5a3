//! What a request may not be: of a model that its sender may not ask, too large, or with a secret in it. No I/O.

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

impl Preferences {
    /// Whether requests are looked through before they go out.
    pub(super) fn looks(&self) -> bool {
        self.leaks == Some(Leaks::Block) || self.redacts().is_some()
    }
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
        let blocks = preferences.leaks == Some(Leaks::Block);
        if !preferences.looks() || !self.has_texts() {
            self.preferences = preferences;
            return Ok(());
        }
        let value = understood(body)?;
        if blocks && self.costs() {
            let mut found = secrets_in(&value);
            found.truncate(MOST_NAMED);
            if !found.is_empty() {
                return held(format!(
                    "what looks like a secret stands in it: {}",
                    found.join(", ")
                ));
            }
        }
        self.preferences = preferences;
        self.redact(value)
    }
}

/// A body that says one thing alone: with a field twice in one object, another could be read than is looked at.
pub(super) fn understood(body: &[u8]) -> Result<Value, EgressError> {
    let text = std::str::from_utf8(body).map_err(|_| "it is no text".to_owned());
    let value = text.and_then(skep_mcp::strict);
    value.map_err(|why| EgressError::Held(format!("it cannot be looked through: {why}")))
}

/// The kinds of what looks like a secret in the texts of a body, each once.
pub(super) fn secrets_in(body: &Value) -> Vec<&'static str> {
    let mut found = Vec::new();
    texts(body, &mut |text| look(text, &mut found));
    found
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
            ("no", true),
        ] {
            let told = understood(body.as_bytes());
            assert_eq!(told.is_err(), twice, "{body}");
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
        let found = secrets_in(&body);
        assert_eq!(found.len(), 2, "{found:?}");
        let plain =
            serde_json::json!({ "messages": [{ "content": "what is a password=hunter2?" }] });
        assert!(secrets_in(&plain).is_empty());
        assert!(understood(b"{").is_err());
    }

    #[test]
    fn no_kind_is_left_out_for_others() {
        let letters = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8";
        let first = |count: usize| letters.get(..count).unwrap();
        let tokens = [
            format!("gl{}-{}", "pat", first(20)),
            format!("xo{}-{}", "xb", first(24)),
            format!("sk_{}_{}", "live", first(24)),
            format!("np{}_{}", "m", first(36)),
            format!("AI{}{}", "za", first(35)),
            format!("do{}_v1_{}", "p", "0123456789abcdef".repeat(4)),
            format!("gh{}_{}", "p", letters),
        ];
        let body = serde_json::json!({ "input": tokens });
        let found = secrets_in(&body);
        assert!(found.len() > MOST_NAMED, "{found:?}");
        assert!(found.contains(&"github-token"), "{found:?}");
    }
}
