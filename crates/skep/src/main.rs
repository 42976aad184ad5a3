//! The binary: the CLI, and the entries of the processes that a server starts from itself.
//!
//! Verbs live in `cmd`, the command line in `cli`, where a verb works in `session`, what is printed
//! in `output` and `failure`. Everything but `up`, `doctor`, `build` and the offline verbs of `backup` and `store` talks to a server through
//! `skep-client` only.

mod agent;
mod cli;
mod cmd;
mod columns;
mod failure;
mod live;
mod manifest;
mod output;
mod serve;
mod session;
mod table;
mod templates;
mod terminal;
mod yaml;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Verb};
use crate::cmd::backup::BackupVerb;
use crate::cmd::store::StoreVerb;
use crate::failure::{Exit, Failure, Result};
use crate::output::Format;
use crate::session::Session;

fn main() -> ExitCode {
    // A server starts the first, many times, and it needs a process without threads; the others
    // are no verbs either.
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("__shim") => return skep_runtime::shim_main(args),
        Some("__agent") => return agent::main(),
        Some("__document") => return cmd::pages::document(args.next().as_ref()),
        _ => {}
    }
    keep_memory();
    let cli = Cli::parse_from(cmd::lock::words(std::env::args_os()));
    let json = cli.global.output == Format::Json;
    let verbose = cli.global.verbose > 0;
    match run(cli) {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            let text = failure.render(json, verbose);
            // Nobody is left to tell when standard error is closed.
            let _ = std::io::stderr().write_all(text.as_bytes());
            failure.status()
        }
    }
}

/// Values of secrets are in this process's memory: it leaves no core file, and nobody of the same user looks into
/// it. What it starts is not held to that, but for the limit, which it may raise again.
fn keep_memory() {
    use rustix::process::{
        DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
    };
    let limit = Rlimit {
        current: Some(0),
        ..getrlimit(Resource::Core)
    };
    // A kernel that refuses either has neither.
    let _ = setrlimit(Resource::Core, limit);
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

fn run(cli: Cli) -> Result {
    if cli.global.output == Format::Html && !matches!(cli.verb, Verb::Benchmark(_)) {
        return Err(Failure::usage("only `skep benchmark` writes HTML"));
    }
    let session = Session::new(cli.global)?;
    match cli.verb {
        Verb::Up(args) => cmd::up::up(&session, &args),
        Verb::Completions(args) => cmd::pages::completions(&session, &args),
        Verb::Man(args) => cmd::pages::man(&session, &args),
        Verb::Config(verb) => cmd::config::run(&session, verb),
        Verb::Validate(args) => cmd::manifest::validate(&session, &args),
        Verb::Backup(BackupVerb::Verify(args)) => cmd::backup::verify(&session, &args),
        Verb::Backup(BackupVerb::Restore(args)) => cmd::backup::restore(&session, &args),
        Verb::Store(StoreVerb::Migrate(args)) => cmd::store::migrate(&session, &args),
        Verb::Init(args) => cmd::init::init(&session, &args),
        verb => runtime()?.block_on(client_verb(&session, verb)),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().map_err(Failure::from)
}

async fn client_verb(session: &Session, verb: Verb) -> Result {
    match verb {
        Verb::Demo(args) => cmd::demo::demo(session, &args).await,
        Verb::Dev(args) => cmd::dev::dev(session, args).await,
        Verb::Doctor => cmd::doctor::doctor(session).await,
        Verb::Build(args) => cmd::build::build(session, args).await,
        Verb::Deploy(args) => cmd::deploy::deploy(session, args).await,
        Verb::List(args) => cmd::list::list(session, args).await,
        Verb::Inspect(args) => cmd::agents::inspect(session, args).await,
        Verb::Logs(args) => cmd::logs::logs(session, args).await,
        Verb::Start(args) => cmd::orders::start(session, args).await,
        Verb::Stop(args) => cmd::orders::stop(session, args).await,
        Verb::Restart(args) => cmd::orders::restart(session, args).await,
        Verb::Diff(args) => cmd::manifest::diff(session, args).await,
        Verb::Export(args) => cmd::manifest::export(session, args).await,
        Verb::Login(args) => cmd::account::login(session, args).await,
        Verb::Logout(args) => cmd::account::logout(session, args).await,
        Verb::Whoami => cmd::account::whoami(session).await,
        Verb::Account(verb) => cmd::account::run(session, verb).await,
        Verb::Users(verb) => cmd::users::run(session, verb).await,
        Verb::Workspaces(verb) => cmd::workspaces::run(session, verb).await,
        Verb::Lock(verb) => cmd::lock::run(session, verb).await,
        Verb::Templates(verb) => cmd::templates::run(session, verb).await,
        Verb::Message(verb) => cmd::message::run(session, verb).await,
        Verb::Secrets(verb) => cmd::secrets::run(session, verb).await,
        Verb::Vault(verb) => cmd::vault::run(session, verb).await,
        Verb::Keys(verb) => cmd::keys::run(session, verb).await,
        Verb::Performance(args) => cmd::performance::run(session, args).await,
        Verb::Mcp(verb) => cmd::mcp::run(session, verb).await,
        Verb::Models(verb) => cmd::models::run(session, verb).await,
        Verb::Prompts(verb) => cmd::prompts::run(session, verb).await,
        Verb::Web(verb) => cmd::web::run(session, verb).await,
        Verb::Webhooks(verb) => cmd::webhooks::run(session, verb).await,
        Verb::Security(verb) => cmd::security::run(session, verb).await,
        Verb::Compliance(verb) => cmd::compliance::run(session, verb).await,
        Verb::Audit(verb) => cmd::audit::run(session, verb).await,
        Verb::Policy(verb) => cmd::policy::run(session, verb).await,
        Verb::Import(args) => cmd::archive::import(session, args).await,
        Verb::Rollback(args) => cmd::rollout::rollback(session, args).await,
        Verb::Rollout(verb) => cmd::rollout::run(session, verb).await,
        Verb::Remove(args) => cmd::orders::remove(session, args).await,
        Verb::Call(args) => cmd::call::call(session, args).await,
        Verb::Calls(args) => cmd::calls::run(session, args).await,
        Verb::Runs(args) => cmd::runs::run(session, args).await,
        Verb::Replay(args) => cmd::replay::replay(session, args).await,
        Verb::Benchmark(args) => cmd::benchmark::benchmark(session, args).await,
        Verb::Cache(verb) => cmd::cache::cache(session, verb).await,
        Verb::Health(args) => cmd::health::health(session, args).await,
        Verb::Healthcheck(args) => cmd::healthcheck::healthcheck(session, &args).await,
        Verb::Servers => cmd::servers::servers(session).await,
        Verb::Attach(args) => cmd::attach::attach(session, args).await,
        Verb::Top(args) => cmd::top::top(session, args).await,
        Verb::Exec(args) => cmd::exec::exec(session, args).await,
        Verb::Events(args) => cmd::events::events(session, args).await,
        Verb::Stats(args) => cmd::stats::stats(session, args).await,
        Verb::Backup(BackupVerb::Create(args)) => cmd::backup::create(session, args).await,
        Verb::Backup(BackupVerb::List(args)) => cmd::backup::list(session, args).await,
        Verb::Up(_)
        | Verb::Completions(_)
        | Verb::Man(_)
        | Verb::Config(_)
        | Verb::Validate(_)
        | Verb::Backup(BackupVerb::Verify(_) | BackupVerb::Restore(_))
        | Verb::Store(_)
        | Verb::Init(_) => Ok(()),
    }
}
