//! What is kept of exchanges with hosts.

use clap::Args;
use skep_api::{WebBody, WebExchange, WebHeader};
use skep_core::Timestamp;

use crate::failure::Result;
use crate::output::{Format, Output, Row, age};
use crate::session::Session;
use crate::table::{clean, clean_lines};

/// Exchanges that are asked for at once.
const PAGE: u32 = 200;

/// Flags of `web exchanges`.
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

impl Row for WebExchange {
    const HEADERS: &'static [&'static str] =
        &["EXCHANGE", "AGE", "WHO", "METHOD", "HOST", "RULE", "HOW"];

    fn name(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.clone(),
            age(&self.at, now),
            format!("{} {}", self.of, self.whose),
            self.method.clone(),
            self.host.clone(),
            self.rule.clone(),
            self.outcome.clone(),
        ]
    }
}

pub(super) async fn exchanges(session: &Session, args: ExchangesArgs) -> Result {
    let client = session.client()?;
    let (mut found, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let has = u32::try_from(found.len()).unwrap_or(u32::MAX);
        let left = args.limit.saturating_sub(has);
        let page = client
            .web_exchanges(Some(left.clamp(1, PAGE)), cursor.as_deref())
            .await?;
        found.extend(page.items);
        let more = (found.len() as u64) < u64::from(args.limit);
        cursor = page.next.filter(|_| more);
        if cursor.is_none() {
            break;
        }
    }
    session.output.list(&found)?;
    if found.is_empty() {
        let said = "No exchange is kept: `skep web allow … --record 30d` keeps those by a rule that follow.";
        session.output.note(said);
    }
    Ok(())
}

/// Headers and a body, as people read them.
fn say(output: &Output, first: &str, (headers, body): (&[WebHeader], &WebBody)) -> Result {
    output.say(&format!("\n{}", clean(first)))?;
    for WebHeader { name, value } in headers {
        output.say(&clean(&format!("{name}: {value}")))?;
    }
    match (&body.text, body.bytes) {
        (_, 0) => {}
        (Some(text), _) => output.say(&format!("\n{}", clean_lines(text)))?,
        (None, bytes) => output.say(&format!(
            "\n({bytes} bytes that are no text: `-o json` has them)"
        ))?,
    }
    match body.cut {
        true => output.say(&format!("\n(cut: it had {} bytes)", body.bytes)),
        false => Ok(()),
    }
}

pub(super) async fn exchange(session: &Session, args: ExchangeArgs) -> Result {
    let found = session.client()?.web_exchange(&args.id).await?;
    let output = &session.output;
    if matches!(output.format, Format::Json | Format::Yaml) {
        return output.document(&found);
    }
    let one = &found.exchange;
    output.say(&format!(
        "{} of {} {}, by rule {}: {}",
        one.at, one.of, one.whose, one.rule, one.outcome
    ))?;
    say(output, &found.target, (&found.asked_headers, &found.asked))?;
    match found.status {
        Some(status) => say(output, &status.to_string(), (&found.headers, &found.answer)),
        None => output.say("\n(no answer began)"),
    }
}

pub(super) async fn remove(session: &Session, args: ExchangeArgs) -> Result {
    session.confirm(&format!(
        "Remove the exchange {}? It cannot be had again.",
        args.id
    ))?;
    session.client()?.remove_web_exchange(&args.id).await?;
    let said = format!("{} is removed.", args.id);
    let done = serde_json::json!({ "removed": args.id });
    session.output.done(&done, &args.id, &said)
}
