//! How models are used, and what is kept of exchanges with them.

use std::collections::BTreeMap;

use clap::Args;
use skep_api::{
    ForgetAnswers, ModelExchange, ModelSettings, NewModelSettings, NewScore, SimilarQuestions,
};
use skep_core::{Timestamp, units};

use crate::failure::{Failure, Result};
use crate::output::{Format, Row, age};
use crate::session::Session;
use crate::table::clean_lines;

/// Whose settings are those of a whole workspace.
const EVERYBODY: &str = "*";
const DAY: u64 = 24 * 3600;

/// Flags of `models set`.
#[derive(Debug, Args)]
#[command(after_help = "\
What is not given stays as it is. What an agent has of its own counts before what
everybody has; `--unset` takes a setting back.

An answer is given again only to the same request to the same model, unless
--similar says which questions mean the same; a request says more in the header
Skep-Cache: `no-cache`, `no-store`, `exact`, `max-age=SECONDS`, `tag=NAME`.
Exchanges are kept encrypted.

Examples:
  skep models set --cache 1h --record 30d --leaks block
  skep models set --agent ada --allow 'openai/gpt-*' --most-output 4096
  skep models set --agent ada --model fast --replay on
  skep models set --redact email,phone,card --redact-pattern 'case=C-[0-9]{6}'
  skep models set --injection signal
  skep models set --similar openai/text-embedding-3-small=0.95
  skep models set --unset cache")]
pub(crate) struct SetArgs {
    /// Of this agent alone
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
    /// A model that may be asked, `provider/model`, in which `*` is any text; several times
    #[arg(long, value_name = "MODEL")]
    allow: Vec<String>,
    /// The model, or the route, that is asked when a request names `default`
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// The temperature of requests that say none, from 0 to 2; not every model takes one
    #[arg(long, value_name = "NUMBER")]
    temperature: Option<f64>,
    /// The most bytes of a request, such as `1MiB`
    #[arg(long, value_name = "SIZE", value_parser = size)]
    most_body: Option<u64>,
    /// The most tokens of an answer that a request may ask for
    #[arg(long, value_name = "N")]
    most_output: Option<u64>,
    /// For how long an answer is given again to the same request, or `off`
    #[arg(long, value_name = "TIME", value_parser = time)]
    cache: Option<u64>,
    /// A kind of event (`agent.deployed`, or `agent`) after which no answer from before is given again; several times
    #[arg(long, value_name = "KIND")]
    forget_on: Vec<String>,
    /// Gives an answer also to a question that means the same, by vectors of this model, this near; or `off`
    #[arg(long, value_name = "MODEL=NEARNESS", value_parser = similar)]
    similar: Option<SimilarQuestions>,
    /// For how many days exchanges are kept for people to look at, such as `30d`, or `off`
    #[arg(long, value_name = "TIME", value_parser = days)]
    record: Option<u32>,
    /// Whether another attempt of a call gets the answers again that the one before got
    #[arg(long, value_name = "HOW", value_parser = ["on", "off"])]
    replay: Option<String>,
    /// What becomes of a request with what looks like a secret
    #[arg(long, value_name = "HOW", value_parser = ["pass", "block"])]
    leaks: Option<String>,
    /// Whether it is told what looks like a prompt injection; it stops nothing, policies may
    #[arg(long, value_name = "HOW", value_parser = ["off", "signal"])]
    injection: Option<String>,
    /// What does not go out, but a placeholder for it: email, phone, card, iban, ip; with commas
    #[arg(long, value_name = "KINDS", value_delimiter = ',',
        value_parser = ["email", "phone", "card", "iban", "ip"])]
    redact: Vec<String>,
    /// The same by a regular expression; several times
    #[arg(long = "redact-pattern", value_name = "NAME=REGEX")]
    redact_patterns: Vec<String>,
    /// Takes a setting back, by the name of its flag; several times
    #[arg(long, value_name = "NAME",
        value_parser = ["allow", "model", "temperature", "most-body", "most-output", "cache", "forget-on", "similar", "record",
            "replay", "leaks", "injection", "redact", "redact-pattern"])]
    unset: Vec<String>,
}

/// Whose.
#[derive(Debug, Args)]
pub(crate) struct WhoseArgs {
    /// Of this agent alone
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
}

/// Flags of `models exchanges`.
#[derive(Debug, Args)]
pub(crate) struct ExchangesArgs {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
}

/// Which exchange.
#[derive(Debug, Args)]
pub(crate) struct ExchangeArgs {
    /// Its id, `exc_…`
    id: String,
}

/// Flags of `models forget`.
#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    /// Answers with this tag alone
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Answers of this model alone, `provider/model`
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
}

/// Flags of `models score`.
#[derive(Debug, Args)]
#[command(after_help = "\
The header Skep-Exchange of an answer says which exchange it was. Scores are shown
by `skep models performance`, and by `skep prompts usage` for each version.

Examples:
  skep models score 0.9 --exchange exc_01920000000070008000000000000001
  skep models score 0 --thread support-4711")]
pub(crate) struct ScoreArgs {
    /// From 0 to 1, the best
    score: f64,
    /// The exchange, `exc_…`
    #[arg(
        long,
        value_name = "EXCHANGE",
        required_unless_present = "thread",
        conflicts_with = "thread"
    )]
    exchange: Option<String>,
    /// The thread, as requests name it in Skep-Thread
    #[arg(long, value_name = "THREAD")]
    thread: Option<String>,
}

fn size(text: &str) -> Result<u64, String> {
    units::parse_bytes(text).ok_or_else(|| "not a size such as 64KiB or 1MB".into())
}

pub(super) fn time(text: &str) -> Result<u64, String> {
    match text {
        "off" => Ok(0),
        _ => units::parse_duration(text)
            .map(|it| it.as_secs())
            .filter(|it| *it > 0)
            .ok_or_else(|| "not a time such as 30s, 5m or 1h, or `off`".into()),
    }
}

fn similar(text: &str) -> Result<SimilarQuestions, String> {
    let wrong = "not MODEL=NEARNESS such as openai/text-embedding-3-small=0.95, or `off`";
    let (model, least) = match text {
        "off" => ("", "1"),
        _ => text.rsplit_once('=').ok_or(wrong)?,
    };
    let least = least.parse().map_err(|_| wrong)?;
    Ok(SimilarQuestions {
        model: model.to_owned(),
        least,
    })
}

/// A number of days.
pub(crate) fn days(text: &str) -> Result<u32, String> {
    let whole = time(text)?;
    match u32::try_from(whole / DAY) {
        Ok(days) if whole % DAY == 0 => Ok(days),
        _ => Err("not a number of days such as 30d, or `off`".into()),
    }
}

impl Row for ModelSettings {
    const HEADERS: &'static [&'static str] = &["OF", "SETTINGS"];

    fn name(&self) -> String {
        self.whose.clone()
    }

    fn cells(&self, _: Timestamp) -> Vec<String> {
        let whose = match self.whose.as_str() {
            EVERYBODY => "everybody".to_owned(),
            agent => format!("agent {agent}"),
        };
        vec![whose, words(&self.settings)]
    }
}

/// What is set, in words.
fn words(settings: &NewModelSettings) -> String {
    let long = |seconds: u64| match seconds {
        0 => "off".to_owned(),
        some => units::format_duration(std::time::Duration::from_secs(some)),
    };
    let on = |it: bool| if it { "on" } else { "off" };
    let all = [
        settings
            .models
            .as_ref()
            .map(|it| format!("allow {}", it.join(" "))),
        settings.model.as_ref().map(|it| format!("model {it}")),
        settings.temperature.map(|it| format!("temperature {it}")),
        settings.most_body.map(|it| format!("most-body {it}")),
        settings.most_output.map(|it| format!("most-output {it}")),
        settings.cache_s.map(|it| format!("cache {}", long(it))),
        settings
            .forget_on
            .as_ref()
            .map(|it| format!("forget-on {}", it.join(" "))),
        settings.similar.as_ref().map(|it| match it.model.as_str() {
            "" => "similar off".to_owned(),
            model => format!("similar {model}={}", it.least),
        }),
        settings.record_days.map(|it| match it {
            0 => "record off".to_owned(),
            days => format!("record {days}d"),
        }),
        settings.replay.map(|it| format!("replay {}", on(it))),
        settings.leaks.as_ref().map(|it| format!("leaks {it}")),
        settings
            .injection
            .as_ref()
            .map(|it| format!("injection {it}")),
        settings
            .redact
            .as_ref()
            .map(|it| format!("redact {}", it.join(" "))),
        settings.redact_patterns.as_ref().map(|it| {
            let names: Vec<&str> = it.keys().map(String::as_str).collect();
            format!("redact-pattern {}", names.join(" "))
        }),
    ];
    let all: Vec<String> = all.into_iter().flatten().collect();
    match all.is_empty() {
        true => "-".to_owned(),
        false => all.join(", "),
    }
}

impl Row for ModelExchange {
    const HEADERS: &'static [&'static str] = &["EXCHANGE", "AGE", "WHO", "MODEL", "HOW"];

    fn name(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.clone(),
            age(&self.at, now),
            format!("{} {}", self.of, self.whose),
            self.model.clone(),
            self.outcome.clone(),
        ]
    }
}

pub(super) async fn settings(session: &Session) -> Result {
    let all = session.client()?.model_settings().await?.items;
    session.output.list(&all)?;
    if all.is_empty() {
        let said = "Nothing is set: any model may be asked, and nothing is kept.";
        session.output.note(said);
    }
    Ok(())
}

pub(super) async fn set(session: &Session, args: SetArgs) -> Result {
    let client = session.client()?;
    let whose = args.agent.clone().unwrap_or_else(|| EVERYBODY.to_owned());
    let all = client.model_settings().await?.items;
    let found = all.into_iter().find(|it| it.whose == whose);
    let before = found.map(|it| it.settings).unwrap_or_default();
    let wanted = args.wanted(before.clone())?;
    if wanted == before {
        return Err(Failure::usage(
            "nothing is to be set: give one of the flags",
        ));
    }
    let made = client.put_model_settings(&whose, &wanted).await?;
    let said = format!("Set: {}.", words(&made.settings));
    session.output.done(&made, &whose, &said)
}

impl SetArgs {
    /// What was set before, and what is set now.
    fn wanted(self, before: NewModelSettings) -> Result<NewModelSettings> {
        let keeps = |name: &str| !self.unset.iter().any(|it| it == name);
        let allow = (!self.allow.is_empty()).then_some(self.allow.clone());
        let forget_on = (!self.forget_on.is_empty()).then_some(self.forget_on.clone());
        let on = self.replay.as_deref().map(|it| it == "on");
        let redact = (!self.redact.is_empty()).then_some(self.redact.clone());
        let patterns = self.patterns()?;
        Ok(NewModelSettings {
            models: allow.or(before.models.filter(|_| keeps("allow"))),
            model: self
                .model
                .clone()
                .or(before.model.filter(|_| keeps("model"))),
            temperature: self
                .temperature
                .or(before.temperature.filter(|_| keeps("temperature"))),
            most_body: self
                .most_body
                .or(before.most_body.filter(|_| keeps("most-body"))),
            most_output: self
                .most_output
                .or(before.most_output.filter(|_| keeps("most-output"))),
            cache_s: self.cache.or(before.cache_s.filter(|_| keeps("cache"))),
            forget_on: forget_on.or(before.forget_on.filter(|_| keeps("forget-on"))),
            similar: self
                .similar
                .clone()
                .or(before.similar.filter(|_| keeps("similar"))),
            record_days: self
                .record
                .or(before.record_days.filter(|_| keeps("record"))),
            replay: on.or(before.replay.filter(|_| keeps("replay"))),
            leaks: self
                .leaks
                .clone()
                .or(before.leaks.filter(|_| keeps("leaks"))),
            injection: self
                .injection
                .clone()
                .or(before.injection.filter(|_| keeps("injection"))),
            redact: redact.or(before.redact.filter(|_| keeps("redact"))),
            redact_patterns: patterns
                .or(before.redact_patterns.filter(|_| keeps("redact-pattern"))),
        })
    }

    /// Patterns by their names; nothing, when none is given.
    fn patterns(&self) -> Result<Option<BTreeMap<String, String>>> {
        let pair = |text: &String| {
            let wrong = || Failure::usage(format!("`{text}`: NAME=REGEX belongs there"));
            let (name, pattern) = text.split_once('=').ok_or_else(wrong)?;
            Ok((name.to_owned(), pattern.to_owned()))
        };
        let all: Result<BTreeMap<String, String>> = self.redact_patterns.iter().map(pair).collect();
        Ok(Some(all?).filter(|it| !it.is_empty()))
    }
}

pub(super) async fn unset(session: &Session, args: WhoseArgs) -> Result {
    let whose = args.agent.unwrap_or_else(|| EVERYBODY.to_owned());
    session.client()?.remove_model_settings(&whose).await?;
    let said = "Nothing of it is set any more.";
    session
        .output
        .done(&serde_json::json!({ "removed": whose }), &whose, said)
}

pub(super) async fn exchanges(session: &Session, args: ExchangesArgs) -> Result {
    let client = session.client()?;
    let (mut found, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let left = args
            .limit
            .saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
        let page = client
            .model_exchanges(Some(left.clamp(1, 200)), cursor.as_deref())
            .await?;
        found.extend(page.items);
        cursor = page
            .next
            .filter(|_| (found.len() as u64) < u64::from(args.limit));
        if cursor.is_none() {
            break;
        }
    }
    session.output.list(&found)?;
    if found.is_empty() {
        let said = "No exchange is kept: `skep models set --record 30d` keeps those that follow.";
        session.output.note(said);
    }
    Ok(())
}

pub(super) async fn exchange(session: &Session, args: ExchangeArgs) -> Result {
    let found = session.client()?.model_exchange(&args.id).await?;
    let output = &session.output;
    match output.format {
        Format::Json | Format::Yaml => output.document(&found),
        _ => {
            let one = &found.exchange;
            output.say(&format!(
                "{} of {} {}, to {}: {}",
                one.at, one.of, one.whose, one.model, found.status
            ))?;
            match &found.asked {
                Some(asked) => {
                    output.say(&format!("\n{}\n{}", found.target, clean_lines(asked)))?;
                }
                None => output.say(&format!("\n{}\n(what was asked is not kept)", found.target))?,
            }
            output.say(&format!("\n{}", clean_lines(&found.answer)))
        }
    }
}

pub(super) async fn remove(session: &Session, args: ExchangeArgs) -> Result {
    session.confirm(&format!(
        "Remove the exchange {}? It cannot be had again.",
        args.id
    ))?;
    session.client()?.remove_model_exchange(&args.id).await?;
    let said = format!("{} is removed.", args.id);
    let done = serde_json::json!({ "removed": args.id });
    session.output.done(&done, &args.id, &said)
}

pub(super) async fn forget(session: &Session, args: ForgetArgs) -> Result {
    let which = ForgetAnswers {
        tag: args.tag,
        model: args.model,
    };
    session.client()?.forget_model_answers(&which).await?;
    let said = "Those answers are given again no more.";
    session.output.done(&which, "forgotten", said)
}

pub(super) async fn score(session: &Session, args: ScoreArgs) -> Result {
    let score = NewScore {
        exchange: args.exchange,
        thread: args.thread,
        score: args.score,
    };
    session.client()?.score_models(&score).await?;
    session.output.done(&score, "scored", "Thank you.")
}
