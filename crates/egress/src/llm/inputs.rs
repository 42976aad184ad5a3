//! What policies are told of a request to a model: how large it is, and what was found in it. Nothing is looked for that
//! nobody wants to know.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::Value;

use super::guard::{secrets_in, understood};
use super::injection::{Injection, TOLD};
use super::personal::{Patterns, personal_in};
use super::plan::Plan;
use super::preferences::{Injections, Preferences};
use crate::EgressError;

/// Bodies that are larger are looked through where others do not wait for it.
const LARGE: usize = 64 << 10;

/// What policies want to know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Looks {
    /// What is personal.
    pub pii: bool,
    /// What looks like a secret.
    pub secrets: bool,
    /// What looks as if it were to turn the model against who asks it.
    pub injection: bool,
}

/// What is known of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Its bytes.
    pub body_bytes: u64,
    /// Tokens of an answer that it asks for at most.
    pub output_tokens: Option<u64>,
    /// Kinds of what is personal in it.
    pub pii: BTreeSet<String>,
    /// Kinds of what looks like a secret in it.
    pub secrets: BTreeSet<String>,
    /// What looks as if it were to turn the model against who asks it.
    pub injection: Injection,
}

impl Inputs {
    /// What is told of an injection, when it is worth it: kinds and numbers, and nothing of the request.
    #[must_use]
    pub fn told(&self) -> Option<String> {
        let score = self.injection.score();
        let signals: Vec<String> = self.injection.signals().into_iter().collect();
        (score >= TOLD).then(|| format!("{} (score {score})", signals.join(", ")))
    }

    fn look(&mut self, body: &[u8], looks: Looks, patterns: &Patterns) -> Result<(), EgressError> {
        let strict = looks.pii || looks.secrets || looks.injection;
        let value = match understood(body) {
            Ok(value) => value,
            Err(error) if strict => return Err(error),
            // Who is only told of it is told of what can be read.
            Err(_) => serde_json::from_slice(body).unwrap_or(Value::Null),
        };
        if looks.pii {
            self.pii = personal_in(&value, patterns)?;
        }
        if looks.secrets {
            self.secrets = secrets_in(&value).into_iter().map(str::to_owned).collect();
        }
        self.injection.request(&value);
        Ok(())
    }
}

/// Work on a body: a large one does not hold up others.
async fn aside<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, EgressError> + Send + 'static,
) -> Result<T, EgressError> {
    if bytes < LARGE {
        return work();
    }
    let done = tokio::task::spawn_blocking(work).await;
    // It is cut off when the server ends.
    done.map_err(|_| EgressError::Busy)?
}

impl Plan {
    /// The request, held against the preferences of who sends it ([`Plan::hold`]).
    ///
    /// # Errors
    /// As there.
    pub(super) async fn held(
        self,
        preferences: Preferences,
        body: &Bytes,
    ) -> Result<Self, EgressError> {
        let mut plan = self;
        let said = preferences.temperature.filter(|_| plan.costs());
        if let Some(temperature) = said {
            plan.warm(body, temperature.into());
        }
        let body = plan.body.as_ref().unwrap_or(body).clone();
        let bytes = body.len();
        let looks = preferences.looks();
        let work = move || {
            plan.hold(preferences, &body)?;
            Ok(plan)
        };
        aside(if looks { bytes } else { 0 }, work).await
    }

    /// What is known of the request, and what policies want to know. `body`: what came in.
    ///
    /// # Errors
    /// [`EgressError::Held`], when a policy wants to know what cannot be looked through.
    pub async fn inputs(&self, body: &Bytes, looks: Looks) -> Result<Inputs, EgressError> {
        let body = self.body.as_ref().unwrap_or(body).clone();
        let mut inputs = Inputs {
            body_bytes: body.len() as u64,
            output_tokens: self.glance.most_output,
            ..Inputs::default()
        };
        let signals = self.preferences.injection == Some(Injections::Signal);
        let any = signals || looks != Looks::default();
        if !any || !self.has_texts() {
            return Ok(inputs);
        }
        let patterns = self.preferences.redact_patterns.clone().unwrap_or_default();
        let work = move || {
            inputs.look(&body, looks, &patterns)?;
            Ok(inputs)
        };
        aside(usize::try_from(self.body_bytes).unwrap_or(usize::MAX), work).await
    }
}
