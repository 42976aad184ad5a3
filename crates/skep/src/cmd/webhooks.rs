//! Outgoing webhooks: who is told what happens here, and what became of it.

use std::time::Duration;

use clap::{Args, Subcommand};
use skep_api::{NewWebhook, RotateWebhook, Webhook, WebhookMessage};
use skep_client::PageQuery;
use skep_core::Timestamp;

use crate::failure::{Exit, Failure, Result};
use crate::output::{Format, Output, Row, age};
use crate::session::Session;

/// How long `test` waits for the first try.
const PATIENCE: Duration = Duration::from_secs(130);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(200);

/// What to do with webhooks.
#[derive(Debug, Subcommand)]
pub(crate) enum WebhooksVerb {
    /// Tell an endpoint what happens here, and print the key that signs
    Add(AddArgs),
    /// List the endpoints of the workspace, and how they do
    #[command(visible_alias = "ls")]
    List,
    /// Show an endpoint
    Show(NameArgs),
    /// Change an endpoint, or turn it on or off
    Update(UpdateArgs),
    /// Remove an endpoint with its messages
    #[command(visible_alias = "rm")]
    Remove(NameArgs),
    /// Give an endpoint another key, and print it
    Rotate(RotateArgs),
    /// Send an endpoint a message that says nothing, and wait for what it answers
    Test(NameArgs),
    /// List what an endpoint was sent, newest first
    Messages(MessagesArgs),
    /// Send messages again at once
    Redeliver(RedeliverArgs),
}

/// Flags of `webhooks add`.
#[derive(Debug, Args)]
#[command(after_help = "\
Messages are signed as the Standard Webhooks specification says. The key that
verifies them is printed once, alone, on the standard output. What happened is
tried again until the endpoint answers 2xx: it may come twice, with the same
webhook-id.

Examples:
  skep webhooks add ops https://ops.example.com/skep --event 'call.dead' \\
      --event 'rollout.*' > ops.key
  skep webhooks add all http://10.0.0.7:8080/hooks --event '*'")]
pub(crate) struct AddArgs {
    /// What it is called: a-z, 0-9 and `-`
    name: String,
    /// Where messages are sent
    url: String,
    /// What is told: call.dead, all of a group ('call.*') or all ('*'); can be given again
    #[arg(long = "event", value_name = "EVENT", required = true)]
    events: Vec<String>,
    /// Send nothing yet
    #[arg(long)]
    off: bool,
}

/// A name.
#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// Its name
    name: String,
}

/// Flags of `webhooks update`.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Its name
    name: String,
    /// Where messages are sent
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// What is told, in the place of what was; can be given again
    #[arg(long = "event", value_name = "EVENT")]
    events: Vec<String>,
    /// Send what happens from now on, and what waits
    #[arg(long, conflicts_with = "off")]
    on: bool,
    /// Send nothing
    #[arg(long)]
    off: bool,
}

/// Flags of `webhooks rotate`.
#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    /// Its name
    name: String,
    /// For how long messages are signed with the old key, too, at most 30d
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    overlap: String,
}

/// Flags of `webhooks messages`.
#[derive(Debug, Args)]
pub(crate) struct MessagesArgs {
    /// The endpoint's name
    name: String,
    /// Those that stand so
    #[arg(long, value_name = "STATE", value_parser = ["waiting", "delivered", "dead"])]
    state: Option<String>,
    /// At most so many, up to 1000
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: u32,
}

/// Flags of `webhooks redeliver`.
#[derive(Debug, Args)]
pub(crate) struct RedeliverArgs {
    /// The endpoint's name
    name: String,
    /// Messages, `msg_…`
    #[arg(value_name = "MESSAGE", required_unless_present = "dead")]
    messages: Vec<String>,
    /// All dead ones
    #[arg(long, conflicts_with = "messages")]
    dead: bool,
}

impl Row for Webhook {
    const HEADERS: &'static [&'static str] =
        &["NAME", "STATE", "WAITING", "DEAD", "LAST", "EVENTS", "URL"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let last = match (&self.failing_since, &self.last_success_at) {
            (Some(since), _) => format!("fails {}", age(since, now)),
            (None, Some(at)) => format!("well {}", age(at, now)),
            (None, None) => String::new(),
        };
        vec![
            self.name.clone(),
            self.state.clone(),
            self.waiting.to_string(),
            self.dead.to_string(),
            last,
            self.events.join(","),
            self.url.clone(),
        ]
    }
}

impl Row for WebhookMessage {
    const HEADERS: &'static [&'static str] =
        &["MESSAGE", "EVENT", "STATE", "TRIES", "AGE", "ANSWER"];

    fn name(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let answer = self.last_answer.as_deref().unwrap_or_default();
        // The status alone is short enough for a line of 80.
        let answer = answer.strip_prefix("it answered ").unwrap_or(answer);
        vec![
            self.id.clone(),
            self.event.clone(),
            self.state.clone(),
            self.tries.to_string(),
            age(&self.made_at, now),
            answer.to_owned(),
        ]
    }
}

fn show(output: &Output, webhook: &Webhook) -> Result {
    let own = |it: &Option<String>| it.clone().unwrap_or_default();
    let count = |it: u64| match it {
        0 => String::new(),
        it => it.to_string(),
    };
    let failure = match (&webhook.last_failure_at, &webhook.last_failure) {
        (Some(at), Some(why)) => format!("{at}: {why}"),
        _ => String::new(),
    };
    output.one(
        webhook,
        &webhook.name,
        &[
            ("Name", webhook.name.clone()),
            ("URL", webhook.url.clone()),
            ("Events", webhook.events.join(", ")),
            ("State", webhook.state.clone()),
            ("Waiting", webhook.waiting.to_string()),
            ("Dead", webhook.dead.to_string()),
            ("Missed", count(webhook.missed)),
            ("Last success", own(&webhook.last_success_at)),
            ("Last failure", failure),
            ("Failing since", own(&webhook.failing_since)),
            ("Old key until", own(&webhook.old_key_until)),
            ("Changed", webhook.changed_at.clone()),
        ],
    )
}

/// Prints a key alone, so that it can be sent into a file.
fn key(output: &Output, webhook: &Webhook, said: &str) -> Result {
    match (&webhook.secret, output.format) {
        (Some(secret), Format::Table) => {
            output.note(said);
            output.raw(format!("{secret}\n").as_bytes())
        }
        _ => output.done(webhook, &webhook.name, said),
    }
}

async fn update(session: &Session, args: UpdateArgs) -> Result {
    let (client, output) = (session.client()?, &session.output);
    let before = client.webhook(&args.name).await?;
    let events = match args.events.is_empty() {
        true => before.events,
        false => args.events,
    };
    let new = NewWebhook {
        url: args.url.unwrap_or(before.url),
        events,
        on: args.on || (before.state == "on" && !args.off),
    };
    let after = client.put_webhook(&args.name, &new).await?;
    let said = format!("{} is {}.", after.name, after.state);
    output.done(&after, &after.name, &said)
}

async fn test(session: &Session, name: &str) -> Result {
    let (client, output) = (session.client()?, &session.output);
    let sent = client.test_webhook(name).await?;
    let begun = std::time::Instant::now();
    loop {
        let message = client.webhook_message(name, &sent.id).await?;
        if message.tries > 0 {
            let answer = message.last_answer.clone().unwrap_or_default();
            let said = format!("{}: {answer}.", message.id);
            output.done(&message, &message.id, &said)?;
            return match message.state.as_str() {
                "delivered" => Ok(()),
                _ => Err(Failure::new(Exit::Watched, "It was not delivered.")),
            };
        }
        if begun.elapsed() > PATIENCE {
            let waits = format!("{} waits for its first try.", message.id);
            return Err(Failure::new(Exit::Timeout, waits).hint(format!(
                "See with `skep webhooks messages {name}` what becomes of it."
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn redeliver(session: &Session, args: RedeliverArgs) -> Result {
    let (client, output) = (session.client()?, &session.output);
    let name = &args.name;
    if args.dead {
        let sent = client.redeliver_webhooks(name).await?;
        let said = format!("{} dead messages are sent again.", sent.messages);
        return output.done(&sent, name, &said);
    }
    for id in &args.messages {
        let sent = client.redeliver_webhook(name, id).await?;
        output.done(&sent, id, &format!("{id} is sent again."))?;
    }
    Ok(())
}

pub(crate) async fn run(session: &Session, verb: WebhooksVerb) -> Result {
    let (client, output) = (session.client()?, &session.output);
    match verb {
        WebhooksVerb::List => output.list(&client.webhooks().await?.items),
        WebhooksVerb::Show(NameArgs { name }) => show(output, &client.webhook(&name).await?),
        WebhooksVerb::Add(args) => {
            let new = NewWebhook {
                url: args.url,
                events: args.events,
                on: !args.off,
            };
            let made = client.put_webhook(&args.name, &new).await?;
            let said = match made.secret {
                Some(_) => format!(
                    "{} is told from now on. This key verifies it; it is not shown again:",
                    made.name
                ),
                None => format!("{} is changed; its key is what it was.", made.name),
            };
            key(output, &made, &said)
        }
        WebhooksVerb::Update(args) => update(session, args).await,
        WebhooksVerb::Remove(NameArgs { name }) => {
            session.confirm(&format!(
                "Remove the webhook {name}? Messages that wait are not sent any more."
            ))?;
            client.remove_webhook(&name).await?;
            let said = format!("{name} is removed.");
            output.done(&serde_json::json!({ "removed": name }), &name, &said)
        }
        WebhooksVerb::Rotate(RotateArgs { name, overlap }) => {
            let how = RotateWebhook {
                overlap: Some(overlap),
            };
            let made = client.rotate_webhook(&name, &how).await?;
            let until = made.old_key_until.clone().unwrap_or_default();
            let said = format!("{name} has another key. The one before signs, too, until {until}:");
            key(output, &made, &said)
        }
        WebhooksVerb::Test(NameArgs { name }) => test(session, &name).await,
        WebhooksVerb::Messages(args) => {
            let page = PageQuery {
                limit: Some(args.limit),
                ..PageQuery::default()
            };
            let found = client
                .webhook_messages(&args.name, args.state.as_deref(), &page)
                .await?;
            output.list(&found.items)
        }
        WebhooksVerb::Redeliver(args) => redeliver(session, args).await,
    }
}
