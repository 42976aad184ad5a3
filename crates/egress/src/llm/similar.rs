//! Answers to questions that mean the same: what a request asks last becomes a vector, and the answer to the question whose
//! vector is the nearest is given again, if it is near enough and all else was the same.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body_util::{BodyExt as _, Limited};
use serde::{Deserialize, Serialize};
use serde_json::json;
use skep_dialects::{Question, embedding, same};

use super::plan::Plan;
use super::preferences::Preferences;
use super::provider::Door;
use super::service::{Models, Who, Witness};
use crate::EgressError;

/// Bytes of a question; a longer one is not compared.
const MOST_TEXT: usize = 16 << 10;
/// Bytes of the answer that has its vector.
const MOST_ANSWER: usize = 1 << 20;
/// How long the vector of a question may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where embeddings are asked for.
const EMBEDDINGS: &str = "/v1/embeddings";

/// How near two questions must be to mean the same: the cosine of their vectors, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Nearness(u16);

impl TryFrom<f64> for Nearness {
    type Error = EgressError;

    fn try_from(number: f64) -> Result<Self, EgressError> {
        let thousandths = (number * 1_000.0).round();
        if !(500.0..=1_000.0).contains(&thousandths) {
            let why = "`similar`: how near is a number from 0.5 to 1".to_owned();
            return Err(EgressError::Invalid(why));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "its bounds are looked at above"
        )]
        let thousandths = thousandths as u16;
        Ok(Self(thousandths))
    }
}

impl From<Nearness> for f64 {
    fn from(Nearness(thousandths): Nearness) -> Self {
        Self::from(thousandths) / 1_000.0
    }
}

/// Which questions mean the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Similar {
    /// The model that makes vectors of them (`provider/model`); empty: none means the same as another.
    pub model: String,
    /// How near they are.
    pub least: Nearness,
}

/// A vector of length one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Vector(Arc<[f32]>);

impl Vector {
    /// The same direction; nothing for what has none.
    pub(super) fn of(numbers: &[f32]) -> Option<Self> {
        let square: f64 = numbers.iter().map(|it| f64::from(*it).powi(2)).sum();
        let length = square.sqrt();
        if !length.is_finite() || length == 0.0 {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a part of a length of one is a number of these"
        )]
        let parts = numbers.iter().map(|it| (f64::from(*it) / length) as f32);
        Some(Self(parts.collect()))
    }

    /// How near another is: the cosine, 1 for the same; nothing, when they are of different models.
    pub(super) fn near(&self, other: &Self) -> Option<f64> {
        let pairs = || self.0.iter().zip(other.0.iter());
        let same = self.0.len() == other.0.len();
        same.then(|| pairs().map(|(a, b)| f64::from(*a) * f64::from(*b)).sum())
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|it| it.to_le_bytes()).collect()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks();
        let numbers = numbers.iter().map(|it| f32::from_le_bytes(*it));
        rest.is_empty().then(|| Self(numbers.collect()))
    }
}

/// What is asked last of a request, as it is compared.
pub(super) struct Near {
    pub(super) vector: Vector,
    /// How near another must be.
    pub(super) least: f64,
    /// All of the request but this.
    pub(super) around: Vec<u8>,
}

impl Preferences {
    /// Which questions mean the same, if any do.
    #[must_use]
    pub fn similar(&self) -> Option<&Similar> {
        self.similar.as_ref().filter(|it| !it.model.is_empty())
    }
}

impl Plan {
    /// The model that makes a vector of what is asked, if the answer may be one to another question.
    #[must_use]
    pub fn compares(&self) -> Option<&str> {
        let could = self.costs() && self.masked.is_none();
        let similar = self.preferences.similar().filter(|_| could);
        similar.map(|it| it.model.as_str())
    }

    /// The answer is to be one to this question alone.
    pub fn compares_not(&mut self) {
        self.preferences.similar = None;
    }
}

impl Models {
    /// The vector of what a request asks last: an exchange of its own.
    pub(super) async fn near(
        &self,
        (plan, who): (&Plan, &Who),
        body: &Bytes,
        witness: &Arc<dyn Witness>,
    ) -> Option<Near> {
        plan.compares()?;
        let similar = plan.preferences.similar()?;
        let question = Question::of(plan.dialect, body)?;
        if question.text.is_empty() || question.text.len() > MOST_TEXT {
            return None;
        }
        let vector = self.vector(who, (&similar.model, &question.text), witness);
        let vector = match tokio::time::timeout(PATIENCE, vector).await {
            Ok(Ok(vector)) => vector,
            Ok(Err(error)) => {
                tracing::warn!(model = similar.model, %error, "a question has no vector");
                return None;
            }
            Err(_) => {
                tracing::warn!(model = similar.model, "a question has no vector in time");
                return None;
            }
        };
        let (before, after) = (body.get(..question.at.start)?, body.get(question.at.end..)?);
        let rest = same(&[before, b"\"\"", after].concat());
        let around = [&rest, b"\0".as_slice(), similar.model.as_bytes()].concat();
        Some(Near {
            vector,
            least: similar.least.into(),
            around,
        })
    }

    /// Boxed: it is asked for on the way to another answer.
    fn vector<'a>(
        &'a self,
        who: &'a Who,
        asked: (&'a str, &'a str),
        witness: &'a Arc<dyn Witness>,
    ) -> Pin<Box<dyn Future<Output = Result<Vector, EgressError>> + Send + 'a>> {
        Box::pin(self.made(who, asked, witness))
    }

    async fn made(
        &self,
        who: &Who,
        (model, text): (&str, &str),
        witness: &Arc<dyn Witness>,
    ) -> Result<Vector, EgressError> {
        let body = json!({ "model": model, "input": text, "encoding_format": "float" });
        let body = Bytes::from(body.to_string());
        let known = self.known(&who.workspace).await?;
        let all = (&*known.providers, &*known.routes, None);
        let asked = (&Method::POST, EMBEDDINGS, None);
        let mut plan = Plan::read(all, Door::OpenAi, asked, &body)?;
        // The same question has the same vector for as long as answers are kept.
        plan.preferences.cache_s = known.preferences_of(who).cache_s;
        let mut headers = HeaderMap::new();
        headers.insert(
            http::header::CONTENT_TYPE,
            http::HeaderValue::from_static("application/json"),
        );
        let sent = self.send(plan, who, (&headers, &body), witness.clone());
        let answer = sent.await?;
        let unusable = |why: String| EgressError::Unusable {
            provider: model.to_owned(),
            why,
        };
        let status = answer.status();
        let whole = Limited::new(answer.into_body(), MOST_ANSWER)
            .collect()
            .await;
        let whole = whole
            .map_err(|error| unusable(error.to_string()))?
            .to_bytes();
        let numbers = embedding(&whole).filter(|_| status.is_success());
        let unit = numbers.and_then(|it| Vector::of(&it));
        unit.ok_or_else(|| unusable(format!("status {status}, and no embedding in it")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn vectors_come_back_and_the_nearest_of_all_is_itself(
            numbers in proptest::collection::vec(-1e3_f32..1e3, 1..64),
            others in proptest::collection::vec(-1e3_f32..1e3, 1..64),
        ) {
            prop_assume!(numbers.iter().any(|it| it.abs() > 1e-3));
            let own = Vector::of(&numbers).unwrap();
            prop_assert_eq!(Vector::from_bytes(&own.to_bytes()), Some(own.clone()));
            prop_assert!((own.near(&own).unwrap() - 1.0).abs() < 1e-5);
            if let Some(other) = Vector::of(&others) {
                let near = own.near(&other);
                prop_assert_eq!(near.is_some(), numbers.len() == others.len());
                prop_assert!(near.is_none_or(|it| it <= 1.0 + 1e-5));
            }
        }
    }

    #[test]
    fn what_has_no_direction_is_no_vector() {
        assert_eq!(Vector::of(&[]), None);
        assert_eq!(Vector::of(&[0.0, 0.0]), None);
        assert_eq!(Vector::of(&[f32::NAN]), None);
        assert_eq!(Vector::from_bytes(&[1, 2, 3]), None);
        let (east, north) = (
            Vector::of(&[2.0, 0.0]).unwrap(),
            Vector::of(&[0.0, 3.0]).unwrap(),
        );
        assert_eq!(east.near(&north), Some(0.0));
    }

    #[test]
    fn how_near_is_a_number_from_a_half_to_one() {
        let of = |number: f64| Nearness::try_from(number).map(f64::from);
        assert_eq!(of(0.95).unwrap(), 0.95);
        for wrong in [0.0, 0.4, 1.1, f64::NAN, -1.0] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
