//! The way out to the web: which hosts agents may ask, and with which secret.

use clap::{Args, Subcommand};
use skep_api::{NewWebRule, WebCredential, WebRule};
use skep_core::Timestamp;

use crate::cmd::models::days;
use crate::failure::{Exit, Failure, Result};
use crate::output::Row;
use crate::session::Session;

mod kept;

/// What to do with the way out to the web.
#[derive(Debug, Subcommand)]
pub(crate) enum WebVerb {
    /// List the rules of the workspace
    #[command(visible_alias = "ls")]
    List,
    /// Let agents ask a host: add a rule, or change the one of its name
    Allow(AllowArgs),
    /// Remove a rule
    #[command(visible_alias = "rm")]
    Remove(NameArgs),
    /// Tell what becomes of a request; nothing is sent
    Check(CheckArgs),
    /// Show the certificate of the CA by which Skep opens TLS
    Ca,
    /// List exchanges that are kept, the newest first
    Exchanges(kept::ExchangesArgs),
    /// Show what was said in one; that you did stands in the audit log
    Exchange(kept::ExchangeArgs),
    /// Remove an exchange that is kept
    DropExchange(kept::ExchangeArgs),
}

/// Flags of `web allow`.
#[derive(Debug, Args)]
#[command(after_help = "\
A rule is for https, unless it says http://. A host without a rule cannot be
asked. With a secret, with methods or with paths, Skep opens TLS with a CA of the
workspace, which its agents trust, and takes the secret out of answers. With
--record it does so, too, and keeps each exchange encrypted: the request without
the secret, and the answer.

Examples:
  skep web allow github api.github.com --secret keys/github --header Authorization
  skep web allow pypi '*.pypi.org' --method GET
  skep web allow shop api.shop.example --record 30d
  skep web allow maps maps.example.com --secret keys/maps --query key
  skep web allow stripe api.stripe.com --secret billing/stripe \\
      --path '/v1/charges/**'")]
pub(crate) struct AllowArgs {
    /// What it is called: a-z, 0-9 and `-`
    name: String,
    /// Who may be asked: api.example.com, '*.example.com:8443', http://internal:8080, '*'
    host: String,
    /// A method [default: any]
    #[arg(long = "method", value_name = "METHOD")]
    methods: Vec<String>,
    /// A path; `*` is one part of it, `/**` at the end all that follows [default: any]
    #[arg(long = "path", value_name = "PATH")]
    paths: Vec<String>,
    /// The secret that is put in; an agent that was lent it may send its placeholder anywhere
    #[arg(long, value_name = "NAME")]
    secret: Option<String>,
    /// One field of the secret
    #[arg(long, value_name = "FIELD", requires = "secret")]
    field: Option<String>,
    /// The header that it goes into
    #[arg(long, value_name = "HEADER", requires = "secret", group = "place")]
    header: Option<String>,
    /// What the header says, with {} where the secret stands, or {base64} [default: Bearer {} for
    /// Authorization, else {}]
    #[arg(long, value_name = "FORM", requires = "header")]
    form: Option<String>,
    /// The field of the query that it goes into
    #[arg(long, value_name = "FIELD", requires = "secret", group = "place")]
    query: Option<String>,
    /// A text that stands for it wherever it is found in a request
    #[arg(long, value_name = "TEXT", requires = "secret", group = "place")]
    placeholder: Option<String>,
    /// Look into each request, though nothing else asks for that
    #[arg(long)]
    open: bool,
    /// For how many days exchanges are kept for people to look at, such as `30d`; each request is looked into for that
    /// [default: off]
    #[arg(long, value_name = "TIME", value_parser = days)]
    record: Option<u32>,
}

/// A name.
#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// Its name
    name: String,
}

/// Flags of `web check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// What is asked for.
    #[arg(help = "What is asked for, such as https://api.example.com/v1/items")]
    url: String,
    /// How [default: GET]
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// Which agent asks [default: who runs this]
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
}

fn or_any(all: &[String]) -> String {
    match all.is_empty() {
        true => "any".to_owned(),
        false => all.join(","),
    }
}

fn put_in(credential: &WebCredential) -> String {
    let secret = match &credential.field {
        Some(field) => format!("{}#{field}", credential.secret),
        None => credential.secret.clone(),
    };
    match (
        &credential.header,
        &credential.query,
        &credential.placeholder,
    ) {
        (Some(header), _, _) => format!("{secret} in {header}"),
        (_, Some(query), _) => format!("{secret} in ?{query}"),
        (_, _, Some(text)) => format!("{secret} for {text}"),
        _ => format!("{secret} for placeholders"),
    }
}

impl Row for WebRule {
    const HEADERS: &'static [&'static str] =
        &["NAME", "HOST", "METHODS", "PATHS", "SECRET", "LOOKED INTO"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, _: Timestamp) -> Vec<String> {
        vec![
            self.name.clone(),
            self.host.clone(),
            or_any(&self.methods),
            or_any(&self.paths),
            self.credential.as_ref().map(put_in).unwrap_or_default(),
            match (self.opened, self.record_days) {
                (_, Some(days)) => format!("yes, kept {days}d"),
                (true, None) => "yes".to_owned(),
                (false, None) => "no".to_owned(),
            },
        ]
    }
}

impl AllowArgs {
    fn wanted(self) -> (String, NewWebRule) {
        let credential = self.secret.map(|secret| WebCredential {
            secret,
            field: self.field,
            header: self.header,
            form: self.form,
            query: self.query,
            placeholder: self.placeholder,
        });
        let rule = NewWebRule {
            host: self.host,
            methods: self
                .methods
                .iter()
                .map(|it| it.to_ascii_uppercase())
                .collect(),
            paths: self.paths,
            credential,
            open: self.open,
            record_days: self.record.filter(|it| *it > 0),
        };
        (self.name, rule)
    }
}

pub(crate) async fn run(session: &Session, verb: WebVerb) -> Result {
    let (client, output) = (session.client()?, &session.output);
    match verb {
        WebVerb::List => output.list(&client.web_rules().await?.items),
        WebVerb::Allow(args) => {
            let (name, wanted) = args.wanted();
            let made = client.put_web_rule(&name, &wanted).await?;
            let said = format!(
                "{} may be asked now; agents that start from now on find the way.",
                made.host
            );
            output.done(&made, &name, &said)
        }
        WebVerb::Remove(NameArgs { name }) => {
            session.confirm(&format!(
                "Remove the rule {name}? What falls under it is refused from then on."
            ))?;
            client.remove_web_rule(&name).await?;
            let said = format!("{name} is removed.");
            output.done(&serde_json::json!({ "removed": name }), &name, &said)
        }
        WebVerb::Check(CheckArgs { url, method, agent }) => {
            let said = client
                .web_check(&url, method.as_deref(), agent.as_deref())
                .await?;
            let rule = said.rule.clone().unwrap_or_default();
            output.done(&said, &rule, &said.why)?;
            match said.allowed {
                true => Ok(()),
                false => Err(Failure::new(Exit::Watched, "It is not let out.")),
            }
        }
        WebVerb::Ca => {
            let ca = client.web_ca().await?;
            output.done(&ca, "ca", ca.certificate.trim_end())
        }
        WebVerb::Exchanges(args) => kept::exchanges(session, args).await,
        WebVerb::Exchange(args) => kept::exchange(session, args).await,
        WebVerb::DropExchange(args) => kept::remove(session, args).await,
    }
}
