//! What models cost: a table with a version, shipped with the binary, in which a workspace or a server may put prices of
//! its own.

use std::collections::HashMap;

use serde::Deserialize;
use skep_core::Timestamp;
use skep_dialects::Usage;

use crate::money::Money;

/// The table that is shipped. How it is kept: `docs/models.md`.
const SHIPPED: &str = include_str!("../../prices.toml");
/// Tokens that a price is for.
const PER: i128 = 1_000_000;
/// What an answer has at most when neither the request nor the table says so, in tokens.
const MOST_OUTPUT: u64 = 16_384;

/// US dollars for a million tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Rates {
    input: Money,
    cache_read: Money,
    cache_write: Money,
    output: Money,
}

/// Prices of one model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Price {
    rates: Rates,
    /// Of prompts with more tokens than these, by their numbers, growing.
    tiers: Vec<(u64, Rates)>,
    /// The longest answer that it gives.
    most_output: Option<u64>,
}

/// Prices of one model, each with the day from which it holds, growing.
type Since = Vec<(i64, Price)>;

/// A table of prices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prices {
    version: String,
    models: HashMap<(String, String), Since>,
}

/// A table is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the price table: {0}")]
pub struct BadPrices(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: String,
    #[serde(default)]
    provider: Vec<Section>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    name: String,
    #[expect(dead_code, reason = "it is for who looks the table over")]
    source: Option<String>,
    #[expect(dead_code, reason = "batches are not let out yet")]
    batch: Option<String>,
    same_as: Option<String>,
    only: Option<Vec<String>>,
    #[serde(default)]
    model: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    names: Vec<String>,
    from: Option<String>,
    input: String,
    cached_input: Option<String>,
    cache_write: Option<String>,
    #[expect(
        dead_code,
        reason = "providers' usage is not read for how long it is kept"
    )]
    cache_write_long: Option<String>,
    output: Option<String>,
    most_output: Option<u64>,
    #[serde(default)]
    tiers: Vec<Tier>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tier {
    above: u64,
    input: String,
    cached_input: Option<String>,
    cache_write: Option<String>,
    #[expect(dead_code, reason = "as above")]
    cache_write_long: Option<String>,
    output: Option<String>,
}

impl Rates {
    /// Of the prices of input, of what is read from and written to a cache, and of output. What is not said of a cache
    /// costs what input does.
    fn read(input: &str, others: [&Option<String>; 3]) -> Result<Self, String> {
        let money = |text: &str| text.parse::<Money>().map_err(|error| error.to_string());
        let or = |text: &Option<String>, other| text.as_deref().map_or(Ok(other), money);
        let input = money(input)?;
        let [cache_read, cache_write, output] = others;
        Ok(Self {
            input,
            cache_read: or(cache_read, input)?,
            cache_write: or(cache_write, input)?,
            output: or(output, Money::ZERO)?,
        })
    }
}

/// The day of a text such as `2026-11-22`, in days since 1970-01-01.
fn day(text: &str) -> Result<i64, String> {
    let begins = Timestamp::of_date(text).map_err(|_| format!("`{text}` is no day"))?;
    Ok(begins.day())
}

impl Price {
    fn read(entry: &Entry) -> Result<Self, String> {
        let mut tiers = Vec::new();
        for tier in &entry.tiers {
            if tiers.last().is_some_and(|(above, _)| *above >= tier.above) {
                return Err("tiers grow".to_owned());
            }
            let others = [&tier.cached_input, &tier.cache_write, &tier.output];
            tiers.push((tier.above, Rates::read(&tier.input, others)?));
        }
        let others = [&entry.cached_input, &entry.cache_write, &entry.output];
        Ok(Self {
            rates: Rates::read(&entry.input, others)?,
            tiers,
            most_output: entry.most_output,
        })
    }

    /// What tokens cost: exact, and rounded up once to a billionth of a dollar.
    #[must_use]
    pub fn cost(&self, usage: &Usage) -> Money {
        let of_prompt = |(above, _): &&(u64, Rates)| usage.input > *above;
        let tier = self.tiers.iter().rev().find(of_prompt);
        let rates = tier.map_or(&self.rates, |(_, rates)| rates);
        let cached = usage.cache_read.saturating_add(usage.cache_write);
        let parts = [
            (usage.input.saturating_sub(cached), rates.input),
            (usage.cache_read, rates.cache_read),
            (usage.cache_write, rates.cache_write),
            (usage.output, rates.output),
        ];
        let cost = |(tokens, rate): &(u64, Money)| i128::from(*tokens) * i128::from(rate.nanos());
        let whole: i128 = parts.iter().map(cost).sum();
        let nanos = (whole + PER - 1) / PER;
        Money::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
    }

    /// What so many tokens cost at most, whatever of them comes from or goes to a cache.
    #[must_use]
    pub fn most(&self, input: u64, output: u64) -> Money {
        let plain = Usage {
            input,
            output,
            ..Usage::default()
        };
        let written = Usage {
            cache_write: input,
            ..plain
        };
        self.cost(&plain).max(self.cost(&written))
    }

    /// The longest answer to a request that does not say how long it may be, in tokens.
    #[must_use]
    pub fn longest(&self) -> u64 {
        self.most_output.unwrap_or(MOST_OUTPUT)
    }
}

impl Prices {
    /// The table that is shipped.
    ///
    /// # Errors
    /// [`BadPrices`]; a test keeps it from being.
    pub fn shipped() -> Result<Self, BadPrices> {
        Self::read(SHIPPED)
    }

    /// A table of a text in TOML.
    ///
    /// # Errors
    /// [`BadPrices`], with what is wrong.
    pub fn read(text: &str) -> Result<Self, BadPrices> {
        let file: File = toml::from_str(text).map_err(|error| BadPrices(error.to_string()))?;
        let mut models: HashMap<(String, String), Since> = HashMap::new();
        for section in &file.provider {
            for entry in &section.model {
                let of = entry.names.join(", ");
                let wrong = |why: String| BadPrices(format!("{}/{of}: {why}", section.name));
                let price = Price::read(entry).map_err(wrong)?;
                let from = entry.from.as_deref().map_or(Ok(i64::MIN), day);
                let from = from.map_err(wrong)?;
                for name in &entry.names {
                    let since = models
                        .entry((section.name.clone(), name.clone()))
                        .or_default();
                    if since.last().is_some_and(|(before, _)| *before >= from) {
                        let why = "it stands there twice, or days do not grow".to_owned();
                        return Err(wrong(why));
                    }
                    since.push((from, price.clone()));
                }
            }
        }
        for section in &file.provider {
            let Some(other) = &section.same_as else {
                continue;
            };
            for name in section.only.iter().flatten() {
                let key = (other.clone(), name.clone());
                let since = models.get(&key).cloned().ok_or_else(|| {
                    BadPrices(format!(
                        "{}/{name}: `{other}` does not have it",
                        section.name
                    ))
                })?;
                models.insert((section.name.clone(), name.clone()), since);
            }
        }
        let version = file.version;
        Ok(Self { version, models })
    }

    /// This table, in which another's prices take the place of those of the same models.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        self.version = format!("{}+{}", self.version, other.version);
        self.models.extend(other.models);
        self
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What a model of a kind of provider costs now. A dated name (`gpt-4o-2024-08-06`, `claude-…-20250514`) that is not
    /// in the table costs what the one without the date does.
    #[must_use]
    pub fn price(&self, kind: &str, model: &str, now: Timestamp) -> Option<&Price> {
        let today = now.day();
        let find = |model: &str| {
            let since = self.models.get(&(kind.to_owned(), model.to_owned()))?;
            let begun = since.iter().rev().find(|(from, _)| *from <= today);
            begun.map(|(_, price)| price)
        };
        find(model).or_else(|| find(undated(model)?))
    }
}

/// A name without the date at its end.
pub(super) fn undated(model: &str) -> Option<&str> {
    let digits = |text: &str, count: usize| {
        text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let (rest, last) = model.rsplit_once('-')?;
    if digits(last, 8) {
        return Some(rest);
    }
    let (rest, month) = rest.rsplit_once('-')?;
    let (rest, year) = rest.rsplit_once('-')?;
    (digits(last, 2) && digits(month, 2) && digits(year, 4)).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = r#"
        version = "1"
        [[provider]]
        name = "openai"
        [[provider.model]]
        names = ["gpt", "gpt-latest"]
        input = "0.15"
        cached_input = "0.0375"
        output = "0.60"
        most_output = 1000
        tiers = [{ above = 100, input = "0.30", output = "1.20" }]
        [[provider.model]]
        names = ["gpt"]
        from = "2030-01-01"
        input = "0.05"
        [[provider]]
        name = "azure"
        same_as = "openai"
        only = ["gpt"]
    "#;

    fn now() -> Timestamp {
        Timestamp::from_micros(1_763_769_600_000_000)
    }

    fn usage(input: u64, cache_read: u64, output: u64) -> Usage {
        Usage {
            input,
            cache_read,
            output,
            ..Usage::default()
        }
    }

    #[test]
    fn tokens_cost_what_the_table_says_to_the_billionth() {
        let prices = Prices::read(TABLE).unwrap();
        let price = prices.price("openai", "gpt", now()).unwrap();
        assert_eq!(price.cost(&usage(100, 0, 0)).nanos(), 15_000);
        assert_eq!(
            price.cost(&usage(100, 40, 10)).nanos(),
            9_000 + 1_500 + 6_000
        );
        // One cached token is 37.5 billionths: nobody is charged less than it costs.
        assert_eq!(price.cost(&usage(1, 1, 0)).nanos(), 38);
        // A long prompt costs more, all of it.
        assert_eq!(price.cost(&usage(101, 0, 1)).nanos(), 101 * 300 + 1_200);
        let most = usage(u64::MAX, u64::MAX, u64::MAX);
        assert_eq!(price.cost(&most).nanos(), i64::MAX);
        assert_eq!(price.longest(), 1_000);
    }

    #[test]
    fn a_name_with_a_date_is_the_one_without() {
        let prices = Prices::read(TABLE).unwrap();
        for (name, known) in [
            ("gpt", true),
            ("gpt-latest", true),
            ("gpt-2024-08-06", true),
            ("gpt-20240806", true),
            ("gpt-mini", false),
            ("gpt-24-08-06", false),
        ] {
            assert_eq!(
                prices.price("openai", name, now()).is_some(),
                known,
                "{name}"
            );
        }
        assert_eq!(
            prices.price("azure", "gpt", now()),
            prices.price("openai", "gpt", now())
        );
        assert!(prices.price("azure", "gpt-latest", now()).is_none());
        // 2030-01-01, and the second before.
        for (second, nanos) in [(1_893_455_999, 150), (1_893_456_000, 50)] {
            let then = Timestamp::from_micros(second * 1_000_000);
            let price = prices.price("openai", "gpt", then).unwrap();
            assert_eq!(price.cost(&usage(1, 0, 0)).nanos(), nanos);
        }
    }

    #[test]
    fn one_table_goes_over_another() {
        let own = TABLE.replace("0.15", "9").replace("\"1\"", "\"own\"");
        let both = Prices::read(TABLE)
            .unwrap()
            .with(Prices::read(&own).unwrap());
        assert_eq!(both.version(), "1+own");
        let price = both.price("openai", "gpt", now()).unwrap();
        assert_eq!(price.cost(&usage(1, 0, 0)).nanos(), 9_000);
    }

    #[test]
    fn a_table_that_is_wrong_says_where() {
        for (from, to, told) in [
            ("0.15", "0,15", "openai/gpt"),
            ("\"gpt-latest\"", "\"gpt\"", "twice"),
            ("most_output", "mst_output", "mst_output"),
            ("2030-01-01", "2030-13-01", "no day"),
            ("only = [\"gpt\"]", "only = [\"x\"]", "azure/x"),
            (
                "above = 100, input = \"0.30\"",
                "above = 100, input = \"x\"",
                "openai/gpt",
            ),
        ] {
            let error = Prices::read(&TABLE.replace(from, to))
                .unwrap_err()
                .to_string();
            assert!(error.contains(told), "{error}");
        }
        Prices::shipped().unwrap();
    }
}
