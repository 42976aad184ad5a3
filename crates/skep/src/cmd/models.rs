//! Models: who answers for them, what may be spent, and what was.

use clap::{Args, Subcommand};
use skep_api::{
    ModelBudget, ModelKeyCheck, ModelPerformance, ModelProvider, ModelRoute, ModelRouteVersion,
    ModelUsage, NewModelBudget, NewModelProvider, NewModelRoute, NewRouteModel, RouteRollback,
};
use skep_core::Timestamp;

use crate::failure::{Exit, Failure, Result};
use crate::output::{Format, Row, age};
use crate::session::Session;

mod kept;
mod warm;

pub(crate) use kept::days;

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
    /// See whether a provider can be reached with its keys, and which models it has
    Check(NameArgs),
    /// List the routes, and how who answers does
    Routes,
    /// Add a route, or change the one of its name
    Route(RouteArgs),
    /// List the versions of a route
    RouteVersions(NameArgs),
    /// Go back to the version of a route before the newest one; again, one further
    RollbackRoute(NameArgs),
    /// Remove a route
    DropRoute(NameArgs),
    /// How each model did of late: time to answers, failures, cost
    Performance(PerformanceArgs),
    /// List the budgets, and how they stand
    Budgets,
    /// Add a budget, or change the one of its name
    Budget(BudgetArgs),
    /// Remove a budget
    DropBudget(NameArgs),
    /// What was used, by day, principal and model
    Usage(UsageArgs),
    /// Show which models may be asked and how, and what is kept
    Settings,
    /// Set which models may be asked and how, and what is kept
    Set(kept::SetArgs),
    /// Take all settings of an agent, or of everybody, back
    Unset(kept::WhoseArgs),
    /// List the exchanges that are kept, the newest first
    Exchanges(kept::ExchangesArgs),
    /// Show what was said in an exchange that is kept
    Exchange(kept::ExchangeArgs),
    /// Remove an exchange that is kept
    DropExchange(kept::ExchangeArgs),
    /// Give answers that were kept again no more
    Forget(kept::ForgetArgs),
    /// Ask the requests of a file, so that their answers are there when somebody asks the same
    Warm(warm::WarmArgs),
    /// Say how good an exchange, or a thread, was
    Score(kept::ScoreArgs),
}

/// Flags of `models add`.
#[derive(Debug, Args)]
#[command(after_help = "\
The key lies in a secret of the vault, which agents never see: they ask Skep with
a token of their own. An agent finds OPENAI_BASE_URL, ANTHROPIC_BASE_URL and
GOOGLE_GEMINI_BASE_URL in its environment, with that token as the key.

Examples:
  skep secrets create keys/openai < openai.key
  skep models add openai --kind openai --secret keys/openai
  skep models add azure --kind azure --secret keys/azure \\
      --url https://my-resource.openai.azure.com/openai/v1
  skep models add local --kind compatible --url http://127.0.0.1:11434/v1 \\
      --model 'llama*'")]
pub(crate) struct AddArgs {
    /// What it is called here: a-z, 0-9 and `-`
    name: String,
    /// What kind of provider it is
    #[arg(long, value_name = "KIND",
        value_parser = ["openai", "anthropic", "google", "azure", "bedrock", "mistral", "groq", "openrouter", "compatible"])]
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

/// Flags of `models route`.
#[derive(Debug, Args)]
#[command(after_help = "\
A route is asked for as a model is, by its name. Who fails is left alone for a
while; whoever asks must be allowed to use the model that answers, which stands
in the header Skep-Model. Requests with one Skep-Thread stay with one model.

Examples:
  skep models route fast openai/gpt-4o-mini groq/llama-3.3-70b-versatile
  skep models route trial --pick weighted openai/gpt-4o=9 anthropic/claude-x=1
  skep models route quick --pick fastest --tries 2 openai/gpt-4o-mini groq/llama
  skep models route fast openai/gpt-new --rollback-after 50 --most-failures 10")]
pub(crate) struct RouteArgs {
    /// What is asked for: a-z, 0-9 and `-`
    name: String,
    /// Who answers: `provider/model`, with `=WEIGHT` behind it for a weighted route
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<String>,
    /// Who is asked first: the first of them, one by chance and weight, or the fastest
    #[arg(long, value_name = "HOW", default_value = "ordered", value_parser = ["ordered", "weighted", "fastest"])]
    pick: String,
    /// How often one is asked in a row before the next one is
    #[arg(long, value_name = "N", default_value_t = 1)]
    tries: u32,
    /// Judge this version after so many exchanges: the one before comes back if it does too badly
    #[arg(long, value_name = "N")]
    rollback_after: Option<u64>,
    /// Of a hundred exchanges, so many may come to nothing
    #[arg(long, value_name = "N", requires = "rollback_after")]
    most_failures: Option<u64>,
    /// Milliseconds until 95 of 100 good answers have ended, at most
    #[arg(long, value_name = "MS", requires = "rollback_after")]
    most_p95: Option<u64>,
    /// The average of scores, of a hundred, at least
    #[arg(long, value_name = "N", requires = "rollback_after")]
    least_score: Option<u64>,
}

/// Flags of `models performance`.
#[derive(Debug, Args)]
pub(crate) struct PerformanceArgs {
    /// Over so many hours until now
    #[arg(long, value_name = "N", default_value_t = 24)]
    hours: u64,
}

/// Flags of `models budget`.
#[derive(Debug, Args)]
#[command(after_help = "\
What a request may cost at most is set aside before it leaves; what it did cost
counts when it has ended. Whoever is over a budget is refused (429).

Examples:
  skep models budget all --usd 100 --per month
  skep models budget ada --agent ada --usd 2.50 --per day
  skep models budget big --model openai/gpt-6.2-astra --tokens 1000000 --per day
  skep models budget search --tool web/search --calls 100 --per minute
  skep models budget github --rule github --requests 1000 --per day")]
pub(crate) struct BudgetArgs {
    /// What it is called: a-z, 0-9 and `-`
    name: String,
    /// US dollars
    #[arg(
        long,
        value_name = "AMOUNT",
        required_unless_present_any = ["tokens", "calls", "requests"],
        conflicts_with_all = ["tokens", "calls", "requests"]
    )]
    usd: Option<String>,
    /// Tokens, in and out
    #[arg(long, value_name = "N", conflicts_with_all = ["calls", "requests"])]
    tokens: Option<u64>,
    /// Uses of tools
    #[arg(long, value_name = "N", conflicts_with = "requests")]
    calls: Option<u64>,
    /// Requests to the web
    #[arg(long, value_name = "N")]
    requests: Option<u64>,
    /// Over which time: minute, day, month, total
    #[arg(long, value_name = "TIME", value_parser = ["minute", "day", "month", "total"])]
    per: String,
    /// Tell when so many of a hundred of it are spent (event `budget.threshold`), such as 50,80,100
    #[arg(long, value_name = "PARTS", value_delimiter = ',')]
    alert: Vec<u8>,
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
    /// Of the tools of this MCP server alone
    #[arg(long, value_name = "SERVER", group = "of")]
    mcp_server: Option<String>,
    /// Of this tool alone, `server/tool`
    #[arg(long, value_name = "TOOL", group = "of")]
    tool: Option<String>,
    /// Of what falls under this rule of the web alone
    #[arg(long, value_name = "RULE", group = "of")]
    rule: Option<String>,
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
    /// Print comma-separated values (RFC 4180), with a line of names first
    #[arg(long)]
    csv: bool,
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
        let (most, unit) = match (&self.money, self.tokens, self.calls) {
            (Some(money), ..) => (money.clone(), "USD"),
            (None, Some(tokens), _) => (tokens.to_string(), "tokens"),
            (None, None, Some(calls)) => (calls.to_string(), "calls"),
            (None, None, None) => (self.requests.unwrap_or_default().to_string(), "requests"),
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
        "DAY", "WHO", "MODEL", "REQUESTS", "FAILED", "KEPT", "IN", "OUT", "USD",
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
            self.kept.to_string(),
            self.input.to_string(),
            self.output.to_string(),
            self.cost.clone(),
        ]
    }
}

impl Row for ModelRoute {
    const HEADERS: &'static [&'static str] = &["NAME", "PICK", "TRIES", "MODELS"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, _: Timestamp) -> Vec<String> {
        let models = self.models.iter().map(|it| {
            let weight = match self.pick == "weighted" {
                true => format!("={}", it.weight),
                false => String::new(),
            };
            let rests = match it.resting_until {
                Some(_) => " (rests)",
                None => "",
            };
            format!("{}{weight}{rests}", it.model)
        });
        vec![
            self.name.clone(),
            self.pick.clone(),
            self.tries.to_string(),
            models.collect::<Vec<_>>().join(", "),
        ]
    }
}

impl Row for ModelRouteVersion {
    const HEADERS: &'static [&'static str] =
        &["VERSION", "AGE", "PICK", "TRIES", "MODELS", "BACK TO"];

    fn name(&self) -> String {
        self.version.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let weighted = self.route.pick.as_deref() == Some("weighted");
        let models = self.route.models.iter().map(|it| match it.weight {
            Some(weight) if weighted => format!("{}={weight}", it.model),
            _ => it.model.clone(),
        });
        let back = self.back_to.map(|it| it.to_string());
        vec![
            self.version.to_string(),
            age(&self.at, now),
            self.route.pick.clone().unwrap_or_default(),
            self.route.tries.unwrap_or(1).to_string(),
            models.collect::<Vec<_>>().join(", "),
            back.unwrap_or_else(|| "-".to_owned()),
        ]
    }
}

impl Row for ModelPerformance {
    const HEADERS: &'static [&'static str] = &[
        "MODEL", "ASKED", "BAD", "FIRST MS", "WHOLE MS", "TOK/S", "COST", "SCORE",
    ];

    fn name(&self) -> String {
        format!("{}/{}", self.provider, self.model)
    }

    fn cells(&self, _: Timestamp) -> Vec<String> {
        let rate = self.tokens_per_s.map(|it| format!("{it:.0}"));
        let score = self.score.map(|it| format!("{it:.2}"));
        vec![
            self.name(),
            self.requests.to_string(),
            self.failed.to_string(),
            // The median, and what 95 of a hundred keep.
            format!("{}/{}", self.first_ms_p50, self.first_ms_p95),
            format!("{}/{}", self.whole_ms_p50, self.whole_ms_p95),
            rate.unwrap_or_else(|| "-".to_owned()),
            self.cost.clone(),
            score.unwrap_or_else(|| "-".to_owned()),
        ]
    }
}

impl RouteArgs {
    fn wanted(self) -> Result<(String, NewModelRoute)> {
        let model = |text: String| match text.rsplit_once('=') {
            None => Ok(NewRouteModel {
                model: text,
                weight: None,
            }),
            Some((model, weight)) => {
                let weight = weight.parse().map_err(|_| {
                    Failure::usage(format!("`{text}`: behind `=` stands a weight, a number"))
                })?;
                Ok(NewRouteModel {
                    model: model.to_owned(),
                    weight: Some(weight),
                })
            }
        };
        let models: Result<Vec<NewRouteModel>> = self.models.into_iter().map(model).collect();
        let route = NewModelRoute {
            pick: Some(self.pick),
            tries: Some(self.tries),
            models: models?,
            rollback: self.rollback_after.map(|after| RouteRollback {
                after,
                failures: self.most_failures,
                p95_ms: self.most_p95,
                score: self.least_score,
            }),
        };
        Ok((self.name, route))
    }
}

impl BudgetArgs {
    fn wanted(self) -> (String, NewModelBudget) {
        let of = [
            ("agent", self.agent),
            ("key", self.key),
            ("user", self.user),
            ("model", self.model),
            ("server", self.mcp_server),
            ("tool", self.tool),
            ("rule", self.rule),
        ];
        let one = of.into_iter().find_map(|(of, whose)| Some((of, whose?)));
        let (of, whose) = one.unwrap_or(("workspace", String::new()));
        let budget = NewModelBudget {
            of: of.to_owned(),
            whose,
            window: self.per,
            money: self.usd,
            tokens: self.tokens,
            calls: self.calls,
            requests: self.requests,
            alerts: self.alert,
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
        ModelsVerb::Check(NameArgs { name }) => check(session, &name).await,
        ModelsVerb::Routes => output.list(&client.model_routes().await?.items),
        ModelsVerb::Route(args) => set_route(session, args).await,
        ModelsVerb::RouteVersions(NameArgs { name }) => {
            output.list(&client.model_route_versions(&name).await?.items)
        }
        ModelsVerb::RollbackRoute(NameArgs { name }) => {
            let now = client.roll_model_route_back(&name).await?;
            let said = format!("{name} is as it was, by version {}.", now.version);
            output.done(&now, &name, &said)
        }
        ModelsVerb::DropRoute(NameArgs { name }) => drop_route(session, &name).await,
        ModelsVerb::Performance(PerformanceArgs { hours }) => performance(session, hours).await,
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
        ModelsVerb::Settings => kept::settings(session).await,
        ModelsVerb::Set(args) => kept::set(session, args).await,
        ModelsVerb::Unset(args) => kept::unset(session, args).await,
        ModelsVerb::Exchanges(args) => kept::exchanges(session, args).await,
        ModelsVerb::Exchange(args) => kept::exchange(session, args).await,
        ModelsVerb::DropExchange(args) => kept::remove(session, args).await,
        ModelsVerb::Forget(args) => kept::forget(session, args).await,
        ModelsVerb::Warm(args) => warm::warm(session, args).await,
        ModelsVerb::Score(args) => kept::score(session, args).await,
        ModelsVerb::Usage(args) => usage(session, args).await,
    }
}

impl Row for ModelKeyCheck {
    const HEADERS: &'static [&'static str] =
        &["SECRET", "WORKS", "STATUS", "TOOK", "WHAT IS WRONG"];

    fn name(&self) -> String {
        self.secret.clone().unwrap_or_else(|| "-".to_owned())
    }

    fn cells(&self, _: Timestamp) -> Vec<String> {
        let status = self.status.map(|it| it.to_string());
        vec![
            self.name(),
            if self.works { "yes" } else { "no" }.to_owned(),
            status.unwrap_or_else(|| "-".to_owned()),
            format!("{} ms", self.took_ms),
            self.trouble.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    }
}

async fn usage(session: &Session, args: UsageArgs) -> Result {
    let (client, output) = (session.client()?, &session.output);
    let days = (args.since.as_deref(), args.until.as_deref());
    let used = client.model_usage(days.0, days.1).await?;
    match output.format {
        _ if args.csv => {
            output.say(csv(&used.items).trim_end())?;
            if used.more {
                output.note("There is more: ask for fewer days.");
            }
            Ok(())
        }
        Format::Json | Format::Yaml => output.document(&used),
        _ => {
            output.list(&used.items)?;
            if used.more {
                output.note("There is more: ask for fewer days.");
            }
            output.note(&format!(
                "All of it cost {} US dollars. This month cost {} until now, and will have cost about {}.",
                used.cost, used.month.cost, used.month.forecast
            ));
            Ok(())
        }
    }
}

/// What was used, as comma-separated values.
fn csv(items: &[ModelUsage]) -> String {
    let field = |text: &str| {
        // A program for tables takes what begins so for a formula.
        let text = match text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
            true => format!("'{text}"),
            false => text.to_owned(),
        };
        match text.contains(['"', ',', '\n', '\r']) {
            true => format!("\"{}\"", text.replace('"', "\"\"")),
            false => text,
        }
    };
    let mut lines =
        "day,of,whose,provider,model,requests,failed,kept,input,cache_read,cache_write,output,usd\n".to_owned();
    for it in items {
        let texts = [&it.day, &it.of, &it.whose, &it.provider, &it.model].map(|text| field(text));
        let numbers = [
            it.requests,
            it.failed,
            it.kept,
            it.input,
            it.cache_read,
            it.cache_write,
            it.output,
        ];
        let numbers = numbers.map(|it| it.to_string());
        lines.push_str(&format!(
            "{},{},{}\n",
            texts.join(","),
            numbers.join(","),
            it.cost
        ));
    }
    lines
}

async fn check(session: &Session, name: &str) -> Result {
    let (client, output) = (session.client()?, &session.output);
    let found = client.check_model_provider(name).await?;
    match output.format {
        Format::Json | Format::Yaml => output.document(&found)?,
        _ => {
            output.list(&found.keys)?;
            if !found.models.is_empty() {
                output.note(&format!("It has {} models:", found.models.len()));
                output.say(&found.models.join("\n"))?;
            }
        }
    }
    match found.keys.iter().all(|it| it.works) {
        true => Ok(()),
        false => Err(Failure::new(
            Exit::Watched,
            format!("{name} cannot be asked as it should"),
        )),
    }
}

async fn set_route(session: &Session, args: RouteArgs) -> Result {
    let (name, wanted) = args.wanted()?;
    let made = session.client()?.put_model_route(&name, &wanted).await?;
    let said = format!("{name} is asked for as a model is, from now on.");
    session.output.done(&made, &name, &said)
}

async fn drop_route(session: &Session, name: &str) -> Result {
    session.confirm(&format!(
        "Remove the route {name}? Who asks for it is answered by a model of that name, or by nobody."
    ))?;
    session.client()?.remove_model_route(name).await?;
    let said = format!("{name} is removed.");
    let gone = serde_json::json!({ "removed": name });
    session.output.done(&gone, name, &said)
}

async fn performance(session: &Session, hours: u64) -> Result {
    let told = session.client()?.model_performance(hours).await?;
    let output = &session.output;
    match output.format {
        Format::Json | Format::Yaml => output.document(&told),
        _ => {
            output.list(&told.items)?;
            if told.more {
                output.note("There were more exchanges: these are the newest.");
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_is_read_by_a_program_for_tables() {
        let used = ModelUsage {
            day: "2026-11-22".to_owned(),
            of: "agent".to_owned(),
            whose: "ada".to_owned(),
            provider: "openai".to_owned(),
            model: "=a,\"b\"".to_owned(),
            requests: 3,
            failed: 1,
            kept: 1,
            input: 10,
            cache_read: 0,
            cache_write: 0,
            output: 20,
            cost: "0.0021".to_owned(),
        };
        let lines = csv(&[used]);
        let last = lines.lines().last().expect("a line");
        assert_eq!(
            last,
            "2026-11-22,agent,ada,openai,\"'=a,\"\"b\"\"\",3,1,1,10,0,0,20,0.0021"
        );
        let names = lines.lines().next().expect("names");
        assert_eq!(names.split(',').count(), 13);
    }
}
