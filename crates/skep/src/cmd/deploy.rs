//! `deploy`: agents from flags or a manifest, one after the other, and the wait until they answer.

use std::path::{Path, PathBuf};

use clap::Args;
use skep_api::{Agent, AgentSpec, DeployWithLayers, Replicas, Scaling};
use skep_client::Client;

use super::lock::carry::{self, Carried, CarryArgs};
use super::wait::{Goal, Patience, wait_for};
use crate::failure::{Failure, Result};
use crate::manifest::Manifest;
use crate::session::Session;

/// The driver that runs images.
const CONTAINERS: &str = "docker";

/// Flags of `deploy`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  skep deploy hello --command \"python3 agent.py\"
  skep deploy hello --image registry.example.com/hello:1
  skep deploy hello --env MODE=fast --memory 1GiB -- python3 agent.py --fast
  skep deploy -f stack.yaml --dry-run
  skep deploy -f agent.yaml --lock agent.lock --identity key.txt")]
pub(crate) struct DeployArgs {
    /// The agent's name; the file's own when there is a file
    #[arg(required_unless_present_any = ["file", "lock"])]
    name: Option<String>,
    /// The container image that it is in: Docker Engine runs it
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// The program and its arguments, split as a shell splits words
    #[arg(long, value_name = "COMMAND")]
    command: Option<String>,
    /// The program and its arguments, word by word
    #[arg(last = true, value_name = "WORD", conflicts_with = "command")]
    words: Vec<String>,
    /// A variable for the agent; `KEY` alone takes it from here
    #[arg(short, long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// Where it runs [default: here; in a container what the image says]
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// The path that tells whether it is well
    #[arg(long, value_name = "PATH")]
    health_path: Option<String>,
    /// Calls that may run at once
    #[arg(long, value_name = "N")]
    concurrency: Option<u32>,
    /// Attempts before a call is dead
    #[arg(long, value_name = "N")]
    attempts: Option<u32>,
    /// Copies of it, or their bounds: 3, or 0..10
    #[arg(long, value_name = "N|MIN..MAX", value_parser = replicas)]
    replicas: Option<Replicas>,
    /// Address space of each of its processes, such as 2GiB
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// A manifest, which the flags are laid over when it holds one agent; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Only show what would change
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten, next_help_heading = "Lock file")]
    carry: CarryArgs,
}

pub(crate) async fn deploy(session: &Session, args: DeployArgs) -> Result {
    let here = std::env::current_dir()?;
    let mut manifest = specifications(&args, &here)?;
    super::manifest::tell_notes(session, &manifest);
    let mut carried = carry::carry(session, args.carry, &mut manifest.agents).await?;
    let client = session.client()?;
    if args.dry_run {
        let changes = super::manifest::changes(&client, &manifest.agents).await?;
        return super::manifest::show(session, &changes);
    }
    must_be_there(&client, &manifest.agents).await?;
    let many = manifest.agents.len() > 1;
    let (mut agents, mut told) = (Vec::new(), Vec::new());
    for spec in &manifest.agents {
        if let Some(carried) = &mut carried {
            carried.store(session, &client, &spec.name).await?;
        }
        let (agent, said) = one(session, &client, (spec, carried.take()), &args.patience).await?;
        if many {
            session.output.note(&said);
        }
        told.push(said);
        agents.push(agent);
    }
    let names: Vec<_> = agents.iter().map(|agent| agent.name.as_str()).collect();
    match &agents[..] {
        [agent] => {
            let name = &agent.name;
            let said = format!(
                "{}\nSend it a request with `skep call {name} /PATH -d BODY`.",
                told.join("\n")
            );
            session.output.done(agent, name, &said)
        }
        _ => {
            let said = format!("{} agents are deployed.", agents.len());
            session.output.done(&agents, &names.join("\n"), &said)
        }
    }
}

/// Deploys one agent, waits for it when that is wanted, and says what became of it.
async fn one(
    session: &Session,
    client: &Client,
    (spec, carried): (&AgentSpec, Option<Carried>),
    patience: &Patience,
) -> Result<(Agent, String)> {
    let (mut agent, created) = match carried {
        None => {
            let deployed = client.deploy(spec).await?;
            (deployed.agent, deployed.created)
        }
        Some(carried) => {
            let wish = DeployWithLayers {
                spec: spec.clone(),
                layers: carried.layers,
                keep_memory: carried.keep_memory,
            };
            let agent = client.deploy_with_layers(&wish).await?;
            let is_first = agent.revision == 1;
            (agent, is_first)
        }
    };
    if !patience.no_wait {
        let goal = Goal::Revision(agent.revision);
        agent = wait_for(session, client, &agent.name, &goal, patience.timeout).await?;
    }
    let (name, state) = (&agent.name, agent.state.as_str());
    let what = match created {
        true => "is deployed".to_owned(),
        false => format!("is at revision {}", agent.revision),
    };
    let said = format!("{name} {what} and {state}.");
    Ok((agent, said))
}

/// Agents that others depend on must be there already, when the manifest does not hold them.
async fn must_be_there(client: &Client, agents: &[AgentSpec]) -> Result {
    let held = |name: &String| agents.iter().any(|agent| agent.name == *name);
    for agent in agents {
        for other in agent.depends_on.iter().filter(|name| !held(name)) {
            match client.agent(other).await {
                Ok(_) => {}
                Err(error) if super::manifest::is_missing(&error) => {
                    let why = format!("{} depends on {other}, which is not there", agent.name);
                    return Err(Failure::plain(why)
                        .hint(format!("Deploy {other} first, or add it to the manifest.")));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// The agents that the file says, or the one that the flags say.
fn specifications(args: &DeployArgs, here: &Path) -> Result<Manifest> {
    let Some(file) = &args.file else {
        let agents = vec![laid_over(AgentSpec::new("", Vec::new()), args, here)?];
        return Ok(Manifest {
            agents,
            notes: Vec::new(),
        });
    };
    let mut manifest = super::manifest::read(file)?;
    match &mut manifest.agents[..] {
        [only] => *only = laid_over(only.clone(), args, here)?,
        _ if args.changes_one() => {
            return Err(Failure::usage(format!(
                "{} holds several agents, and the flags are for one",
                file.display()
            ))
            .hint("Write what you want into the file."));
        }
        _ => {}
    }
    Ok(manifest)
}

impl DeployArgs {
    /// Whether a flag says something about one agent.
    fn changes_one(&self) -> bool {
        self.name.is_some()
            || self.command.is_some()
            || !self.words.is_empty()
            || !self.env.is_empty()
            || self.workdir.is_some()
            || self.health_path.is_some()
            || self.concurrency.is_some()
            || self.attempts.is_some()
            || self.replicas.is_some()
            || self.memory.is_some()
            || self.image.is_some()
    }
}

/// A specification with what the flags say.
fn laid_over(mut spec: AgentSpec, args: &DeployArgs, here: &Path) -> Result<AgentSpec> {
    if let Some(name) = &args.name {
        spec.name.clone_from(name);
    }
    if let Some(command) = &args.command {
        spec.command = vec![command.clone()];
    }
    if !args.words.is_empty() {
        spec.command.clone_from(&args.words);
    }
    if let Some(image) = &args.image {
        spec.image = Some(image.clone());
        spec.driver = CONTAINERS.to_owned();
    }
    if spec.command.is_empty() && spec.image.is_none() {
        return Err(Failure::usage("there is no command to run")
            .hint("Give it as --command \"…\", or after `--`; or an image as --image."));
    }
    for pair in &args.env {
        let (key, value) = variable(pair)?;
        spec.env.insert(key, value);
    }
    let given = args.workdir.clone();
    spec.workdir = match (
        given.or(spec.workdir.take().map(PathBuf::from)),
        &spec.image,
    ) {
        (Some(folder), None) => Some(here.join(folder)),
        (None, None) => Some(here.to_owned()),
        // A folder of the image.
        (folder, Some(_)) => folder,
    }
    .map(|folder| folder.to_string_lossy().into_owned());
    replace(&mut spec.health.path, args.health_path.as_ref());
    replace(&mut spec.calls.concurrency, args.concurrency.as_ref());
    replace(&mut spec.calls.attempts, args.attempts.as_ref());
    replace(&mut spec.resources.memory, args.memory.as_ref());
    replace(&mut spec.replicas, args.replicas.as_ref());
    Ok(spec)
}

/// Copies as they stand on the command line.
fn replicas(text: &str) -> Result<Replicas, String> {
    let number = |text: &str| text.trim().parse::<u32>().ok();
    let copies = match text.split_once("..") {
        None => number(text).map(Replicas::Fixed),
        Some((min, max)) => number(max).zip(number(min)).map(|(max, min)| {
            Replicas::Scaled(Scaling {
                min: Some(min),
                max,
                ..Scaling::default()
            })
        }),
    };
    copies.ok_or_else(|| "not a number such as 3, nor bounds such as 0..10".into())
}

fn replace<T: Clone>(slot: &mut Option<T>, with: Option<&T>) {
    if let Some(value) = with {
        *slot = Some(value.clone());
    }
}

pub(super) fn variable(pair: &str) -> Result<(String, String)> {
    let wrong = |why: &str| Failure::usage(format!("--env {pair}: {why}"));
    match pair.split_once('=') {
        Some(("", _)) => Err(wrong("the variable has no name")),
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => match std::env::var(pair) {
            Ok(value) => Ok((pair.to_owned(), value)),
            Err(_) => Err(wrong("it is not set here; give it a value as KEY=VALUE")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: DeployArgs,
    }

    fn spec(words: &[&str]) -> Result<AgentSpec> {
        let line = Line::parse_from([&["deploy"], words].concat());
        let manifest = specifications(&line.args, Path::new("/here"))?;
        Ok(manifest.agents[0].clone())
    }

    #[test]
    fn flags_make_a_specification() {
        let made = spec(&[
            "hello",
            "--env",
            "A=b=c",
            "--memory",
            "1GiB",
            "--attempts",
            "3",
            "--workdir",
            "sub",
            "--",
            "python3",
            "agent.py",
        ])
        .unwrap();
        assert_eq!(made.command, ["python3", "agent.py"]);
        assert_eq!(made.env["A"], "b=c");
        assert_eq!(made.workdir.as_deref(), Some("/here/sub"));
        assert_eq!(made.resources.memory.as_deref(), Some("1GiB"));
        assert_eq!(made.calls.attempts, Some(3));
        assert_eq!(replicas("3"), Ok(Replicas::Fixed(3)));
        let bounds = Replicas::Scaled(Scaling {
            min: Some(0),
            max: 9,
            ..Scaling::default()
        });
        assert_eq!(replicas("0..9"), Ok(bounds));
        assert!(replicas("few").is_err() && replicas("1..").is_err());
        let made = spec(&["hello", "--image", "a:1"]).unwrap();
        let expected = (CONTAINERS, Some("a:1"), None);
        let found = (made.driver.as_str(), made.image.as_deref());
        assert_eq!((found.0, found.1, made.workdir), expected);
        let made = spec(&["hello", "--command", "a 'b c'"]).unwrap();
        assert_eq!(
            (made.command, made.workdir.as_deref()),
            (vec!["a 'b c'".into()], Some("/here"))
        );
    }

    #[test]
    fn flags_are_laid_over_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        std::fs::write(
            &path,
            r#"{"name":"a","command":["x"],"calls":{"attempts":9}}"#,
        )
        .unwrap();
        let path = path.to_str().unwrap();
        let made = spec(&["-f", path, "b", "--concurrency", "2"]).unwrap();
        assert_eq!((made.name.as_str(), made.calls.attempts), ("b", Some(9)));
        assert_eq!(made.calls.concurrency, Some(2));
    }

    #[test]
    fn what_is_missing_is_a_usage_error() {
        for words in [&["hello"][..], &["hello", "--command", "x", "--env", "=x"]] {
            assert_eq!(spec(words).unwrap_err().exit, crate::failure::Exit::Usage);
        }
    }
}
