//! The network of a data folder's agents: a bridge of their own without a way out, on which they
//! cannot reach each other, and rules of the firewall that keep them from the services of this
//! machine but Skep. Skep reaches them over the bridge; nothing is published.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use async_trait::async_trait;
use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest, NetworkInspect};
use bollard::query_parameters::ListNetworksOptions;
use skep_runtime::DriverError;
use skep_runtime::folder::blocking;
use tokio::sync::Mutex;

use crate::address::Addresses;
use crate::driver::DockerOptions;
use crate::engine::{Engine, Trouble};

/// The label that everything of ours has: the name of the data folder at the engine.
pub(crate) const LABEL_ID: &str = "skep.data-folder";
/// The label with the data folder's path.
pub(crate) const LABEL_PATH: &str = "skep.data-path";
/// The label of a network whose subnet was said by us: only there may addresses be chosen.
const LABEL_CHOSEN: &str = "skep.addresses";
/// How often a subnet is tried for that another network may take meanwhile.
const SUBNET_TRIES: u32 = 5;
/// Whether the kernel shows traffic within a bridge to the firewall.
const BRIDGE_FILTER: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
const ICC: &str = "com.docker.network.bridge.enable_icc";
const BRIDGE: &str = "com.docker.network.bridge.name";

/// Where agents reach this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The URL that they are told.
    pub url: String,
    /// The port of this machine that they must be let to.
    pub port: u16,
}

/// The network of a data folder's agents, as this machine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// The name of the interface.
    pub interface: String,
    /// This machine's address there.
    pub gateway: Ipv4Addr,
    /// All addresses there: this one, and those of agents.
    pub addresses: RangeInclusive<Ipv4Addr>,
}

/// Opens this server to agents.
#[async_trait]
pub trait Doors: Send + Sync {
    /// Listens at this machine's address on the agents' bridge, for who is in that network and for nobody else, unless
    /// it does already.
    ///
    /// # Errors
    /// Why it cannot, with what to do.
    async fn open(&self, bridge: &Bridge) -> Result<Opened, String>;
}

/// Who keeps agents from the services of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Firewall {
    /// Skep, with rules of iptables; it needs to run as root for that.
    #[default]
    Skep,
    /// Somebody else: Skep takes it that there are such rules.
    External,
}

/// How a network is.
pub(crate) struct There {
    /// Where agents reach this server, when it wants to be reached; or why they do not.
    pub(crate) opened: Result<Option<Opened>, String>,
    /// The protections that it does not give.
    pub(crate) gaps: Vec<String>,
}

/// The network of one data folder.
pub(crate) struct Network {
    name: String,
    id: String,
    path: String,
    subnet: Option<String>,
    firewall: Firewall,
    doors: Option<Arc<dyn Doors>>,
    /// Held while the network is looked at or made.
    making: Mutex<()>,
    /// Nothing in a network that was made without a subnet and is in use.
    addresses: parking_lot::Mutex<Option<Addresses>>,
}

impl Network {
    pub(crate) fn new((id, path): (String, String), options: &DockerOptions) -> Self {
        Self {
            // Also the bridge's name, for which there are 15 characters.
            name: format!("skep-{id}"),
            id,
            path,
            subnet: options.subnet.clone(),
            firewall: options.firewall,
            doors: options.doors.clone(),
            making: Mutex::default(),
            addresses: parking_lot::Mutex::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Sees to it that the network is there.
    pub(crate) async fn ensure(&self, engine: &Engine) -> Result<There, DriverError> {
        let _making = self.making.lock().await;
        let found = match self.find(engine).await? {
            Some(found) if is_chosen(&found) => Some(found),
            found => self.make_anew(engine, found).await?,
        };
        let fresh = found
            .as_ref()
            .and_then(|found| Addresses::of(found, fastrand::u32(..)));
        let is_other =
            |known: &Addresses| !fresh.as_ref().is_some_and(|fresh| known.is_like(fresh));
        {
            let mut known = self.addresses.lock();
            if known.as_ref().is_none_or(is_other) {
                *known = fresh;
            }
        }
        let found = match found {
            Some(found) => Some(found),
            None => self.find(engine).await?,
        };
        self.there(found.as_ref()).await
    }

    /// The address for a new container, if it is for us to choose.
    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        Some(self.addresses.lock().as_mut()?.next())
    }

    /// How the network is, if it is there.
    pub(crate) async fn look(&self, engine: &Engine) -> Result<Option<There>, DriverError> {
        match self.find(engine).await? {
            Some(found) => self.there(Some(&found)).await.map(Some),
            None => Ok(None),
        }
    }

    async fn find(&self, engine: &Engine) -> Result<Option<NetworkInspect>, DriverError> {
        let name = self.name.clone();
        let found = engine
            .ask(|docker| async move { docker.inspect_network(&name, None).await })
            .await;
        match found {
            Ok(network) if self.is_ours(&network) => Ok(Some(network)),
            Ok(_) => Err(DriverError::Failed(format!(
                "the Docker network {0} is not as Skep makes it; remove it when no agent runs: docker \
                 network rm {0}",
                self.name
            ))),
            Err(Trouble::Missing(_)) => Ok(None),
            Err(other) => Err(other.into()),
        }
    }

    /// Opens the server to who is in the network, and looks at its walls.
    async fn there(&self, found: Option<&NetworkInspect>) -> Result<There, DriverError> {
        let addresses = found.and_then(|found| Addresses::of(found, 0));
        let bridge = addresses.map(|it| Bridge {
            interface: self.name.clone(),
            gateway: it.gateway(),
            addresses: it.all(),
        });
        let opened = match (&self.doors, &bridge) {
            (None, _) => Ok(None),
            (Some(doors), Some(bridge)) => doors.open(bridge).await.map(Some),
            (Some(_), None) => Err("the engine does not say this machine's address in the \
                                    agents' network; set `docker.subnet`"
                .to_owned()),
        };
        let door = opened.as_ref().ok().and_then(Option::as_ref);
        let door = door.and_then(|it| Some((bridge?.gateway, it.port)));
        let (bridge, firewall) = (self.name.clone(), self.firewall);
        let mut gaps = blocking(move || Ok(gaps(&bridge, firewall, door))).await?;
        if let Err(why) = &opened {
            gaps.push(format!("agents do not reach Skep: {why}"));
        }
        Ok(There { opened, gaps })
    }

    fn is_ours(&self, network: &NetworkInspect) -> bool {
        let label = network.labels.as_ref().and_then(|all| all.get(LABEL_ID));
        let icc = network.options.as_ref().and_then(|all| all.get(ICC));
        label == Some(&self.id)
            && network.internal == Some(true)
            && icc.is_some_and(|icc| icc == "false")
    }

    /// Makes the network, in place of one whose addresses are the engine's to choose; such a one
    /// stays while something runs in it.
    async fn make_anew(
        &self,
        engine: &Engine,
        found: Option<NetworkInspect>,
    ) -> Result<Option<NetworkInspect>, DriverError> {
        if found.is_some() && !self.remove(engine).await {
            return Ok(None);
        }
        if let Err(error) = self.remove_orphans(engine).await {
            tracing::debug!(?error, "networks of data folders that are gone stay");
        }
        if let Some(subnet) = &self.subnet {
            self.make(engine, Some(subnet.clone())).await?;
            return self.find(engine).await;
        }
        // The engine knows which subnet is free, and lets addresses be chosen only where one was said.
        for _ in 0..SUBNET_TRIES {
            self.make(engine, None).await?;
            let Some(found) = self.find(engine).await? else {
                continue;
            };
            if is_chosen(&found) {
                return Ok(Some(found));
            }
            let subnet = subnet_of(&found);
            if subnet.is_none() || !self.remove(engine).await {
                return Ok(None);
            }
            if self.make(engine, subnet).await.is_ok() {
                return self.find(engine).await;
            }
        }
        self.make(engine, None).await?;
        Ok(None)
    }

    /// Whether the network could be removed: not while something runs in it.
    async fn remove(&self, engine: &Engine) -> bool {
        let name = self.name.clone();
        let removed = engine
            .ask(|docker| async move { docker.remove_network(&name).await })
            .await;
        removed.is_ok()
    }

    async fn make(&self, engine: &Engine, subnet: Option<String>) -> Result<(), DriverError> {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let mut labels = HashMap::from([pair(LABEL_ID, &self.id), pair(LABEL_PATH, &self.path)]);
        labels.extend(subnet.is_some().then(|| pair(LABEL_CHOSEN, "chosen")));
        let request = NetworkCreateRequest {
            name: self.name.clone(),
            driver: Some("bridge".to_owned()),
            internal: Some(true),
            enable_ipv6: Some(false),
            ipam: subnet.map(|subnet| Ipam {
                config: Some(vec![IpamConfig {
                    subnet: Some(subnet),
                    ..IpamConfig::default()
                }]),
                ..Ipam::default()
            }),
            options: Some(HashMap::from([
                pair(ICC, "false"),
                pair(BRIDGE, &self.name),
            ])),
            labels: Some(labels),
            ..NetworkCreateRequest::default()
        };
        let made = engine
            .ask(|docker| async move { docker.create_network(request).await })
            .await;
        match made {
            Ok(_) => Ok(()),
            // Another server of this data folder was faster, which is as good.
            Err(Trouble::Refused(_, why)) if why.contains("already exists") => Ok(()),
            Err(Trouble::Refused(_, why)) => Err(DriverError::Failed(format!(
                "the agents' network cannot be made: {why}; if no addresses are left, set \
                 `docker.subnet`"
            ))),
            Err(other) => Err(other.into()),
        }
    }

    /// Removes networks of data folders that are gone: the engine has addresses for a few dozen
    /// only. One that is used, or that is about to be, is made again by its own server.
    async fn remove_orphans(&self, engine: &Engine) -> Result<(), Trouble> {
        let filters = HashMap::from([("label".to_owned(), vec![LABEL_PATH.to_owned()])]);
        let options = ListNetworksOptions {
            filters: Some(filters),
        };
        let all = engine
            .ask(|docker| async move { docker.list_networks(Some(options)).await })
            .await?;
        for network in all {
            let path = network.labels.as_ref().and_then(|all| all.get(LABEL_PATH));
            let gone = path.is_some_and(|path| !Path::new(path).exists());
            if let (true, Some(name)) = (gone, network.name) {
                let removed = name.clone();
                // Refused when something runs in it.
                let done = engine
                    .ask(|docker| async move { docker.remove_network(&removed).await })
                    .await;
                if done.is_ok() {
                    tokio::task::spawn_blocking(move || forget(&name, |_| true));
                }
            }
        }
        Ok(())
    }
}

fn is_chosen(network: &NetworkInspect) -> bool {
    let labels = network.labels.as_ref();
    labels.is_some_and(|all| all.contains_key(LABEL_CHOSEN))
}

fn subnet_of(network: &NetworkInspect) -> Option<String> {
    let configs = network.ipam.as_ref()?.config.as_ref()?;
    configs.first()?.subnet.clone()
}

/// The protections that this machine does not give to a network that is there. Blocks.
fn gaps(bridge: &str, firewall: Firewall, door: Option<(Ipv4Addr, u16)>) -> Vec<String> {
    let mut gaps = Vec::new();
    let filtered = std::fs::read_to_string(BRIDGE_FILTER);
    if !filtered.is_ok_and(|text| text.trim() == "1") {
        gaps.push(
            "agents may reach each other: `sysctl net.bridge.bridge-nf-call-iptables=1` makes the \
             firewall see their traffic"
                .to_owned(),
        );
    }
    if firewall == Firewall::Skep && !hold(bridge, door) {
        let let_in = door.map(|door| format!(" and `iptables -I INPUT {}`", accept(bridge, door)));
        gaps.push(format!(
            "agents may reach services of this machine: run Skep as root with iptables installed, or \
             run `iptables -I INPUT {}`{} and set `docker.firewall` to `external`",
            refuse(bridge),
            let_in.unwrap_or_default()
        ));
    }
    gaps
}

/// What comes from an agent and answers nothing is dropped.
fn refuse(bridge: &str) -> String {
    format!("-i {bridge} -m conntrack ! --ctstate ESTABLISHED,RELATED -j DROP")
}

/// But what goes to Skep.
fn accept(bridge: &str, (gateway, port): (Ipv4Addr, u16)) -> String {
    format!("-d {gateway}/32 -i {bridge} -p tcp -m tcp --dport {port} -j ACCEPT")
}

/// Sees to it that both rules are there, in their order. Blocks.
fn hold(bridge: &str, door: Option<(Ipv4Addr, u16)>) -> bool {
    let (refuse, accept) = (refuse(bridge), door.map(|door| accept(bridge, door)));
    let refuses = iptables("-C", &refuse);
    let accepts = accept.as_ref().is_none_or(|rule| iptables("-C", rule));
    if refuses && accepts {
        if accept.is_none() {
            // What an earlier door was could be somebody else's by now.
            forget(bridge, |rule| rule.ends_with("-j ACCEPT"));
        }
        return true;
    }
    if !refuses && !iptables("-I", &refuse) {
        return false;
    }
    // It must stand before the other. What an earlier port was is no door any more.
    forget(bridge, |rule| rule.ends_with("-j ACCEPT"));
    accept.is_none_or(|rule| iptables("-I", &rule))
}

/// Takes away rules of a bridge. Blocks.
fn forget(bridge: &str, which: impl Fn(&str) -> bool) {
    let Some(listed) = run(&["-S", "INPUT"]) else {
        return;
    };
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let of = format!("-i {bridge} ");
    for rule in listed
        .lines()
        .filter_map(|line| line.strip_prefix("-A INPUT "))
        .filter(|rule| rule.contains(&of) && which(rule))
    {
        iptables("-D", rule);
    }
}

/// Whether iptables did this with the rule. Blocks.
fn iptables(verb: &str, rule: &str) -> bool {
    let mut arguments = vec![verb, "INPUT"];
    arguments.extend(rule.split_whitespace());
    run(&arguments).is_some_and(|output| output.status.success())
}

fn run(arguments: &[&str]) -> Option<Output> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    ["iptables", "/usr/sbin/iptables", "/sbin/iptables"]
        .iter()
        .find_map(|program| {
            let mut command = Command::new(program);
            command.args(["-w", "10"]).args(arguments);
            command.stdin(Stdio::null()).output().ok()
        })
}
