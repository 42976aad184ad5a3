//! `policy`: who may do what.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;
use skep_api::{
    PolicyContext, PolicyExplanation, PolicyInjection, PolicyPrincipal, PolicyQuestion,
    PolicyResource, PolicyRollback, PolicyText, PolicyVersion,
};
use skep_client::PageQuery;
use skep_core::{Timestamp, Workspace};
use skep_guard::identity::Tenants;
use skep_guard::policy::{MOST_TEXT, SCHEMA, Slice, Suite, Wrong, validate};
use skep_store::{Db, Options};

use crate::failure::{Exit, Failure, Result};
use crate::output::{Format, Row, age};
use crate::session::Session;

mod simulate;

/// The largest file of cases.
const MOST_CASES: u64 = 8 << 20;

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyVerb {
    /// Print the workspace's policies, or Skep's own
    Show(ShowArgs),
    /// Check a file of policies; needs no server
    Validate(FileArgs),
    /// Make a file the workspace's policies
    Set(SetArgs),
    /// List the versions
    History(HistoryArgs),
    /// Make an earlier version hold again
    Rollback(RollbackArgs),
    /// Ask a file of cases and compare; exits with 1 when one differs
    Test(TestArgs),
    /// Why something is allowed or not: what decided, and what came near
    Explain(Box<ExplainArgs>),
    /// What policies would have decided in the past, from the audit log
    Simulate(simulate::SimulateArgs),
    /// Print the schema: all principals, actions and things
    Schema,
    /// Leave a workspace with Skep's own policies alone, without a server
    Reset(ResetArgs),
}

/// Flags of `policy show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Skep's own policies, which hold in every workspace
    #[arg(long)]
    defaults: bool,
}

/// A file of policies.
#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// A file of Cedar policies; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Flags of `policy set`.
#[derive(Debug, Args)]
#[command(after_help = "\
The file takes the place of all of the workspace's policies; Skep's own stay. It is
checked first, and refused when no owner could change the policies any more.

Examples:
  skep policy show > policies.cedar
  skep policy set policies.cedar --expected 3")]
pub(crate) struct SetArgs {
    /// A file of Cedar policies; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Do nothing unless this version holds; 0 for none
    #[arg(long, value_name = "VERSION")]
    expected: Option<u64>,
}

/// Flags of `policy history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// At most so many
    #[arg(long, default_value_t = 20, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
}

/// Flags of `policy rollback`.
#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// The version, 0 for none; without it, the one before the one that holds
    version: Option<u64>,
    /// Do nothing unless this version holds
    #[arg(long, value_name = "VERSION")]
    expected: Option<u64>,
}

/// Flags of `policy test`.
#[derive(Debug, Args)]
#[command(after_help = "\
Cases are YAML or JSON:

  cases:
    - name: nobody deploys at night
      principal: { kind: ApiKey, id: ci, role: member, scopes: [operate] }
      action: agent:deploy
      resource: { kind: Agent, id: hello, labels: { team: red } }
      context: { time: \"2026-01-05T03:00:00Z\" }
      expect: deny
      by: [nobody-at-night]

Example:
  skep policy test cases.yaml --policies policies.cedar")]
pub(crate) struct TestArgs {
    /// The file of cases
    #[arg(value_name = "CASES")]
    cases: PathBuf,
    /// Ask these policies, without a server; without it, those of the workspace
    #[arg(long, value_name = "FILE")]
    policies: Option<PathBuf>,
}

/// Flags of `policy explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep policy explain agent:deploy --agent hello
  skep policy explain agent:call --agent hello --as Agent:planner
  skep policy explain agent:exec --agent hello --as User:usr_1 --role member --at 2026-01-05T03:00:00Z
  skep policy explain model:use --as Agent:ada --model openai/gpt-4o --pii card")]
pub(crate) struct ExplainArgs {
    /// The action, as in the audit log: `agent:deploy`
    action: String,
    /// Who: `User:ID`, `ApiKey:NAME` or `Agent:NAME`; without it, you
    #[arg(long = "as", value_name = "KIND:ID")]
    who: Option<String>,
    /// Their role: viewer, member, admin or owner
    #[arg(long, value_name = "ROLE", requires = "who")]
    role: Option<String>,
    /// How far a key's rights go; may be given again
    #[arg(long, value_name = "SCOPE", requires = "who")]
    scope: Vec<String>,
    /// It is done to this agent
    #[arg(long, value_name = "NAME", conflicts_with = "call")]
    agent: Option<String>,
    /// It is done to this call
    #[arg(long, value_name = "ID")]
    call: Option<String>,
    /// It is done to Skep itself
    #[arg(long = "skep", conflicts_with_all = ["agent", "call"])]
    skep: bool,
    /// It is done to this model
    #[arg(long, value_name = "PROVIDER/MODEL", conflicts_with_all = ["agent", "call", "skep"])]
    model: Option<String>,
    #[command(flatten)]
    sent: SentArgs,
    /// It comes from this address
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// It happens then (RFC 3339)
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
}

/// What is sent to a model.
#[derive(Debug, Args)]
pub(crate) struct SentArgs {
    /// Something personal of this kind is sent, such as `email`; several times
    #[arg(long, value_name = "KIND")]
    pii: Vec<String>,
    /// What looks like a secret of this kind is sent, such as `github-token`; several times
    #[arg(long, value_name = "KIND")]
    secret: Vec<String>,
    /// It looks so much like a prompt injection, 0 to 100
    #[arg(long, value_name = "SCORE", value_parser = clap::value_parser!(i64).range(0..=100))]
    injection: Option<i64>,
    /// It has so many bytes
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(i64).range(0..))]
    body_bytes: Option<i64>,
    /// It asks for so many tokens at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    output_tokens: Option<i64>,
}

impl SentArgs {
    /// What is not said was looked for and is not there, where a model is asked; else nobody looked.
    fn into(self, context: &mut PolicyContext, to_model: bool) {
        let said = |kinds: Vec<String>| {
            (to_model || !kinds.is_empty()).then(|| kinds.into_iter().collect::<BTreeSet<_>>())
        };
        let score = self.injection.or(to_model.then_some(0));
        context.pii = said(self.pii);
        context.secrets = said(self.secret);
        context.injection = score.map(|score| PolicyInjection {
            score,
            signals: BTreeSet::new(),
        });
        context.body_bytes = self.body_bytes;
        context.output_tokens = self.output_tokens;
    }
}

/// Flags of `policy reset`.
#[derive(Debug, Args)]
#[command(after_help = "\
The way back when nobody may change the policies any more: for who has the server's
data folder. Its server must be stopped; others on the same database go on and take
it up within two seconds. The audit log has an entry of it; no version is lost.

Examples:
  skep policy reset --offline && skep up
  skep --workspace red policy reset --offline && skep up")]
pub(crate) struct ResetArgs {
    /// On the data folder, or the database of store.url, itself
    #[arg(long, required = true)]
    offline: bool,
}

impl Row for PolicyVersion {
    const HEADERS: &'static [&'static str] = &["VERSION", "AGE", "BY", "SHA-256", "HOLDS"];

    fn name(&self) -> String {
        self.version.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.version.to_string(),
            age(&self.created_at, now),
            format!("{} {}", self.by_kind, self.by),
            self.hash.chars().take(16).collect(),
            if self.current { "yes" } else { "" }.to_owned(),
        ]
    }
}

/// A file as text, or what is wrong with it.
fn read(path: &Path, most: u64) -> Result<String> {
    let failed = |error: std::io::Error| Failure::usage(format!("{}: {error}", path.display()));
    let mut text = String::new();
    let source: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(std::io::stdin()),
        _ => Box::new(File::open(path).map_err(failed)?),
    };
    source
        .take(most + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(text)
}

fn policies(path: &Path) -> Result<String> {
    read(path, MOST_TEXT as u64)
}

/// All that is wrong, each with the place that an editor jumps to.
fn invalid(path: &Path, wrong: &[Wrong]) -> Failure {
    let path = path.display();
    let line = |it: &Wrong| {
        let place = match (it.line, it.column) {
            (Some(line), Some(column)) => format!("{path}:{line}:{column}: "),
            _ => format!("{path}: "),
        };
        let instead = it.instead.as_deref();
        let instead = instead.map_or_else(String::new, |it| format!(" ({it})"));
        format!("{place}{}{instead}", it.what)
    };
    let lines: Vec<String> = wrong.iter().map(line).collect();
    Failure::plain(lines.join("\n"))
        .hint("`skep policy schema` shows what there is; nothing was changed.")
}

pub(crate) async fn run(session: &Session, verb: PolicyVerb) -> Result {
    match verb {
        PolicyVerb::Show(args) => show(session, &args).await,
        PolicyVerb::Validate(args) => {
            let text = policies(&args.file)?;
            let read = validate(&text).map_err(|wrong| invalid(&args.file, &wrong))?;
            let count = read.len();
            let said = format!("{count} policies, all valid.");
            session
                .output
                .done(&json!({ "policies": count }), &count.to_string(), &said)
        }
        PolicyVerb::Set(args) => set(session, args).await,
        PolicyVerb::History(args) => {
            let page = PageQuery {
                cursor: None,
                limit: Some(args.limit),
            };
            let found = session.client()?.policy_versions(&page).await?;
            session.output.list(&found.items)
        }
        PolicyVerb::Rollback(args) => {
            let to = PolicyRollback {
                version: args.version,
                expected: args.expected,
            };
            let policy = session.client()?.roll_back_policy(&to).await?;
            let version = policy.version;
            let said = match version {
                0 => "Skep's own policies hold alone.".to_owned(),
                version => format!("Version {version} holds."),
            };
            session.output.done(&policy, &version.to_string(), &said)
        }
        PolicyVerb::Test(args) => test(session, &args).await,
        PolicyVerb::Explain(args) => explain(session, *args).await,
        PolicyVerb::Simulate(args) => simulate::run(session, args).await,
        PolicyVerb::Schema => session.output.raw(SCHEMA.as_bytes()),
        PolicyVerb::Reset(_) => reset(session).await,
    }
}

async fn show(session: &Session, args: &ShowArgs) -> Result {
    let output = &session.output;
    if args.defaults {
        return output.raw(skep_guard::policy::DEFAULT.as_bytes());
    }
    let policy = session.client()?.policy().await?;
    match output.format {
        Format::Table | Format::Html => {
            if policy.version == 0 {
                output.note("The workspace has no policies of its own; `skep policy show --defaults` prints Skep's.");
            }
            output.raw(policy.text.as_bytes())
        }
        _ => output.one(&policy, &policy.version.to_string(), &[]),
    }
}

async fn set(session: &Session, args: SetArgs) -> Result {
    let text = policies(&args.file)?;
    // The server checks too; here the places are the file's.
    validate(&text).map_err(|wrong| invalid(&args.file, &wrong))?;
    let text = PolicyText {
        text,
        expected: args.expected,
    };
    let policy = session.client()?.set_policy(&text).await?;
    let version = policy.version;
    let said = format!("Version {version} holds.");
    session.output.done(&policy, &version.to_string(), &said)
}

/// The policies that are asked: a file's, or those of the workspace.
async fn slice(session: &Session, file: Option<&Path>) -> Result<Slice> {
    let (text, version, path) = match file {
        Some(path) => (policies(path)?, None, path.to_owned()),
        None => {
            let policy = session.client()?.policy().await?;
            (policy.text, Some(policy.version), "the workspace".into())
        }
    };
    let read = validate(&text).map_err(|wrong| invalid(&path, &wrong))?;
    Ok(Slice::new(&read, version))
}

/// The workspace that `--workspace` names.
fn named(session: &Session) -> Result<Option<Workspace>> {
    let named = session.workspace().map(Workspace::new).transpose();
    named.map_err(|error| Failure::usage(format!("--workspace: {error}")))
}

/// The workspace of who asks.
pub(super) async fn own(session: &Session) -> Result<Workspace> {
    let name = session.client()?.me().await?.workspace;
    Workspace::new(&name).map_err(|error| Failure::plain(error.to_string()))
}

async fn test(session: &Session, args: &TestArgs) -> Result {
    let text = read(&args.cases, MOST_CASES)?;
    let shown = args.cases.display();
    let suite: Suite = serde_saphyr::from_str(&text)
        .map_err(|error| Failure::usage(format!("{shown}: {error}")))?;
    let slice = slice(session, args.policies.as_deref()).await?;
    let workspace = match args.policies {
        Some(_) => named(session)?.unwrap_or_default(),
        None => own(session).await?,
    };
    let outcomes = suite.run(&slice, &workspace);
    let outcomes = outcomes.map_err(|error| Failure::usage(format!("{shown}: {error}")))?;
    let wrong: Vec<_> = outcomes.iter().filter(|it| it.wrong.is_some()).collect();
    let told = json!({
        "cases": outcomes.len(),
        "wrong": wrong.iter().map(|it| json!({ "name": it.name, "wrong": it.wrong })).collect::<Vec<_>>(),
    });
    let mut said = String::new();
    for one in &wrong {
        let what = one.wrong.as_deref().unwrap_or_default();
        said.push_str(&format!("{}: {what}\n", one.name));
    }
    said.push_str(&match wrong.len() {
        0 => format!("{} cases, all as expected.", outcomes.len()),
        some => format!("{some} of {} cases are not as expected.", outcomes.len()),
    });
    session
        .output
        .done(&told, &wrong.len().to_string(), &said)?;
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Failure::quiet(Exit::Failure)),
    }
}

fn question(args: ExplainArgs) -> Result<PolicyQuestion> {
    let principal = match args.who {
        None => None,
        Some(who) => {
            let (kind, id) = who.split_once(':').ok_or_else(|| {
                Failure::usage("--as is KIND:ID").hint("For example --as Agent:planner.")
            })?;
            Some(PolicyPrincipal {
                kind: kind.to_owned(),
                id: id.to_owned(),
                role: args.role,
                scopes: (!args.scope.is_empty()).then_some(args.scope),
            })
        }
    };
    let of = |kind: &str, id: String| PolicyResource {
        kind: kind.to_owned(),
        id,
        agent: None,
        driver: None,
        labels: std::collections::BTreeMap::new(),
    };
    let resource = match (args.agent, args.call, args.model) {
        (Some(agent), ..) => Some(of("Agent", agent)),
        (_, Some(call), _) => Some(of("Call", call)),
        (.., Some(model)) => Some(of("Model", model)),
        _ => args.skep.then(|| of("Server", String::new())),
    };
    let mut context = PolicyContext {
        time: args.at.map(|at| at.to_string()),
        address: args.address,
        ..PolicyContext::default()
    };
    let to_model = resource.as_ref().is_some_and(|it| it.kind == "Model");
    args.sent.into(&mut context, to_model);
    Ok(PolicyQuestion {
        principal,
        action: args.action,
        resource,
        context,
    })
}

async fn explain(session: &Session, args: ExplainArgs) -> Result {
    let client = session.client()?;
    let mut question = question(args)?;
    if let Some(call) = question.resource.as_mut().filter(|it| it.kind == "Call") {
        let found = client.show_call(&call.id).await?;
        call.agent = Some(found.agent);
    }
    let explained = client.explain_policy(&question).await?;
    let output = &session.output;
    if output.format != Format::Table {
        return output.one(&explained, &explained.decision, &[]);
    }
    output.raw(told(&explained).as_bytes())
}

fn told(explained: &PolicyExplanation) -> String {
    let mut text = match explained.policies.as_slice() {
        [] => format!("{}: no policy allows it\n", explained.decision),
        some => format!("{} by {}\n", explained.decision, some.join(", ")),
    };
    for error in &explained.errors {
        text.push_str(&format!("could not be evaluated: {error}\n"));
    }
    for near in &explained.near {
        let (policy, effect, why) = (&near.policy, &near.effect, &near.why);
        text.push_str(&format!("near: {policy} ({effect}): {why}\n"));
    }
    text
}

async fn reset(session: &Session) -> Result {
    let settings = session.config(Vec::new())?.into_settings();
    let data = settings.data.display().to_string();
    let workspace = named(session)?.unwrap_or_default();
    session.confirm(&format!(
        "Take the own policies of the workspace {workspace} out of force in {data}?"
    ))?;
    let database = settings.store_url.as_ref();
    let options = Options::new(&settings.data)
        .database(database.map(|url| url.reveal().to_owned()))
        .recorder(std::sync::Arc::new(skep_audit::Written));
    let opened = Db::open(options, &skep_server::migrations());
    let db = opened.map_err(|error| Failure::public(&error))?;
    let known = Tenants::open(db.clone()).await;
    let reset = match &known {
        Ok(tenants) if tenants.all().has(&workspace) => {
            Some(skep_server::reset_policies(&db, &workspace).await)
        }
        _ => None,
    };
    db.close().await;
    known.map_err(|error| Failure::public(&error))?;
    let Some(reset) = reset else {
        return Err(
            Failure::plain(format!("there is no workspace `{workspace}`"))
                .hint("Name another one with --workspace."),
        );
    };
    let before = reset.map_err(|error| Failure::public(&error))?;
    let said = match before {
        0 => "The workspace had no policies of its own in force.".to_owned(),
        before => format!(
            "Skep's own policies hold alone. Version {before} is kept: `skep policy rollback {before}` \
             brings it back."
        ),
    };
    session
        .output
        .done(&json!({ "before": before }), &before.to_string(), &said)
}
