//! How a workspace, or one agent of it, wants to use models: which ones, how large, what is kept and what is held back. An
//! agent's own word counts before its workspace's. No I/O.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::personal::{self, Patterns, Personal};
use super::provider::fits;
use super::similar::Similar;
use crate::EgressError;
use crate::recordings::MOST_DAYS;

/// Whose preferences those of a whole workspace are.
pub const EVERYBODY: &str = "*";
/// The longest that an answer is given again.
pub(super) const LONGEST_CACHE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Patterns of models, and bytes of one.
const MOST_MODELS: usize = 100;
const MOST_TEXT: usize = 300;
/// Kinds of events.
const MOST_KINDS: usize = 20;

/// What becomes of a request in which a value stands that looks like a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Leaks {
    /// It goes out.
    Pass,
    /// It does not go out.
    Block,
}

impl Leaks {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Block => "block",
        }
    }

    /// The one of a word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        [Self::Pass, Self::Block]
            .into_iter()
            .find(|it| it.as_str() == word)
    }
}

/// Whether requests are looked through for what is to turn a model against who asks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Injections {
    /// They are not, but for policies that want to know.
    Off,
    /// They are, and what is found is told. It stops nothing.
    Signal,
}

impl Injections {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Signal => "signal",
        }
    }

    /// The one of a word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        [Self::Off, Self::Signal]
            .into_iter()
            .find(|it| it.as_str() == word)
    }
}

/// How freely a model chooses its words, in hundredths: 0 to 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Temperature(u8);

impl TryFrom<f64> for Temperature {
    type Error = EgressError;

    fn try_from(number: f64) -> Result<Self, EgressError> {
        let hundredths = (number * 100.0).round();
        if !(0.0..=200.0).contains(&hundredths) {
            let why = "`temperature`: a number from 0 to 2".to_owned();
            return Err(EgressError::Invalid(why));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "its bounds are looked at above"
        )]
        let hundredths = hundredths as u8;
        Ok(Self(hundredths))
    }
}

impl From<Temperature> for f64 {
    fn from(Temperature(hundredths): Temperature) -> Self {
        Self::from(hundredths) / 100.0
    }
}

/// Preferences. What is not said is the workspace's, and what that does not say is off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Preferences {
    /// Models that may be asked (`provider/model`, with `*` for any text); none: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
    /// The model that is asked when a request names `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The temperature of requests that say none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Temperature>,
    /// Bytes of a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_body: Option<u64>,
    /// Tokens of an answer that a request may ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_output: Option<u64>,
    /// For how many seconds an answer is given again to the same request; 0: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_s: Option<u64>,
    /// Kinds of events after which an answer from before is given again no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forget_on: Option<Vec<String>>,
    /// Which questions mean the same, so that an answer to one is given to the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub similar: Option<Similar>,
    /// For how many days exchanges are kept, request and answer; 0: they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record_days: Option<u32>,
    /// Whether another attempt of a call gets the answers again that the one before got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<bool>,
    /// What becomes of requests with what looks like a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaks: Option<Leaks>,
    /// Whether it is told what looks as if it were to turn a model against who asks it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub injection: Option<Injections>,
    /// What is personal and does not go out: a placeholder stands in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redact: Option<Vec<Personal>>,
    /// The same by patterns of the workspace's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redact_patterns: Option<Patterns>,
}

impl Preferences {
    /// Whether all is as it may be.
    ///
    /// # Errors
    /// [`EgressError::Invalid`], with the field.
    pub fn check(&self) -> Result<(), EgressError> {
        let wrong = |field: &str, why: String| {
            let why = format!("`{field}`: {why}");
            Err(EgressError::Invalid(why))
        };
        let is_text = |it: &String| {
            !it.is_empty() && it.len() <= MOST_TEXT && !it.chars().any(char::is_control)
        };
        if let Some(models) = &self.models
            && (models.len() > MOST_MODELS || !models.iter().all(is_text))
        {
            let why = format!("{MOST_MODELS} at most, each such as `openai/gpt-*`");
            return wrong("models", why);
        }
        if self.model.as_ref().is_some_and(|it| !is_text(it)) {
            return wrong("model", "the name of a model, or of a route".to_owned());
        }
        if self.cache_s.is_some_and(|it| it > LONGEST_CACHE.as_secs()) {
            let days = LONGEST_CACHE.as_secs() / (24 * 3600);
            return wrong("cache", format!("{days} days at most"));
        }
        if self.record_days.is_some_and(|it| it > MOST_DAYS) {
            return wrong("record", format!("{MOST_DAYS} days at most"));
        }
        let similar = self.similar();
        if similar.is_some_and(|it| !is_text(&it.model) || !it.model.contains('/')) {
            let why = "a model for embeddings, such as `openai/text-embedding-3-small`";
            return wrong("similar", why.to_owned());
        }
        if let Some(kinds) = &self.forget_on
            && (kinds.len() > MOST_KINDS || !kinds.iter().all(is_text))
        {
            let why = format!("{MOST_KINDS} kinds of events at most, such as `agent.deployed`");
            return wrong("forget_on", why);
        }
        if let Some(patterns) = &self.redact_patterns {
            personal::check(patterns)?;
        }
        match (self.most_body, self.most_output) {
            (Some(0), _) => wrong("most_body", "1 at least".to_owned()),
            (_, Some(0)) => wrong("most_output", "1 at least".to_owned()),
            _ => Ok(()),
        }
    }

    /// These, and the others' where these say nothing.
    #[must_use]
    pub fn or(&self, others: &Self) -> Self {
        let (own, others) = (self.clone(), others.clone());
        Self {
            models: own.models.or(others.models),
            model: own.model.or(others.model),
            temperature: own.temperature.or(others.temperature),
            most_body: own.most_body.or(others.most_body),
            most_output: own.most_output.or(others.most_output),
            cache_s: own.cache_s.or(others.cache_s),
            forget_on: own.forget_on.or(others.forget_on),
            similar: own.similar.or(others.similar),
            record_days: own.record_days.or(others.record_days),
            replay: own.replay.or(others.replay),
            leaks: own.leaks.or(others.leaks),
            injection: own.injection.or(others.injection),
            redact: own.redact.or(others.redact),
            redact_patterns: own.redact_patterns.or(others.redact_patterns),
        }
    }

    /// Whether a model (`provider/model`) may be asked.
    #[must_use]
    pub fn has(&self, model: &str) -> bool {
        let models = self.models.as_ref();
        models.is_none_or(|all| all.iter().any(|it| fits(it, model)))
    }

    /// How long an answer is given again, unless the request says it; nothing: only if it says so.
    pub(super) fn cache(&self) -> Option<Duration> {
        self.cache_s.map(Duration::from_secs)
    }

    pub(super) fn to_text(&self) -> String {
        // Texts and numbers alone: it cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(super) fn from_text(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agents_word_counts_before_its_workspaces() {
        let all = Preferences {
            models: Some(vec!["openai/*".to_owned()]),
            cache_s: Some(60),
            record_days: Some(30),
            ..Preferences::default()
        };
        let own = Preferences {
            cache_s: Some(0),
            leaks: Some(Leaks::Block),
            ..Preferences::default()
        };
        let both = own.or(&all);
        assert_eq!(both.cache(), Some(Duration::ZERO));
        assert_eq!(
            (both.record_days, both.leaks),
            (Some(30), Some(Leaks::Block))
        );
        assert!(both.has("openai/gpt-4o") && !both.has("anthropic/claude"));
        assert!(own.has("anthropic/claude"));
        assert_eq!(Preferences::from_text(&both.to_text()).unwrap(), both);
    }

    #[test]
    fn a_temperature_is_a_number_from_0_to_2() {
        let of = |text: &str| Preferences::from_text(&format!("{{\"temperature\":{text}}}"));
        for text in ["0.0", "0.7", "0.29", "2.0"] {
            let made = of(text).unwrap();
            assert_eq!(made.to_text(), format!("{{\"temperature\":{text}}}"));
        }
        for wrong in ["-0.1", "2.1", "1e300", "\"1\""] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = Preferences::default();
        good.check().unwrap();
        for (field, wrong) in [
            (
                "models",
                Preferences {
                    models: Some(vec![String::new()]),
                    ..good.clone()
                },
            ),
            (
                "model",
                Preferences {
                    model: Some("a\nb".to_owned()),
                    ..good.clone()
                },
            ),
            (
                "cache",
                Preferences {
                    cache_s: Some(u64::MAX),
                    ..good.clone()
                },
            ),
            (
                "record",
                Preferences {
                    record_days: Some(MOST_DAYS + 1),
                    ..good.clone()
                },
            ),
            (
                "most_body",
                Preferences {
                    most_body: Some(0),
                    ..good.clone()
                },
            ),
            (
                "most_output",
                Preferences {
                    most_output: Some(0),
                    ..good.clone()
                },
            ),
        ] {
            let told = wrong.check().unwrap_err().to_string();
            assert!(told.starts_with(&format!("`{field}`")), "{told}");
        }
    }
}
