//! The older `AgentDeployment` documents, translated. What they say that has no meaning here is
//! told, never dropped in silence.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use skep_api::{AgentSpec, HealthSpec, Replicas, Resources, VolumeSpec};

/// A document of the older form.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Deployment {
    #[serde(rename = "apiVersion")]
    _version: Option<IgnoredAny>,
    #[serde(rename = "kind")]
    _kind: Option<IgnoredAny>,
    #[serde(default)]
    metadata: Metadata,
    spec: Body,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    #[serde(rename = "name")]
    _name: Option<IgnoredAny>,
    #[serde(rename = "description")]
    _description: Option<IgnoredAny>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    agents: Vec<Agent>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Agent {
    name: String,
    image: Option<String>,
    #[serde(default)]
    command: Vec<String>,
    replicas: Option<u32>,
    #[serde(default, alias = "envVars")]
    env: BTreeMap<String, String>,
    #[serde(default)]
    resources: OldResources,
    #[serde(default)]
    volumes: Vec<OldVolume>,
    health_check: Option<OldHealth>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default, alias = "dependsOn")]
    dependencies: Vec<String>,
    auto_restart: Option<bool>,
    token: Option<IgnoredAny>,
    persistence: Option<IgnoredAny>,
    ports: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct OldResources {
    memory: Option<String>,
    cpu: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct OldVolume {
    host: String,
    container: String,
    #[serde(default)]
    read_only: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OldHealth {
    endpoint: Option<String>,
    interval: Option<String>,
    timeout: Option<String>,
    retries: Option<u32>,
}

/// The agents of an older document, and what was left out of each.
pub(super) fn translate(document: Deployment) -> (Vec<AgentSpec>, Vec<String>) {
    let mut notes = Vec::new();
    let labels = document.metadata.labels;
    let agents = document.spec.agents.into_iter();
    let agents = agents.map(|agent| translate_one(agent, &labels, &mut notes));
    (agents.collect(), notes)
}

fn translate_one(
    old: Agent,
    labels: &BTreeMap<String, String>,
    notes: &mut Vec<String>,
) -> AgentSpec {
    let name = old.name.clone();
    let mut note = |text: &str| notes.push(format!("{name}: {text}"));
    if old.token.is_some() {
        note("`token` is not read: who may call is said by API keys");
    }
    if old.persistence.is_some() {
        note("`persistence` is not read: every call is journaled, see `calls`");
    }
    if old.ports.is_some() {
        note("`ports` is not read: agents are reached through /agents/NAME/ only");
    }
    if old.auto_restart == Some(false) {
        note("`autoRestart: false` is not read: an agent that exits is started again");
    }
    let volumes = old.volumes.into_iter().map(|volume| VolumeSpec {
        source: volume.host,
        target: Some(volume.container),
        read_only: volume.read_only,
    });
    let health = old.health_check.map(|health| HealthSpec {
        path: health.endpoint,
        live: None,
        interval: health.interval,
        timeout: health.timeout,
        failures: health.retries,
        startup: None,
    });
    let mut all = labels.clone();
    all.extend(old.labels);
    AgentSpec {
        driver: match old.image {
            Some(_) => "docker".to_owned(),
            None => "process".to_owned(),
        },
        image: old.image,
        replicas: old.replicas.map(Replicas::Fixed),
        env: old.env,
        resources: Resources {
            memory: old.resources.memory,
            cpu: old.resources.cpu,
            ..Resources::default()
        },
        volumes: volumes.collect(),
        health: health.unwrap_or_default(),
        labels: all,
        depends_on: old.dependencies,
        ..AgentSpec::new(old.name, old.command)
    }
}
