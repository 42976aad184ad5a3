//! Routes: a name that agents ask for as for a model, and the models that answer in its place. No I/O.

use serde::{Deserialize, Serialize};

use super::bound::Bound;
use super::provider::check_name;
use crate::EgressError;

/// Models of one route.
const MOST_LEGS: usize = 16;
/// The largest weight.
const MOST_WEIGHT: u32 = 10_000;
/// How often one model is asked in a row, at most.
const MOST_TRIES: u32 = 5;
/// Bytes of a model's name.
const MOST_TEXT: usize = 300;

/// Who of a route is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pick {
    /// The first; the next one when it cannot.
    Ordered,
    /// By chance, as their weights say.
    Weighted,
    /// Who began to answer the soonest of late.
    Fastest,
}

/// A model of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    /// `provider/model`.
    pub model: String,
    /// How often it is asked first, beside the others'. Only weighted routes look at it.
    #[serde(default = "one")]
    pub weight: u32,
}

const fn one() -> u32 {
    1
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What is asked for.
    pub name: String,
    /// Who is asked first.
    pub pick: Pick,
    /// How often one is asked in a row before the next one is.
    pub tries: u32,
    /// Who answers.
    pub legs: Vec<Leg>,
    /// When its newest version goes, and the one before comes back.
    pub bound: Option<Bound>,
}

/// A route as its row has it.
#[derive(Serialize, Deserialize)]
struct Stored {
    pick: Pick,
    tries: u32,
    legs: Vec<Leg>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bound: Option<Bound>,
}

impl Pick {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ordered, Self::Weighted, Self::Fastest];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ordered => "ordered",
            Self::Weighted => "weighted",
            Self::Fastest => "fastest",
        }
    }

    /// The one of a word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == word)
    }
}

impl Route {
    /// Whether all is as it may be.
    ///
    /// # Errors
    /// [`EgressError::Invalid`], with the field.
    pub fn check(&self) -> Result<(), EgressError> {
        let wrong = |field: &str, why: &str| Err(EgressError::Invalid(format!("`{field}`: {why}")));
        check_name(&self.name)?;
        if !(1..=MOST_TRIES).contains(&self.tries) {
            return wrong("tries", "1 to 5");
        }
        if self.legs.is_empty() || self.legs.len() > MOST_LEGS {
            return wrong("models", "1 to 16 of them");
        }
        for (place, leg) in self.legs.iter().enumerate() {
            let parts = leg.model.split_once('/');
            let whole = parts.is_some_and(|(provider, model)| {
                !provider.is_empty() && !model.is_empty() && leg.model.len() <= MOST_TEXT
            });
            if !whole || leg.model.chars().any(char::is_control) {
                return wrong("models", "each is written as `provider/model`");
            }
            let before = self.legs.iter().take(place);
            if before.clone().any(|it| it.model == leg.model) {
                return wrong("models", "one stands there twice");
            }
            if leg.weight > MOST_WEIGHT {
                return wrong("models", "a weight is 10000 at most");
            }
        }
        match self.legs.iter().all(|leg| leg.weight == 0) {
            true => wrong("models", "one of them has a weight"),
            false => self.bound.map_or(Ok(()), |it| it.check()),
        }
    }

    pub(super) fn to_text(&self) -> String {
        let stored = Stored {
            pick: self.pick,
            tries: self.tries,
            legs: self.legs.clone(),
            bound: self.bound,
        };
        // Texts and numbers alone: it cannot fail.
        serde_json::to_string(&stored).unwrap_or_default()
    }

    pub(super) fn from_text(name: &str, text: &str) -> Result<Self, serde_json::Error> {
        let stored = serde_json::from_str(text)?;
        let Stored {
            pick,
            tries,
            legs,
            bound,
        } = stored;
        let name = name.to_owned();
        Ok(Self {
            name,
            pick,
            tries,
            legs,
            bound,
        })
    }
}

/// The chance of a thread, which is the same each time: who answered it goes on to.
pub(super) fn chance_of(route: &str, thread: &[u8]) -> u64 {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    hash.update((route.len() as u64).to_be_bytes());
    hash.update(route.as_bytes());
    hash.update(thread);
    let whole: [u8; 32] = hash.finalize().into();
    let mut first = [0; 8];
    first.copy_from_slice(&whole[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(models: &[(&str, u32)]) -> Route {
        let leg = |(model, weight): &(&str, u32)| Leg {
            model: (*model).to_owned(),
            weight: *weight,
        };
        Route {
            name: "fast".to_owned(),
            pick: Pick::Weighted,
            tries: 2,
            legs: models.iter().map(leg).collect(),
            bound: None,
        }
    }

    #[test]
    fn a_route_that_is_wrong_says_where() {
        let good = route(&[("a/x", 9), ("b/y/z", 1)]);
        good.check().unwrap();
        assert_eq!(Route::from_text("fast", &good.to_text()).unwrap(), good);
        let seventeen: Vec<String> = (0..17).map(|it| format!("a/{it}")).collect();
        let many: Vec<(&str, u32)> = seventeen.iter().map(|it| (it.as_str(), 1)).collect();
        let named = |name: &str| Route {
            name: name.to_owned(),
            ..good.clone()
        };
        let tried = |tries| Route {
            tries,
            ..good.clone()
        };
        for (field, wrong) in [
            ("name", named("a/b")),
            ("name", named("")),
            ("tries", tried(0)),
            ("tries", tried(6)),
            ("models", route(&[])),
            ("models", route(&[("x", 1)])),
            ("models", route(&[("/x", 1)])),
            ("models", route(&[("a/", 1)])),
            ("models", route(&[("a/x", 1), ("a/x", 1)])),
            ("models", route(&[("a/x", 0)])),
            ("models", route(&[("a/x", 10_001)])),
            ("models", route(&many)),
        ] {
            let told = wrong.check().unwrap_err().to_string();
            assert!(told.starts_with(&format!("`{field}`")), "{told}");
        }
    }

    #[test]
    fn a_thread_has_the_same_chance_each_time() {
        assert_eq!(chance_of("fast", b"one"), chance_of("fast", b"one"));
        assert_ne!(chance_of("fast", b"one"), chance_of("fast", b"two"));
        assert_ne!(chance_of("fasto", b"ne"), chance_of("fast", b"one"));
    }
}
