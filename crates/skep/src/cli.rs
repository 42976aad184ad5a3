//! The command line: global flags, and the verbs with theirs.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::cmd::{
    account, agents, archive, attach, audit, backup, benchmark, build, cache, call, calls,
    compliance, config, deploy, dev, events, exec, health, healthcheck, init, keys, list, lock,
    logs, manifest, mcp, message, models, orders, performance, policy, prompts, replay, rollout,
    runs, secrets, security, stats, store, templates, top, up, users, vault, web, webhooks,
    workspaces,
};
use crate::output::{Color, Format};

/// The house that AI agents live in: runs them, answers for them, keeps what they know.
#[derive(Debug, Parser)]
#[command(name = "skep", version, disable_help_subcommand = true)]
#[command(after_help = "Start with `skep demo`, or `skep up` and `skep deploy`.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Flags of every verb.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// How results look
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value = "table",
        value_name = "FORMAT"
    )]
    pub(crate) output: Format,
    /// The server's address [env: SKEP_SERVER] [default: the one that the configuration starts]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// A file with the API key [env: SKEP_API_KEY_FILE, or the key in SKEP_API_KEY]
    /// [default: admin.key in the data folder]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// PEM certificates to trust, instead of the system's
    #[arg(hide_short_help = true, long, global = true, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// A PEM certificate to show to a server that asks for one [env: SKEP_CLIENT_CERT]
    #[arg(hide_short_help = true, long, global = true, value_name = "FILE")]
    pub(crate) client_cert: Option<PathBuf>,
    /// The PEM key of --client-cert [env: SKEP_CLIENT_KEY] [default: the same file]
    #[arg(hide_short_help = true, long, global = true, value_name = "FILE")]
    pub(crate) client_key: Option<PathBuf>,
    /// A server and key by the name that contexts.toml gives them
    #[arg(hide_short_help = true, long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The workspace, for who belongs to several [env: SKEP_WORKSPACE]
    #[arg(hide_short_help = true, long, global = true, value_name = "NAME")]
    pub(crate) workspace: Option<String>,
    /// What data is for that is taken out (exports, backups), where the server wants to know
    #[arg(hide_short_help = true, long, global = true, value_name = "TEXT")]
    pub(crate) purpose: Option<String>,
    /// The configuration file [env: SKEP_CONFIG] [default: ./skep.toml, else the user's]
    #[arg(hide_short_help = true, long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The data folder
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Never ask
    #[arg(hide_short_help = true, long, global = true)]
    pub(crate) no_input: bool,
    /// Say yes to every question
    #[arg(short, long, global = true)]
    pub(crate) yes: bool,
    /// Print results only
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Print more: request ids with errors, debug logs of `up`
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// When to use colours
    #[arg(
        hide_short_help = true,
        long,
        global = true,
        value_enum,
        default_value = "auto",
        value_name = "WHEN"
    )]
    pub(crate) color: Color,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Start a server here
    Up(up::UpArgs),
    /// Watch agent and server crash, and every call be answered once
    Demo(DemoArgs),
    /// Make a project from a template
    Init(init::InitArgs),
    /// Templates: find, install, rate and publish what projects begin with
    #[command(subcommand)]
    Templates(templates::TemplatesVerb),
    /// Run an agent from a folder, again after each change
    Dev(dev::DevArgs),
    /// Make a container image, from a Dockerfile or of one program
    Build(build::BuildArgs),
    /// Deploy an agent, or a new revision of one
    Deploy(deploy::DeployArgs),
    /// List the agents
    #[command(visible_alias = "ls")]
    List(list::ListArgs),
    /// Show an agent
    Inspect(agents::InspectArgs),
    /// Print what an agent wrote
    Logs(logs::LogsArgs),
    /// Start stopped agents
    Start(orders::OrderArgs),
    /// Stop agents; their calls wait
    Stop(orders::OrderArgs),
    /// Replace agents' instances by new ones, without a gap
    Restart(orders::OrderArgs),
    /// Check a manifest without a server
    Validate(manifest::FileArgs),
    /// Show what deploying a manifest would change; exit code 1 when anything would
    Diff(manifest::FileArgs),
    /// Print agents as a manifest, or take one with its data
    Export(manifest::ExportArgs),
    /// Make an agent of an archive, with its data
    Import(archive::ImportArgs),
    /// Go back to an earlier revision, or on to a later one
    Rollback(rollout::RollbackArgs),
    /// How far a revision is, and hold it or let it go on
    #[command(subcommand)]
    Rollout(rollout::RolloutVerb),
    /// Stop and forget agents
    #[command(visible_alias = "rm")]
    Remove(orders::RemoveArgs),
    /// Call an agent
    Call(call::CallArgs),
    /// List, show and mend calls
    Calls(calls::CallsArgs),
    /// List and follow runs of agents, and the conversations that they belong to
    Runs(runs::RunsArgs),
    /// Send a recorded call again and show how the answers differ
    Replay(replay::ReplayArgs),
    /// Measure how fast agents answer, and what that costs
    Benchmark(benchmark::BenchmarkArgs),
    /// Forget answers that are kept
    #[command(subcommand)]
    Cache(cache::CacheVerb),
    /// Show how the server and its agents are, or the instances of one
    Health(health::HealthArgs),
    /// Tell by the exit code whether the server takes calls
    Healthcheck(healthcheck::HealthcheckArgs),
    /// List the servers that share the database
    Servers,
    /// Show what agents use and how their calls go, live on a terminal
    Stats(stats::StatsArgs),
    /// Show how an agent's calls went, hour by hour
    Performance(performance::PerformanceArgs),
    /// Follow what an agent writes from now on, or a call's answer
    Attach(attach::AttachArgs),
    /// Watch all agents on a screen of their own
    Top(top::TopArgs),
    /// Run a command in the box of an agent's instance
    Exec(exec::ExecArgs),
    /// Show what happened to agents, and what happens
    Events(events::EventsArgs),
    /// Log in as a person, with a password or by a provider
    Login(account::LoginArgs),
    /// End the session that `login` began
    Logout(account::LogoutArgs),
    /// Show who one is for the server
    Whoami,
    /// One's own sessions, password, second factor and accounts at providers
    #[command(subcommand)]
    Account(account::AccountVerb),
    /// People of the workspace, and invitations to it
    #[command(subcommand)]
    Users(users::UsersVerb),
    /// List, make and remove workspaces
    #[command(subcommand)]
    Workspaces(workspaces::WorkspacesVerb),
    /// Make, list, replace and end API keys
    #[command(subcommand)]
    Keys(keys::KeysVerb),
    /// Secrets that agents use and do not see
    #[command(subcommand)]
    Secrets(secrets::SecretsVerb),
    /// MCP servers: who has tools, what was approved of them, and what was used
    #[command(subcommand)]
    Mcp(mcp::McpVerb),
    /// Models: who answers for them, budgets, and what was used
    #[command(subcommand)]
    Models(models::ModelsVerb),
    /// Prompts: what agents ask models with, in versions
    #[command(subcommand)]
    Prompts(prompts::PromptsVerb),
    /// The web: which hosts agents may ask, and with which secret
    #[command(subcommand)]
    Web(web::WebVerb),
    /// Webhooks: who is told what happens here, and what became of it
    #[command(subcommand)]
    Webhooks(webhooks::WebhooksVerb),
    /// What secrets are encrypted with: seals and keys
    #[command(subcommand)]
    Vault(vault::VaultVerb),
    /// An agent in one encrypted file, agent.lock
    #[command(subcommand)]
    #[command(after_help = "\
A link called `bp` to this program is `skep lock`: `bp show` is `skep lock show`.")]
    Lock(lock::LockVerb),
    /// Seal messages that only their receiver can read
    #[command(subcommand)]
    Message(message::MessageVerb),
    /// Who did what, and the proof of it
    #[command(subcommand)]
    Audit(audit::AuditVerb),
    /// What looked like an attack
    #[command(subcommand)]
    Security(security::SecurityVerb),
    /// What the evidence says of the controls of a framework
    #[command(subcommand)]
    Compliance(compliance::ComplianceVerb),
    /// Who may do what
    #[command(subcommand)]
    Policy(policy::PolicyVerb),
    /// Make, check and restore backups
    #[command(subcommand)]
    Backup(backup::BackupVerb),
    /// Move the store to another engine
    #[command(subcommand)]
    Store(store::StoreVerb),
    /// Show and change the configuration
    #[command(subcommand)]
    Config(config::ConfigVerb),
    /// Find out what is wrong with this machine's server
    Doctor,
    /// Print a completion script
    Completions(CompletionsArgs),
    /// Print the manual page
    Man(ManArgs),
}

/// Flags of `demo`.
#[derive(Debug, Args)]
#[command(
    long_about = "Starts a server in a folder of its own, deploys an agent, sends it calls, \
    kills the agent and then the server with SIGKILL, and checks that every call was answered \
    exactly once."
)]
pub(crate) struct DemoArgs {
    /// End after the story instead of serving on
    #[arg(long)]
    pub(crate) once: bool,
    /// How many calls to send
    #[arg(long, default_value_t = 40, value_name = "N",
        value_parser = clap::value_parser!(u64).range(8..=10_000))]
    pub(crate) calls: u64,
}

/// Flags of `completions`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  skep completions bash > ~/.local/share/bash-completion/completions/skep"
)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

/// Flags of `man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Write a page for each verb into this folder
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command, CommandFactory};

    const WIDTH: usize = 80;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_help_is_as_it_was() {
        let all = crate::cmd::pages::helps();
        let settings = {
            let mut settings = insta::Settings::clone_current();
            settings.set_snapshot_path("../tests/help");
            settings.set_prepend_module_to_snapshot(false);
            settings.set_omit_expression(true);
            settings
        };
        for (name, help) in &all {
            assert!(
                help.lines().all(|line| line.chars().count() <= WIDTH),
                "{name}: {help}"
            );
            settings.bind(|| insta::assert_snapshot!(name.replace(' ', "-"), help));
        }
        // Nobody may take a verb away and leave its golden behind.
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/help");
        let goldens = std::fs::read_dir(folder).unwrap().flatten();
        let goldens = goldens.filter(|file| file.path().extension().is_some_and(|e| e == "snap"));
        assert_eq!(goldens.count(), all.len());
    }

    #[test]
    fn every_verb_and_flag_says_what_it_is() {
        fn check(command: &Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for arg in command.get_arguments() {
                assert!(
                    arg.get_help().is_some(),
                    "{} {}",
                    command.get_name(),
                    arg.get_id()
                );
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
