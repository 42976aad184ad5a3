//! A report as OSCAL assessment results, version 1.1.3 of the format, as JSON.
//!
//! OSCAL knows of a finding only that it is satisfied or not. What is not assessable has an observation
//! and no finding, and its control is named among those that were not reviewed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::catalog::NAMESPACE;
use crate::report::Assessed;
use crate::{Report, State};

const VERSION: &str = "1.1.3";
/// What a proof and a checkpoint are, as media.
const TEXT: &str = "text/plain";

/// Ids of one document: random as the seed is (RFC 9562, version 4), each its own by its name.
struct Ids([u8; 32]);

impl Ids {
    fn of(&self, name: &str) -> String {
        let digest = Sha256::new()
            .chain_update(self.0)
            .chain_update(name)
            .finalize();
        let mut hex = String::with_capacity(36);
        for (at, byte) in digest.iter().take(16).enumerate() {
            let byte = match at {
                6 => byte & 0x0f | 0x40,
                8 => byte & 0x3f | 0x80,
                _ => *byte,
            };
            if matches!(at, 4 | 6 | 8 | 10) {
                hex.push('-');
            }
            hex.push_str(&format!("{byte:02x}"));
        }
        hex
    }

    fn of_entry(&self, number: u64) -> String {
        self.of(&format!("entry {number}"))
    }
}

fn prop(name: &str, value: &str) -> Value {
    json!({ "name": name, "ns": NAMESPACE, "value": value })
}

fn observation(report: &Report, one: &Assessed, ids: &Ids) -> Value {
    let (control, finding) = (&one.control, &one.finding);
    let mut props = vec![prop("state", finding.state.as_str())];
    if let Some(question) = finding.question {
        let (since, until) = (report.evidence.since, report.evidence.until);
        let asked = format!("{} --since {since} --until {until}", question.command());
        props.push(prop("query", &asked));
        props.push(prop("entries", &finding.count.to_string()));
    }
    let mut observation = json!({
        "uuid": ids.of(&format!("observation {}", control.id)),
        "title": control.title,
        "description": finding.said,
        "props": props,
        "methods": ["TEST"],
        "collected": report.evidence.until.to_string(),
        "remarks": format!("A person brings: {}", control.person),
    });
    let shown: Vec<Value> = finding
        .entries
        .iter()
        .map(|entry| {
            json!({
                "href": format!("#{}", ids.of_entry(entry.number)),
                "description": format!("The proof that entry {} is in the log.", entry.number),
                "props": [prop("entry", &entry.number.to_string())],
            })
        })
        .collect();
    if !shown.is_empty() {
        observation["relevant-evidence"] = shown.into();
    }
    observation
}

fn finding(one: &Assessed, ids: &Ids) -> Option<Value> {
    let (control, finding) = (&one.control, &one.finding);
    let reason = match finding.state {
        State::Satisfied => "pass",
        State::NotSatisfied => "fail",
        State::NotAssessable => return None,
    };
    Some(json!({
        "uuid": ids.of(&format!("finding {}", control.id)),
        "title": control.title,
        "description": finding.said,
        "target": {
            "type": "statement-id",
            "target-id": format!("{}_smt", control.id),
            "status": { "state": finding.state.as_str(), "reason": reason },
        },
        "related-observations": [
            { "observation-uuid": ids.of(&format!("observation {}", control.id)) },
        ],
    }))
}

fn resource(uuid: &str, title: &str, file: &str, text: &str) -> Value {
    json!({
        "uuid": uuid,
        "title": title,
        "base64": { "filename": file, "media-type": TEXT, "value": STANDARD.encode(text) },
    })
}

fn resources(report: &Report, ids: &Ids) -> Vec<Value> {
    let checkpoint = &report.evidence.checkpoint;
    let mut all = vec![
        json!({
            "uuid": ids.of("plan"),
            "title": "The assessment plan",
            "description": "There is no plan of its own: the checks are those that the controls of the \
                catalog name in their property `check`.",
        }),
        json!({
            "uuid": ids.of("catalog"),
            "title": report.catalog.title,
            "description": format!("The catalog with the UUID {}.", report.catalog.uuid),
        }),
        resource(
            &ids.of("checkpoint"),
            &format!("The signed head of the log at {} entries", checkpoint.size),
            "checkpoint",
            &checkpoint.note,
        ),
        resource(
            &ids.of("key"),
            "The log's public key",
            "log.pub",
            &checkpoint.key,
        ),
    ];
    let entries = report.controls.iter().flat_map(|it| &it.finding.entries);
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by_key(|it| it.number);
    entries.dedup_by_key(|it| it.number);
    all.extend(entries.into_iter().map(|it| {
        resource(
            &ids.of_entry(it.number),
            &format!("The proof of entry {}", it.number),
            // The name of a file is a token: it begins with a letter.
            &format!("entry-{}.proof", it.number),
            &it.proof,
        )
    }));
    all
}

/// The report as assessment results. The seed makes the document's ids, and is new for each.
#[must_use]
pub fn oscal(report: &Report, seed: [u8; 32]) -> Value {
    let ids = Ids(seed);
    let evidence = &report.evidence;
    let title = format!("{}: workspace {}", report.catalog.title, evidence.workspace);
    let is_open = |one: &&Assessed| one.finding.state == State::NotAssessable;
    let select = |one: &Assessed| json!({ "control-id": one.control.id });
    let reviewed = report.controls.iter().filter(|one| !is_open(one));
    let reviewed: Vec<Value> = reviewed.map(select).collect();
    let left: Vec<Value> = report.controls.iter().filter(is_open).map(select).collect();
    let mut selection = json!({
        "description": "The controls that the evidence speaks about, and those that it does not.",
    });
    // Lists of nothing are not allowed.
    for (name, list) in [("include-controls", reviewed), ("exclude-controls", left)] {
        if !list.is_empty() {
            selection[name] = list.into();
        }
    }
    let observed = report
        .controls
        .iter()
        .map(|one| observation(report, one, &ids));
    let mut result = json!({
        "uuid": ids.of("result"),
        "title": title,
        "description": report.catalog.about,
        "start": evidence.since.to_string(),
        "end": evidence.until.to_string(),
        "props": [
            prop("workspace", &evidence.workspace),
            prop("log-size", &evidence.checkpoint.size.to_string()),
        ],
        "reviewed-controls": { "control-selections": [selection] },
        "observations": observed.collect::<Vec<Value>>(),
    });
    let findings = report.controls.iter().filter_map(|one| finding(one, &ids));
    let findings: Vec<Value> = findings.collect();
    if !findings.is_empty() {
        result["findings"] = findings.into();
    }
    json!({
        "assessment-results": {
            "uuid": ids.of("document"),
            "metadata": {
                "title": title,
                "last-modified": evidence.until.to_string(),
                "version": evidence.until.to_string(),
                "oscal-version": VERSION,
            },
            "import-ap": { "href": format!("#{}", ids.of("plan")) },
            "results": [result],
            "back-matter": { "resources": resources(report, &ids) },
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::evidence;
    use crate::{Catalog, Framework, assess};

    #[test]
    fn what_is_not_assessable_has_no_finding() {
        let report = assess(Catalog::of(Framework::Gdpr).unwrap(), evidence());
        let document = oscal(&report, [7; 32]);
        assert_eq!(document, oscal(&report, [7; 32]));
        let result = &document["assessment-results"]["results"][0];
        let count = |name: &str| result[name].as_array().map_or(0, Vec::len);
        assert_eq!(count("observations"), report.controls.len());
        let open = report.count(State::NotAssessable);
        assert_eq!(count("findings"), report.controls.len() - open);
        let selection = &result["reviewed-controls"]["control-selections"][0];
        assert_eq!(
            selection["exclude-controls"].as_array().map_or(0, Vec::len),
            open
        );
        let uuid = document["assessment-results"]["uuid"].as_str().unwrap();
        assert_eq!((uuid.len(), &uuid[14..15]), (36, "4"));
    }
}
