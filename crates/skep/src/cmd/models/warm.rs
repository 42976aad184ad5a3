//! Filling the cache of answers: requests of a file are asked, as agents will ask them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use skep_client::Client;
use tokio::task::JoinSet;

use crate::failure::{Failure, Result};
use crate::session::Session;
use crate::table::clean;

/// Bytes of one line.
const MOST_LINE: u64 = 64 << 20;
/// Failures that are told one by one.
const MOST_TOLD: u64 = 10;
/// Whether an answer was given before.
const CACHE: HeaderName = HeaderName::from_static("skep-cache");
/// The version of Anthropic's API; a request must name one.
const VERSION: HeaderName = HeaderName::from_static("anthropic-version");
const FIRST: HeaderValue = HeaderValue::from_static("2023-06-01");

/// Flags of `models warm`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each line is a request as OpenAI's batches have them, or Anthropic's:
  {\"custom_id\": \"1\", \"url\": \"/v1/chat/completions\", \"body\": {\"model\": ...}}
  {\"custom_id\": \"2\", \"params\": {\"model\": ...}}

What is known already is not asked again. The answer is there for who asks the
same: spaces, escapes and the order of the body's own fields are no difference.

Examples:
  skep models warm questions.jsonl --max-age 1d --tag faq
  skep models forget --tag faq")]
pub(crate) struct WarmArgs {
    /// The file, with a line for each request; `-` is the standard input
    file: PathBuf,
    /// For how long the answers may be given again [default: as it is set]
    #[arg(long, value_name = "TIME", value_parser = super::kept::time)]
    max_age: Option<u64>,
    /// By what they can be forgotten; several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// A header that who asks later sends too, such as `anthropic-version: 2023-06-01`; several times
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// How many are asked at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    at_once: u8,
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let pair = text.split_once(':').and_then(|(name, value)| {
        let value = HeaderValue::try_from(value.trim()).ok()?;
        Some((HeaderName::try_from(name.trim()).ok()?, value))
    });
    pair.ok_or_else(|| "not a header such as `anthropic-version: 2023-06-01`".to_owned())
}

/// A line of the file.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    custom_id: Option<String>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    body: Option<Box<RawValue>>,
    #[serde(default)]
    params: Option<Box<RawValue>>,
}

/// A request, and what it is called.
struct Wanted {
    name: String,
    path: String,
    body: Bytes,
}

impl Wanted {
    fn of(number: u64, text: &str) -> Result<Self> {
        let wrong = |why: String| {
            let hint = "see the form of a line in `skep models warm --help`";
            Failure::usage(format!("line {number}: {why}")).hint(hint)
        };
        let line: Line = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        if line.method.as_deref().is_some_and(|it| it != "POST") {
            return Err(wrong("`method` is to be POST".to_owned()));
        }
        let (url, body) = match (line.url, line.body, line.params) {
            (Some(url), Some(body), None) => (url, body),
            (None, None, Some(params)) => ("/v1/messages".to_owned(), params),
            _ => {
                return Err(wrong(
                    "it has neither `url` and `body`, nor `params`".to_owned(),
                ));
            }
        };
        let door = match () {
            () if url.starts_with("/v1/messages") => "anthropic",
            () if url.starts_with("/v1beta/") => "google",
            () if url.starts_with("/v1/") => "openai",
            () => {
                return Err(wrong(format!(
                    "`url`: nothing that Skep passes on is at `{url}`"
                )));
            }
        };
        Ok(Self {
            name: line.custom_id.unwrap_or_else(|| format!("line {number}")),
            path: format!("/llm/{door}{url}"),
            body: Bytes::from(String::from(Box::<str>::from(body))),
        })
    }
}

/// What became of them.
#[derive(Debug, Default)]
struct Told {
    asked: u64,
    known: u64,
    failed: u64,
}

/// How one was answered: whether that was known, or what went wrong.
type Answered = (String, Result<bool, String>);

async fn ask(client: Client, wanted: Wanted, headers: HeaderMap) -> Result<Answered> {
    let Wanted { name, path, body } = wanted;
    let said = match client.ask_model(&path, headers, body).await {
        Ok(answer) => {
            let (status, cache) = (answer.status(), answer.headers().get(CACHE).cloned());
            let whole = answer.bytes().await;
            (status, cache, whole)
        }
        Err(error) => return Ok((name, Err(error.to_string()))),
    };
    let (status, cache, whole) = match said {
        (status, cache, Ok(whole)) => (status, cache, whole),
        (_, _, Err(error)) => return Ok((name, Err(error.to_string()))),
    };
    if status != StatusCode::OK {
        let text = String::from_utf8_lossy(&whole);
        let text: String = text.trim().chars().take(300).collect();
        return Ok((name, Err(format!("{status}: {text}"))));
    }
    let nothing = || {
        let hint = "`skep models set --cache 1h`, or give `--max-age`";
        Failure::plain("answers are not given again here: nothing more is asked").hint(hint)
    };
    let cache = cache.ok_or_else(nothing)?;
    Ok((name, Ok(!["miss", "partial"].iter().any(|it| cache == it))))
}

impl WarmArgs {
    /// What is said of each with its request.
    fn headers(&self, path: &str) -> Result<HeaderMap> {
        let mut words: Vec<String> = self.tags.iter().map(|it| format!("tag={it}")).collect();
        words.extend(self.max_age.map(|it| format!("max-age={it}")));
        words.push("exact".to_owned());
        let words = HeaderValue::try_from(words.join(","));
        let words = words.map_err(|_| Failure::usage("--tag: a-z, 0-9 and `-`"))?;
        let json = HeaderValue::from_static("application/json");
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, json), (CACHE, words)]);
        headers.extend(self.headers.iter().cloned());
        match path.starts_with("/llm/anthropic") {
            true => drop(headers.entry(VERSION).or_insert(FIRST)),
            false => drop(headers.remove(VERSION)),
        }
        Ok(headers)
    }

    fn lines(&self) -> Result<Box<dyn BufRead + Send>> {
        if self.file.as_os_str() == "-" {
            return Ok(Box::new(BufReader::new(io::stdin())));
        }
        let file = File::open(&self.file)
            .map_err(|error| Failure::usage(format!("{}: {error}", self.file.display())))?;
        Ok(Box::new(BufReader::new(file)))
    }
}

/// The next request of a file; nothing at its end.
fn next(lines: &mut dyn BufRead, number: &mut u64) -> Result<Option<Wanted>> {
    loop {
        let mut text = String::new();
        if lines.take(MOST_LINE).read_line(&mut text)? == 0 {
            return Ok(None);
        }
        *number += 1;
        if text.len() as u64 >= MOST_LINE {
            return Err(Failure::usage(format!("line {number}: it is too long")));
        }
        if !text.trim().is_empty() {
            return Wanted::of(*number, &text).map(Some);
        }
    }
}

pub(super) async fn warm(session: &Session, args: WarmArgs) -> Result {
    let client = session.client()?;
    let (mut lines, mut number) = (args.lines()?, 0);
    let (mut told, mut under_way) = (Told::default(), JoinSet::new());
    let mut more = true;
    loop {
        // The first goes alone: where nothing is kept, nothing more is to be paid.
        let most = if told.asked + told.known == 0 {
            1
        } else {
            usize::from(args.at_once)
        };
        while more && under_way.len() < most {
            match next(&mut *lines, &mut number)? {
                Some(wanted) => {
                    let headers = args.headers(&wanted.path)?;
                    under_way.spawn(ask(client.clone(), wanted, headers));
                }
                None => more = false,
            }
        }
        let Some(one) = under_way.join_next().await else {
            break;
        };
        let (name, said) = one.map_err(|error| Failure::plain(error.to_string()))??;
        match said {
            Ok(true) => told.known += 1,
            Ok(false) => told.asked += 1,
            Err(why) => {
                told.failed += 1;
                if told.failed <= MOST_TOLD {
                    let said = clean(&format!("{name}: {why}"));
                    session.output.note(&said);
                }
            }
        }
    }
    let Told {
        asked,
        known,
        failed,
    } = told;
    let said = format!("{asked} asked, {known} known already, {failed} failed.");
    let done = BTreeMap::from([("asked", asked), ("known", known), ("failed", failed)]);
    session.output.done(&done, "warmed", &said)?;
    match failed {
        0 => Ok(()),
        _ => Err(Failure::quiet(crate::failure::Exit::Failure)),
    }
}
