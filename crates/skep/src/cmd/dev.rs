//! `dev`: one agent from a folder, deployed again after each change, with its calls as they end. A
//! change is a rolling update: what is in flight ends, and what does not start does not take over.

mod project;
mod stream;
mod watch;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use skep_client::Client;

use self::project::{Found, Project};
use self::watch::Watch;
use super::child::Server;
use super::demo::interrupted;
use super::wait::{Goal, wait_for};
use crate::failure::{Failure, Result};
use crate::session::{self, Session};

/// Time for a change to become ready.
const START: Duration = Duration::from_secs(90);
/// Names of changed files that are told.
const MOST_NAMES: usize = 3;

/// Flags of `dev`.
#[derive(Debug, Args)]
#[command(after_help = "\
The agent is what agent.yaml says, else what the folder looks like: Cargo.toml,
package.json, agent.py, main.py and the like. It runs on a server of its own,
which ends with the command, or on the one that --server names. Verbs find that
server by themselves from within the folder.

After each change of a file the agent is replaced without a gap: calls in flight
end, and a version that does not start leaves the one before serving. Hidden
files, node_modules, target and __pycache__ are not looked at. GET is answered
and, as everywhere, not journaled: it does not show.

Examples:
  skep dev
  skep dev reviews -e OPENAI_BASE_URL -e OPENAI_API_KEY
  skep dev -- python3 -m my_agent")]
pub(crate) struct DevArgs {
    /// The agent's folder
    #[arg(default_value = ".")]
    pub(super) dir: PathBuf,
    /// The agent's name [default: the manifest's, else the folder's]
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
    /// A variable for the agent; `KEY` alone takes it from here
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(super) env: Vec<String>,
    /// The program and its arguments, word by word
    #[arg(last = true, value_name = "WORD")]
    pub(super) words: Vec<String>,
}

pub(crate) async fn dev(session: &Session, args: DevArgs) -> Result {
    let project = Project::new(&args)?;
    // Before anything is started: what is wrong with the folder is told at once.
    let first = project.found(1).await?;
    let watch = Watch::new(&project.folder)?;
    if session.names_a_server() {
        return on_their_server(session, project, watch, first).await;
    }
    let pointer = Pointer::free(&project.folder)?;
    let folder = tempfile::Builder::new().prefix("skep-dev-").tempdir()?;
    let mut server = Server::new(folder.path())?;
    let started = tokio::select! {
        started = server.start() => started,
        stopped = interrupted() => stopped.and(Err(Failure::quiet(crate::failure::Exit::Interrupted))),
    };
    let ended = match started {
        Err(failure) => Err(failure),
        Ok(client) => {
            pointer.set(&server.data(), session);
            tokio::select! {
                ended = work(session, &client, project, watch, first) => ended,
                ended = server.ended() => ended,
            }
        }
    };
    if let Err(failure) = &ended
        && !failure.detail.is_empty()
    {
        session.output.note(&server.last_words());
    }
    pointer.remove();
    server.end().await;
    ended
}

async fn on_their_server(
    session: &Session,
    project: Project,
    watch: Watch,
    first: Found,
) -> Result {
    let client = session.client()?;
    let name = first.spec.name.clone();
    match client.agent(&name).await {
        Ok(_) => {
            let detail = format!("{} has an agent `{name}` already", client.url());
            return Err(Failure::plain(detail).hint("Take another name with --name."));
        }
        Err(error) if super::manifest::is_missing(&error) => {}
        Err(error) => return Err(error.into()),
    }
    let ended = work(session, &client, project, watch, first).await;
    let removed = client.remove_agent(&name, true).await;
    ended?;
    match removed {
        Err(error) if !super::manifest::is_missing(&error) => Err(error.into()),
        _ => session.output.say(&format!("{name} is removed.")),
    }
}

/// Deploys and shows until Ctrl-C.
async fn work(
    session: &Session,
    client: &Client,
    project: Project,
    watch: Watch,
    first: Found,
) -> Result {
    let output = &session.output;
    let name = first.spec.name.clone();
    output.say(&format!(
        "{name} runs from {}, by {}.",
        project.folder.display(),
        first.how
    ))?;
    output.say(&format!(
        "Changes are deployed as they come; Ctrl-C ends it. From this folder, try:\n  \
         skep call {name} / -d BODY\nIts address is {}/agents/{name}/.\n",
        client.url()
    ))?;
    let versions = Versions {
        session: quietly(session),
        client: client.clone(),
        project,
        name: name.clone(),
        change: 1,
    };
    tokio::select! {
        ended = versions.follow(watch, first) => ended,
        ended = stream::calls(client, output, &name) => ended,
        ended = stream::logs(client, output, &name) => ended,
        stopped = interrupted() => stopped,
    }
}

/// Lines and a spinner would disturb each other.
fn quietly(session: &Session) -> Session {
    let mut output = session.output.clone();
    output.quiet = true;
    Session {
        global: session.global.clone(),
        output,
    }
}

/// The versions of the agent, one after the other.
struct Versions {
    session: Session,
    client: Client,
    project: Project,
    name: String,
    change: u64,
}

impl Versions {
    async fn follow(mut self, mut watch: Watch, first: Found) -> Result {
        let mut known = Some(first);
        loop {
            let found = known.take();
            // A newer change does not wait until an older one is ready, or has failed.
            let files = tokio::select! {
                () = self.version(found) => watch.changed().await?,
                files = watch.changed() => files?,
            };
            self.change += 1;
            tell(&told(&files));
        }
    }

    /// Deploys the folder as it is and tells what becomes of it.
    async fn version(&self, known: Option<Found>) {
        let began = Instant::now();
        let revision = match self.deployed(known).await {
            Ok(revision) => revision,
            Err(failure) => return tell(&format!("not deployed: {failure}")),
        };
        let goal = Goal::Revision(revision);
        let ready = wait_for(&self.session, &self.client, &self.name, &goal, START).await;
        let said = match ready {
            Ok(_) => format!(
                "version {revision} is ready after {} ms",
                began.elapsed().as_millis()
            ),
            // What it wrote was shown as it came.
            Err(_) => match self.client.agent(&self.name).await {
                Ok(agent) if agent.revision != revision => {
                    format!(
                        "version {revision} does not start; {} goes on",
                        agent.revision
                    )
                }
                _ => format!("version {revision} does not start; mend it and save"),
            },
        };
        tell(&said);
    }

    async fn deployed(&self, known: Option<Found>) -> Result<u32> {
        let mut spec = match known {
            Some(found) => found.spec,
            None => self.project.found(self.change).await?.spec,
        };
        // Another name would be another agent.
        spec.name.clone_from(&self.name);
        Ok(self.client.deploy(&spec).await?.agent.revision)
    }
}

/// Says what happens to the versions, beside what the agent says.
fn tell(text: &str) {
    use std::io::Write as _;
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(std::io::stderr().lock(), "» {text}");
}

fn told(files: &[PathBuf]) -> String {
    let names: Vec<_> = files
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    match names.len() {
        0..=MOST_NAMES => format!("changed: {}", names.join(", ")),
        many => format!(
            "changed: {} and {} more",
            names[..MOST_NAMES].join(", "),
            many - MOST_NAMES
        ),
    }
}

/// The file in the project's folder that leads other verbs to the server.
struct Pointer(PathBuf);

impl Pointer {
    /// Where it will be; refused when a server runs by it.
    fn free(folder: &Path) -> Result<Self> {
        match session::dev_data(folder) {
            None => Ok(Self(folder.join(session::DEV_FOLDER))),
            Some(data) => {
                let detail = format!("`skep dev` runs in {} already", folder.display());
                let hint = format!("End it first; its data is in {}.", data.display());
                Err(Failure::plain(detail).hint(hint))
            }
        }
    }

    /// A folder that cannot be written to is none the worse.
    fn set(&self, data: &Path, session: &Session) {
        let written = fs::create_dir_all(&self.0)
            .and_then(|()| fs::write(self.0.join(".gitignore"), "*\n"))
            .and_then(|()| {
                let file = self.0.join(session::DEV_POINTER);
                fs::write(file, data.as_os_str().as_encoded_bytes())
            });
        if let Err(error) = written {
            session.output.note(&format!(
                "note: {} cannot be written ({error}); name the server with --data {}",
                self.0.display(),
                data.display()
            ));
        }
    }

    fn remove(&self) {
        // What is left leads to a server that is gone, which is looked at.
        let _ = fs::remove_file(self.0.join(session::DEV_POINTER));
        let _ = fs::remove_file(self.0.join(".gitignore"));
        let _ = fs::remove_dir(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_files_are_a_few_names() {
        let files = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(told(&files(&["a", "b"])), "changed: a, b");
        assert_eq!(
            told(&files(&["a", "b", "c", "d"])),
            "changed: a, b, c and 1 more"
        );
    }
}
