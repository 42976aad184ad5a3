//! Manifests that are read, and what is said of those that cannot be.

use skep_api::Replicas;

use super::*;

fn read_with(text: &str, variables: &[(&str, &str)]) -> Result<Manifest> {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let source = Source {
        name: "stack.yaml",
        folder: Path::new("/here"),
        variables: &variables,
    };
    read(text, source)
}

fn failed(text: &str) -> String {
    read_with(text, &[]).unwrap_err().detail
}

const STACK: &str = "
# Three agents.
apiVersion: skep/v1
kind: Stack
name: shop
env: {REGION: eu, LEVEL: info}
agents:
  - name: front
    command: python3 front.py
    depends_on: [prices, stock]
    env:
      LEVEL: debug
      PORT_OF: 8080
      KEY: ${secret:front-key}
      QUOTED: 'Bearer ${secret:front-key}'
      FILE: ${secret-file:pay/cert#pem}
    replicas: {min: 0, max: 4, target: 8}
  - name: stock
    image: shop/stock:${VERSION:-latest}
    driver: docker
    volumes:
      - {source: data, target: /data}
  - name: prices
    command: [python3, prices.py]
    depends_on: [stock]
    replicas: 2
    resources: {memory: 2Gi, cpu: 500m}
---
name: alone
command: [x]
workdir: sub
";

#[test]
fn a_stack_is_read_in_the_order_of_its_dependencies() {
    let manifest = read_with(STACK, &[("VERSION", "7")]).unwrap();
    let names: Vec<_> = manifest.agents.iter().map(|a| a.name.as_str()).collect();
    assert_eq!(names, ["stock", "alone", "prices", "front"]);
    let [stock, alone, prices, front] = &manifest.agents[..] else {
        panic!("four agents");
    };
    assert_eq!(stock.image.as_deref(), Some("shop/stock:7"));
    assert_eq!(alone.workdir.as_deref(), Some("/here/sub"));
    assert_eq!(prices.replicas, Some(Replicas::Fixed(2)));
    assert_eq!(front.command, ["python3 front.py"]);
    assert_eq!(front.env["LEVEL"], "debug");
    assert_eq!(front.env["REGION"], "eu");
    assert_eq!(front.env["PORT_OF"], "8080");
    assert_eq!(front.env["KEY"], "${secret:front-key}");
    assert_eq!(front.env["QUOTED"], "Bearer ${secret:front-key}");
    assert_eq!(front.env["FILE"], "${secret-file:pay/cert#pem}");
    assert_eq!(front.labels["stack"], "shop");
    let latest = read_with(STACK, &[]).unwrap();
    assert_eq!(latest.agents[0].image.as_deref(), Some("shop/stock:latest"));
}

#[test]
fn what_is_written_is_read_again() {
    let manifest = read_with(STACK, &[]).unwrap();
    for spec in &manifest.agents {
        let text = write(spec).unwrap();
        assert!(
            text.starts_with("apiVersion: skep/v1\nkind: Agent\n"),
            "{text}"
        );
        let alone = AgentSpec {
            depends_on: Vec::new(),
            ..spec.clone()
        };
        let again = read_with(&write(&alone).unwrap(), &[]).unwrap();
        assert_eq!(again.agents, [alone]);
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let cases = [
        (
            "name: a\ncommand: [x]\nreplica: 2\n",
            "line 3 column 1: unknown field `replica`",
        ),
        (
            "name: a\ncommand: [x]\nreplicas: 0\n",
            "line 3 column 11: `replicas` `0` is out",
        ),
        (
            "name: a\ncommand: [x]\ncalls:\n  attempts: 0\n",
            "line 4 column 13: `calls.attempts`",
        ),
        (
            "name: a\ncommand: [x]\nenv:\n  PORT: 1\n",
            "line 4 column 9: `env.PORT` is set by",
        ),
        ("name: a\n", "line 1 column 1: `command` is empty"),
        (
            "kind: Agents\nname: a\n",
            "line 1 column 7: unknown kind `Agents`",
        ),
        (
            "apiVersion: skep/v2\nname: a\n",
            "line 1 column 13: unknown version `skep/v2`",
        ),
        ("name: a\ncommand: [${NOTHING}]\n", "NOTHING"),
        ("name: a\ncommand: [x\n", "line "),
        ("# nothing\n", "stack.yaml has no agent"),
        (
            "kind: Stack\nname: s\nagents:\n- name: a\n  command: [x]\n- name: a\n  command: [y]\n",
            "line 6 column 9: a second agent is named `a`",
        ),
        (
            "name: a\ncommand: [x]\n---\nname: b\ncommand: [x]\nrollout:\n  steps:\n  - weight: 0\n",
            "line 8 column 13: `rollout.steps[0].weight`",
        ),
        (
            "name: a\ncommand: [x]\ndepends_on: [b]\n---\nname: b\ncommand: [x]\ndepends_on: [a]\n",
            "in a circle: `a`, `b`",
        ),
    ];
    for (text, expected) in cases {
        let said = failed(text);
        assert!(said.contains(expected), "{said}\n--- for\n{text}");
    }
}

#[test]
fn the_place_is_shown() {
    assert_eq!(
        failed("name: a\ncommand: [x]\nreplicas: 0\n"),
        "stack.yaml: line 3 column 11: `replicas` `0` is out of bounds; use 1 to 1000\n  \
         |\n3 | replicas: 0\n  |           ^"
    );
}

#[test]
fn older_documents_are_translated() {
    let text = "
apiVersion: agentainer/v1
kind: AgentDeployment
metadata: {name: pipeline, labels: {team: data}}
spec:
  agents:
    - name: collector
      image: custom/collector:latest
      replicas: 3
      env:
        INTERVAL: \"60\"
        KEY: ${KEY}
      resources: {memory: 512Mi, cpu: 1}
      volumes:
        - {host: ./data, container: /app/data, readOnly: true}
      autoRestart: true
      healthCheck: {endpoint: /health, interval: 30s, retries: 3}
      token: abc
";
    let manifest = read_with(text, &[("KEY", "k")]).unwrap();
    let spec = &manifest.agents[0];
    assert_eq!(
        (spec.driver.as_str(), spec.replicas.clone()),
        ("docker", Some(Replicas::Fixed(3)))
    );
    assert_eq!(
        (spec.env["KEY"].as_str(), spec.labels["team"].as_str()),
        ("k", "data")
    );
    assert_eq!(spec.resources.cpu.as_deref(), Some("1"));
    assert_eq!(spec.volumes[0].source, "/here/./data");
    assert!(spec.volumes[0].read_only);
    assert_eq!(spec.health.failures, Some(3));
    assert!(manifest.notes[0].contains("`token` is not read"));
}
