//! Models: who answers for them, what may be spent, and what was.

use clap::{Args, Subcommand};
use skep_api::{ModelBudget, ModelProvider, ModelUsage, NewModelBudget, NewModelProvider};
use skep_core::Timestamp;

use crate::failure::Result;
use crate::output::{Format, Row};
use crate::session::Session;

/// What to do with models.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelsVerb {
    /// List the providers of the workspace, and the doors that lead to them
    #[command(visible_alias = "ls")]
    List,
    /// Add a provider, or change the one of its name
    Add(AddArgs),
    /// Remove a provider
    #[command(visible_alias = "rm")]
    Remove(NameArgs),
    /// List the budgets, and how they stand
    Budgets,
    /// Add a budget, or change the one of its name
    Budget(BudgetArgs),
    /// Remove a budget
    DropBudget(NameArgs),
    /// What was used, by day, principal and model
    Usage(UsageArgs),
}

/// Flags of `models add`.
#[derive(Debug, Args)]
#[command(after_help = "\
The key lies in a secret of the vault, which agents never see: they ask Skep with
a token of their own. An agent finds OPENAI_BASE_URL, ANTHROPIC_BASE_URL and
GOOGLE_GEMINI_BASE_URL in its environment, with that token as the key.

Examples:
  skep secrets create keys/openai --stdin < openai.key
  skep models add openai --kind openai --secret keys/openai
  skep models add local --kind compatible --url http://127.0.0.1:11434/v1 \\
      --model 'llama*'")]
pub(crate) struct AddArgs {
    /// What it is called here: a-z, 0-9 and `-`
    name: String,
    /// What kind of provider it is
    #[arg(long, value_name = "KIND",
        value_parser = ["openai", "anthropic", "google", "mistral", "groq", "openrouter", "compatible"])]
    kind: String,
    /// Where it is [default: where this kind is for everybody]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The secret that holds its key; several take turns
    #[arg(long = "secret", value_name = "NAME")]
    secrets: Vec<String>,
    /// A model that it is asked for, in which `*` is any text [default: any]
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<String>,
}

/// A name.
#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// Its name
    name: String,
}

/// Flags of `models budget`.
#[derive(Debug, Args)]
#[command(after_help = "\
What a request may cost at most is set aside before it leaves; what it did cost
counts when it has ended. Whoever is over a budget is refused (429).

Examples:
  skep models budget all --usd 100 --per month
  skep models budget ada --agent ada --usd 2.50 --per day
  skep models budget big --model openai/gpt-6.2-astra --tokens 1000000 --per day")]
pub(crate) struct BudgetArgs {
    /// What it is called: a-z, 0-9 and `-`
    name: String,
    /// US dollars
    #[arg(
        long,
        value_name = "AMOUNT",
        required_unless_present = "tokens",
        conflicts_with = "tokens"
    )]
    usd: Option<String>,
    /// Tokens, in and out
    #[arg(long, value_name = "N")]
    tokens: Option<u64>,
    /// Over which time: minute, day, month, total
    #[arg(long, value_name = "TIME", value_parser = ["minute", "day", "month", "total"])]
    per: String,
    /// Of this agent alone
    #[arg(long, value_name = "AGENT", group = "of")]
    agent: Option<String>,
    /// Of this API key alone, `key_…`
    #[arg(long, value_name = "KEY", group = "of")]
    key: Option<String>,
    /// Of this person alone, `usr_…`
    #[arg(long, value_name = "USER", group = "of")]
    user: Option<String>,
    /// Of this model alone, `provider/model`
    #[arg(long, value_name = "MODEL", group = "of")]
    model: Option<String>,
}

/// Flags of `models usage`.
#[derive(Debug, Args)]
pub(crate) struct UsageArgs {
    /// From this day on (UTC), such as 2026-11-01 [default: for 30 days]
    #[arg(long, value_name = "DAY")]
    since: Option<String>,
    /// Up to this day [default: today]
    #[arg(long, value_name = "DAY")]
    until: Option<String>,
}

impl Row for ModelProvider {
    const HEADERS: &'static [&'static str] = &["NAME", "KIND", "MODELS", "SECRETS", "DOOR"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, _: Timestamp) -> Vec<String> {
        let models = match self.models.is_empty() {
            true => "any".to_owned(),
            false => self.models.join(","),
        };
        vec![
            self.name.clone(),
            self.kind.clone(),
            models,
            self.secrets.join(","),
            self.door.clone(),
        ]
    }
}

impl Row for ModelBudget {
    const HEADERS: &'static [&'static str] =
        &["NAME", "OF", "PER", "SPENT", "SET ASIDE", "MOST", "IN"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, _: Timestamp) -> Vec<String> {
        let (most, unit) = match (&self.money, self.tokens) {
            (Some(money), _) => (money.clone(), "USD"),
            (None, tokens) => (tokens.unwrap_or_default().to_string(), "tokens"),
        };
        let of = match self.whose.is_empty() {
            true => self.of.clone(),
            false => format!("{} {}", self.of, self.whose),
        };
        vec![
            self.name.clone(),
            of,
            self.window.clone(),
            self.spent.clone(),
            self.reserved.clone(),
            most,
            unit.to_owned(),
        ]
    }
}

impl Row for ModelUsage {
    const HEADERS: &'static [&'static str] = &[
        "DAY", "WHO", "MODEL", "REQUESTS", "FAILED", "IN", "OUT", "USD",
    ];

    fn name(&self) -> String {
        format!("{}/{}", self.provider, self.model)
    }

    fn cells(&self, _: Timestamp) -> Vec<String> {
        vec![
            self.day.clone(),
            format!("{} {}", self.of, self.whose),
            format!("{}/{}", self.provider, self.model),
            self.requests.to_string(),
            self.failed.to_string(),
            self.input.to_string(),
            self.output.to_string(),
            self.cost.clone(),
        ]
    }
}

impl BudgetArgs {
    fn wanted(self) -> (String, NewModelBudget) {
        let of = [
            ("agent", self.agent),
            ("key", self.key),
            ("user", self.user),
            ("model", self.model),
        ];
        let one = of.into_iter().find_map(|(of, whose)| Some((of, whose?)));
        let (of, whose) = one.unwrap_or(("workspace", String::new()));
        let budget = NewModelBudget {
            of: of.to_owned(),
            whose,
            window: self.per,
            money: self.usd,
            tokens: self.tokens,
        };
        (self.name, budget)
    }
}

pub(crate) async fn run(session: &Session, verb: ModelsVerb) -> Result {
    let (client, output) = (session.client()?, &session.output);
    match verb {
        ModelsVerb::List => output.list(&client.model_providers().await?.items),
        ModelsVerb::Add(args) => {
            let wanted = NewModelProvider {
                kind: args.kind,
                url: args.url,
                secrets: args.secrets,
                models: args.models,
            };
            let made = client.put_model_provider(&args.name, &wanted).await?;
            let said = format!(
                "{} is asked at {}, by way of {}.",
                made.name, made.url, made.door
            );
            output.done(&made, &made.name, &said)
        }
        ModelsVerb::Remove(NameArgs { name }) => {
            session.confirm(&format!(
                "Remove the provider {name}? Nobody can ask it any more."
            ))?;
            client.remove_model_provider(&name).await?;
            let said = format!("{name} is removed.");
            output.done(&serde_json::json!({ "removed": name }), &name, &said)
        }
        ModelsVerb::Budgets => output.list(&client.model_budgets().await?.items),
        ModelsVerb::Budget(args) => {
            let (name, wanted) = args.wanted();
            let made = client.put_model_budget(&name, &wanted).await?;
            let said = format!("{name} holds from now on; {} is spent of it.", made.spent);
            output.done(&made, &name, &said)
        }
        ModelsVerb::DropBudget(NameArgs { name }) => {
            session.confirm(&format!(
                "Remove the budget {name}? It holds nobody back any more."
            ))?;
            client.remove_model_budget(&name).await?;
            let said = format!("{name} is removed.");
            output.done(&serde_json::json!({ "removed": name }), &name, &said)
        }
        ModelsVerb::Usage(UsageArgs { since, until }) => {
            let used = client
                .model_usage(since.as_deref(), until.as_deref())
                .await?;
            match output.format {
                Format::Json | Format::Yaml => output.document(&used),
                _ => {
                    output.list(&used.items)?;
                    if used.more {
                        output.note("There is more: ask for fewer days.");
                    }
                    output.note(&format!("All of it cost {} US dollars.", used.cost));
                    Ok(())
                }
            }
        }
    }
}
