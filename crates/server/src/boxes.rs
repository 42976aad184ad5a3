//! Programs of MCP servers, each in a box of its own: a strict sandbox of the process driver, which sees its folders,
//! reaches the hosts that its settings name and nobody else, and ends with its session. What holds the box open is a
//! program that does nothing; the server's own runs beside it, so that its variables, which hold secrets, lie in no file.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use skep_core::{InstanceId, Workspace, Workspaces};
use skep_egress::mcp::{Boxes, Order, Program};
use skep_runtime::{Driver, ExecOrder, Executing, LogStream, Place, Running, Spec, StartRequest};
use tokio::sync::mpsc;

/// Pieces of output that wait for who reads them.
const PIECES: usize = 64;
/// The port that a box is told to listen on; nothing in it does.
const NO_PORT: u16 = 9;
/// What holds a box open.
const HOLDER: [&str; 2] = ["sleep", "2147483647"];
/// Memory, files and processes of a box.
const LIMITS: (&str, u64, u64) = ("4GiB", 4_096, 256);
/// Time between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// What the names of boxes begin with: no agent's name does.
const PREFIX: &str = "mcp.";

/// The name of a server's boxes.
fn name(server: &str) -> String {
    format!("{PREFIX}{server}")
}

/// Boxes of the process driver.
pub(crate) struct OfProcesses(pub(crate) Arc<dyn Driver>);

fn spec(order: &Order) -> Result<Spec, String> {
    let volume = |(path, read_only): &(std::path::PathBuf, bool)| json!({ "source": path, "read_only": read_only });
    let volumes: Vec<_> = order.folders.iter().map(volume).collect();
    let (memory, files, processes) = LIMITS;
    let wanted = json!({
        "name": "mcp",
        "command": HOLDER,
        "sandbox": "strict",
        "connect": order.hosts,
        "volumes": volumes,
        "resources": { "memory": memory, "open_files": files, "processes": processes },
    });
    let wanted = serde_json::from_value(wanted).map_err(|error| error.to_string())?;
    let mut spec = Spec::parse(&wanted, &["process"]).map_err(|error| error.to_string())?;
    spec.name = name(&order.server);
    Ok(spec)
}

/// A box, until nobody has it any more.
struct Held {
    driver: Arc<dyn Driver>,
    running: Option<Arc<dyn Running>>,
    place: Place,
    control: Option<Box<dyn Executing>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        // The program first: it ends when this goes.
        self.control = None;
        let (driver, place) = (self.driver.clone(), self.place.clone());
        if let Some(running) = self.running.take() {
            tokio::spawn(async move { end(&*driver, &*running, &place).await });
        }
    }
}

/// Ends a box, and removes what is kept of it.
async fn end(driver: &dyn Driver, running: &dyn Running, place: &Place) {
    let server = &place.agent;
    if let Err(error) = running.stop(GRACE).await {
        tracing::warn!(server, %error, "the box of an MCP server does not end");
        return;
    }
    if let Err(error) = driver.discard(place).await {
        tracing::warn!(server, %error, "the box of an MCP server is not removed");
    }
}

#[async_trait]
impl Boxes for OfProcesses {
    async fn run(&self, order: Order) -> Result<Program, String> {
        let spec = Arc::new(spec(&order)?);
        let place = Place {
            workspace: order.workspace.clone(),
            agent: spec.name.clone(),
            instance: InstanceId::new(),
        };
        let checked = self.0.check(&order.workspace, &spec).await;
        checked.map_err(|error| error.to_string())?;
        let mut request = StartRequest {
            place: place.clone(),
            spec,
            revision: 1,
            port: NO_PORT,
            env: std::collections::BTreeMap::new(),
            held: None,
        };
        let running = self
            .0
            .start(&request)
            .await
            .map_err(|error| error.to_string())?;
        let mut held = Held {
            driver: self.0.clone(),
            running: Some(running.clone()),
            place,
            control: None,
        };
        // Told to the program alone, and in no file.
        let env = order.env.iter();
        request.env = env
            .map(|(name, value)| (name.clone(), value.to_string()))
            .collect();
        let command = ExecOrder {
            command: order.command,
            terminal: None,
        };
        let started = self.0.exec(&request, &running.handle(), &command).await;
        let execution = started.map_err(|error| error.to_string())?;
        held.control = Some(execution.control);
        let (to, output) = mpsc::channel(PIECES);
        tokio::spawn(carry(order.server, execution.output, to));
        Ok(Program {
            input: execution.input,
            output,
            life: Box::new(held),
        })
    }
}

/// Carries what a program writes to its standard output; what it says beside that is for who looks for faults.
async fn carry(
    server: String,
    mut from: mpsc::Receiver<(LogStream, Bytes)>,
    to: mpsc::Sender<Bytes>,
) {
    while let Some((stream, bytes)) = from.recv().await {
        match stream {
            LogStream::Stdout => {
                if to.send(bytes).await.is_err() {
                    return;
                }
            }
            _ => {
                tracing::debug!(server, said = %String::from_utf8_lossy(&bytes), "an MCP server's program");
            }
        }
    }
}

/// Ends the boxes that a server before this one left behind, also of MCP servers that are not there any more.
pub(crate) async fn sweep(driver: &dyn Driver, workspaces: &Workspaces) {
    for workspace in workspaces.all().iter() {
        match driver.names(workspace, PREFIX).await {
            Ok(names) => {
                for name in names {
                    sweep_one(driver, workspace, &name).await;
                }
            }
            Err(error) => tracing::warn!(%error, "the boxes of MCP servers are not found"),
        }
    }
}

async fn sweep_one(driver: &dyn Driver, workspace: &Workspace, agent: &str) {
    for instance in driver.kept(workspace, agent).await.unwrap_or_default() {
        let place = Place {
            workspace: workspace.clone(),
            agent: agent.to_owned(),
            instance,
        };
        match driver.adopt(&place, None).await {
            Ok(Some(running)) => end(driver, &*running, &place).await,
            Ok(None) => drop(driver.discard(&place).await),
            Err(error) => {
                tracing::warn!(agent, %error, "the box of an MCP server is not found again");
            }
        }
    }
}
