//! The container of an instance: a pure function of what is known of it. Everything that locks an
//! agent in stands here.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

use bollard::models::{
    ContainerCreateBody, DeviceRequest, EndpointIpamConfig, EndpointSettings, HealthConfig,
    HostConfig, HostConfigLogConfig, ImageConfig, Mount, NetworkingConfig, ResourcesUlimits,
    RestartPolicy, RestartPolicyNameEnum,
};
use skep_runtime::{Gpus, Limits, Place, Rotation, Sandbox, StartRequest, VolumeSource};

use crate::folder::Owner;
use crate::network::{LABEL_ID, LABEL_PATH};
use crate::volume::{HOME, target};

/// The port that every agent listens on: each has an address of its own.
pub(crate) const PORT: u16 = 8080;
/// Memory of an agent that says nothing of it.
const MEMORY: u64 = 1 << 30;
/// Processes and threads of an agent that says nothing of them.
const PROCESSES: u64 = 512;
/// Thousandths of a core of an agent that says nothing of them.
const CPU_MILLIS: u64 = 2_000;
/// Bytes of `/tmp`; they count as the agent's memory.
const TMP_BYTES: u64 = 256 << 20;
/// The least memory that the engine gives a container.
pub(crate) const LEAST_MEMORY: u64 = 6 << 20;
/// Nobody answers there. Without it an engine may ask this machine's name servers for the agent, and
/// names would leave that the agent itself may not send (CVE-2024-29018).
const NO_DNS: &str = "127.0.0.1";

/// The labels of a container.
pub(crate) const LABEL_WORKSPACE: &str = "skep.workspace";
pub(crate) const LABEL_AGENT: &str = "skep.agent";
pub(crate) const LABEL_INSTANCE: &str = "skep.instance";
const LABEL_REVISION: &str = "skep.revision";

/// What a container is made of besides its request.
pub(crate) struct Parts<'a> {
    pub(crate) id: &'a str,
    pub(crate) path: &'a str,
    pub(crate) network: &'a str,
    /// Its address there; else the engine chooses.
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) image: &'a ImageConfig,
    pub(crate) user: String,
    pub(crate) owner: Owner,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) rotation: Rotation,
    /// Thousandths of a core that this machine has.
    pub(crate) cpu_millis: u64,
    pub(crate) has_ipv6: bool,
}

/// The container's name: unique at the engine, and known before it is made.
pub(crate) fn name(place: &Place) -> String {
    format!("skep-{}", place.instance)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn environment(request: &StartRequest) -> Vec<String> {
    let mut all = BTreeMap::from([("HOME".to_owned(), HOME.to_owned())]);
    // As for agents that are local processes, so that one program serves both.
    all.extend(request.spec.volumes.iter().filter_map(|volume| {
        let VolumeSource::Named(name) = &volume.source else {
            return None;
        };
        let variable = format!("SKEP_VOLUME_{}", name.to_uppercase().replace('-', "_"));
        Some((variable, target(volume).to_string_lossy().into_owned()))
    }));
    all.extend(request.spec.env.clone());
    all.extend(request.env.clone());
    all.into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect()
}

fn labels(request: &StartRequest, parts: &Parts<'_>) -> HashMap<String, String> {
    let Place {
        workspace,
        agent,
        instance,
    } = &request.place;
    let mut all: HashMap<String, String> = request.spec.labels.clone().into_iter().collect();
    let ours = [
        (LABEL_ID, parts.id.to_owned()),
        (LABEL_PATH, parts.path.to_owned()),
        (LABEL_WORKSPACE, workspace.to_string()),
        (LABEL_AGENT, agent.clone()),
        (LABEL_INSTANCE, instance.to_string()),
        (LABEL_REVISION, request.revision.to_string()),
    ];
    all.extend(ours.map(|(name, value)| (name.to_owned(), value)));
    all
}

fn ulimits(limits: &Limits) -> Vec<ResourcesUlimits> {
    let one = |name: &str, value: u64| ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: Some(signed(value)),
        hard: Some(signed(value)),
    };
    // Open files are the engine's own limit unless said otherwise: it can give no more than it has.
    let said = [
        limits.open_files.map(|files| one("nofile", files)),
        limits.file_size.map(|size| one("fsize", size)),
    ];
    std::iter::once(one("core", 0))
        .chain(said.into_iter().flatten())
        .collect()
}

fn log(rotation: Rotation) -> HostConfigLogConfig {
    let pair = |name: &str, value: String| (name.to_owned(), value);
    HostConfigLogConfig {
        typ: Some("json-file".to_owned()),
        config: Some(HashMap::from([
            pair("max-size", rotation.file_bytes.max(1).to_string()),
            pair("max-file", rotation.files.max(1).to_string()),
        ])),
    }
}

fn networking(parts: &Parts<'_>) -> Option<NetworkingConfig> {
    let endpoint = EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: Some(parts.address?.to_string()),
            ..EndpointIpamConfig::default()
        }),
        ..EndpointSettings::default()
    };
    Some(NetworkingConfig {
        endpoints_config: Some(HashMap::from([(parts.network.to_owned(), endpoint)])),
    })
}

/// The container to make.
pub(crate) fn body(request: &StartRequest, parts: Parts<'_>) -> ContainerCreateBody {
    let spec = &request.spec;
    let labels = labels(request, &parts);
    let workdir = match (&spec.workdir, parts.image.working_dir.as_deref()) {
        (Some(folder), _) => folder.to_string_lossy().into_owned(),
        (None, Some(folder)) if !folder.is_empty() => folder.to_owned(),
        (None, _) => HOME.to_owned(),
    };
    // What the specification says stands for all of the image's entry point and command.
    let (entrypoint, cmd) = match spec.command.split_first() {
        Some((program, arguments)) => (Some(vec![program.clone()]), Some(arguments.to_vec())),
        None => (None, None),
    };
    ContainerCreateBody {
        hostname: Some(spec.name.clone()),
        image: spec.image.as_ref().map(|image| image.reference.clone()),
        user: Some(parts.user.clone()),
        env: Some(environment(request)),
        entrypoint,
        cmd,
        working_dir: Some(workdir),
        labels: Some(labels),
        // Skep's own probes decide; the image's would run a program for nothing.
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        }),
        networking_config: networking(&parts),
        host_config: Some(host(request, parts)),
        ..ContainerCreateBody::default()
    }
}

fn host(request: &StartRequest, parts: Parts<'_>) -> HostConfig {
    let spec = &request.spec;
    let limits = &spec.limits;
    let memory = signed(limits.memory.unwrap_or(MEMORY));
    let cpu = limits.cpu_millis.unwrap_or(CPU_MILLIS);
    let has_tmp = parts
        .mounts
        .iter()
        .any(|mount| mount.target.as_deref() == Some("/tmp"));
    let Owner { uid, gid } = parts.owner;
    // Its own: some engines keep the mode that the image gives the folder.
    let tmp = format!("rw,nosuid,nodev,exec,mode=1777,uid={uid},gid={gid},size={TMP_BYTES}");
    let no_ipv6 = "net.ipv6.conf.all.disable_ipv6";
    HostConfig {
        network_mode: Some(parts.network.to_owned()),
        dns: Some(vec![NO_DNS.to_owned()]),
        sysctls: parts
            .has_ipv6
            .then(|| HashMap::from([(no_ipv6.to_owned(), "1".to_owned())])),
        publish_all_ports: Some(false),
        mounts: Some(parts.mounts),
        readonly_rootfs: Some(spec.sandbox != Sandbox::Off),
        tmpfs: (!has_tmp).then(|| HashMap::from([("/tmp".to_owned(), tmp)])),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        privileged: Some(false),
        init: Some(true),
        ipc_mode: Some("private".to_owned()),
        memory: Some(memory),
        // The same again: no swap.
        memory_swap: Some(memory),
        // The engine's own init is one of them.
        pids_limit: Some(signed(limits.processes.unwrap_or(PROCESSES) + 1)),
        nano_cpus: Some(signed(cpu.min(parts.cpu_millis).saturating_mul(1_000_000))),
        ulimits: Some(ulimits(limits)),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(log(parts.rotation)),
        device_requests: limits.gpus.map(|gpus| vec![devices(gpus)]),
        ..HostConfig::default()
    }
}

/// GPUs as `docker run --gpus` asks for them.
fn devices(gpus: Gpus) -> DeviceRequest {
    DeviceRequest {
        count: Some(match gpus {
            Gpus::All => -1,
            Gpus::Count(count) => i64::from(count),
        }),
        capabilities: Some(vec![vec!["gpu".to_owned()]]),
        ..DeviceRequest::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use skep_api::{AgentSpec, Resources};
    use skep_core::{InstanceId, Workspace};
    use skep_runtime::Spec;

    fn made(change: impl FnOnce(&mut AgentSpec), image: &ImageConfig) -> ContainerCreateBody {
        let mut spec = AgentSpec {
            driver: "docker".to_owned(),
            image: Some("hello:1".to_owned()),
            ..AgentSpec::new("hello", Vec::new())
        };
        change(&mut spec);
        let request = StartRequest {
            place: Place {
                workspace: Workspace::default(),
                agent: "hello".to_owned(),
                instance: InstanceId::new(),
            },
            spec: Arc::new(Spec::parse(&spec, &["docker"]).unwrap()),
            revision: 3,
            port: PORT,
            env: BTreeMap::from([("PORT".to_owned(), PORT.to_string())]),
            held: None,
        };
        let parts = Parts {
            id: "00c0ffee",
            path: "/data",
            network: "skep-00c0ffee",
            address: Some(Ipv4Addr::new(10, 0, 0, 7)),
            image,
            user: "65532:65532".to_owned(),
            owner: Owner {
                uid: 65_532,
                gid: 65_532,
            },
            mounts: Vec::new(),
            rotation: Rotation::default(),
            cpu_millis: 4_000,
            has_ipv6: true,
        };
        body(&request, parts)
    }

    #[test]
    fn is_locked_in_unless_said_otherwise() {
        let made = made(|_| {}, &ImageConfig::default());
        let host = made.host_config.unwrap();
        assert_eq!(host.readonly_rootfs, Some(true));
        assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
        assert_eq!(host.security_opt.unwrap(), ["no-new-privileges"]);
        assert_eq!(host.port_bindings, None);
        assert_eq!(
            (host.memory, host.memory_swap),
            (Some(1 << 30), Some(1 << 30))
        );
        assert_eq!(host.pids_limit, Some(513));
        assert_eq!(host.nano_cpus, Some(2_000_000_000));
        assert_eq!(made.user.as_deref(), Some("65532:65532"));
        assert_eq!(made.working_dir.as_deref(), Some(HOME));
        assert_eq!((made.entrypoint, made.cmd), (None, None));
        let labels = made.labels.unwrap();
        assert_eq!(labels[LABEL_REVISION], "3");
        assert_eq!(labels[LABEL_AGENT], "hello");
    }

    #[test]
    fn takes_what_the_specification_says() {
        let image = ImageConfig {
            working_dir: Some("/app".to_owned()),
            ..ImageConfig::default()
        };
        let change = |spec: &mut AgentSpec| {
            spec.command = vec!["python3".to_owned(), "agent.py".to_owned()];
            spec.sandbox = Some("off".to_owned());
            spec.env = BTreeMap::from([("HOME".to_owned(), "/tmp".to_owned())]);
            spec.resources = Resources {
                cpu: Some("64".to_owned()),
                memory: Some("64MiB".to_owned()),
                processes: Some(10),
                file_size: Some("1MiB".to_owned()),
                ..Resources::default()
            };
        };
        let made = made(change, &image);
        let host = made.host_config.unwrap();
        assert_eq!(host.readonly_rootfs, Some(false));
        assert_eq!(
            host.cap_drop.unwrap(),
            ["ALL"],
            "`off` lifts no more than that"
        );
        assert_eq!(host.nano_cpus, Some(4_000_000_000), "no more than there is");
        assert_eq!(host.memory, Some(64 << 20));
        assert_eq!(host.pids_limit, Some(11));
        assert_eq!(host.ulimits.unwrap().len(), 2);
        assert_eq!(made.entrypoint.unwrap(), ["python3"]);
        assert_eq!(made.cmd.unwrap(), ["agent.py"]);
        assert_eq!(made.working_dir.as_deref(), Some("/app"));
        assert_eq!(made.env.unwrap(), ["HOME=/tmp", "PORT=8080"]);
    }

    #[test]
    fn gpus_are_asked_for_as_the_engine_does() {
        let image = ImageConfig::default();
        let asked = |gpus: Option<&str>| {
            let change = |spec: &mut AgentSpec| spec.resources.gpus = gpus.map(str::to_owned);
            made(change, &image).host_config.unwrap().device_requests
        };
        assert_eq!(asked(None), None);
        for (gpus, count) in [("all", -1), ("2", 2)] {
            let requests = asked(Some(gpus)).unwrap();
            let [request] = requests.as_slice() else {
                panic!("{requests:?}")
            };
            assert_eq!(request.count, Some(count));
            assert_eq!(request.capabilities, Some(vec![vec!["gpu".to_owned()]]));
        }
    }
}
