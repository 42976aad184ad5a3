//! Licences and advisories of what Cargo.lock holds, checked without any network: licences from
//! the packages themselves, advisories from `advisories.toml`, which holds what the RustSec
//! database says of our dependencies (`cargo deny check` asks the database itself where it can be
//! reached; `deny.toml` is for it).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::shell::root;

/// One advisory on a crate that we use or have used.
#[derive(Debug, Serialize, Deserialize)]
struct Advisory {
    id: String,
    package: String,
    /// Version requirements that are not affected.
    #[serde(default)]
    safe: Vec<String>,
    /// Why an affected version is kept, when it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kept: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Advisories {
    #[serde(default)]
    advisory: Vec<Advisory>,
}

#[derive(Debug, Deserialize)]
struct Deny {
    licenses: Licenses,
}

#[derive(Debug, Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

/// Checks every package that comes from a registry.
pub(crate) fn check(metadata: &serde_json::Value, wrong: &mut Vec<String>) -> Result<()> {
    let deny: Deny =
        toml::from_str(&fs::read_to_string(root().join("deny.toml")).context("deny.toml")?)?;
    let known: Advisories = toml::from_str(
        &fs::read_to_string(root().join("advisories.toml")).context("advisories.toml")?,
    )?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    for package in packages.filter(|package| !package["source"].is_null()) {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        let (name, version) = (text("name"), text("version"));
        if !text("source").starts_with("registry+") {
            wrong.push(format!("{name} {version} does not come from the registry"));
        }
        if !allows(text("license"), &deny.licenses.allow) {
            wrong.push(format!(
                "{name} {version} has the licence `{}`",
                text("license")
            ));
        }
        for advisory in known
            .advisory
            .iter()
            .filter(|advisory| advisory.package == name)
        {
            if advisory.kept.is_none() && !advisory.safe.iter().any(|range| fits(range, version)) {
                wrong.push(format!("{name} {version} is affected by {}", advisory.id));
            }
        }
    }
    Ok(())
}

/// Writes `advisories.toml` anew from a checkout of the RustSec database: the advisories on crates
/// that Cargo.lock holds. What was kept with a reason stays so.
pub(crate) fn update(database: &Path) -> Result<()> {
    let path = root().join("advisories.toml");
    let before: Advisories =
        toml::from_str(&fs::read_to_string(&path).unwrap_or_default()).unwrap_or_default();
    let lock: toml::Table = toml::from_str(&fs::read_to_string(root().join("Cargo.lock"))?)?;
    let packages = lock["package"].as_array().into_iter().flatten();
    let names: BTreeSet<&str> = packages
        .filter_map(|package| package["name"].as_str())
        .collect();
    let mut after = Advisories::default();
    for name in names {
        let folder = database.join("crates").join(name);
        let mut files: Vec<_> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        files.sort_by_key(std::fs::DirEntry::file_name);
        for file in files {
            after
                .advisory
                .extend(read(&fs::read_to_string(file.path())?, &before)?);
        }
    }
    let head = "# What the RustSec database says of the crates in Cargo.lock. Written by\n\
                # `cargo xtask advisories CHECKOUT`; `kept` says why an affected version stays.\n\n";
    fs::write(path, format!("{head}{}", toml::to_string(&after)?))?;
    println!(
        "advisories: {} on crates that are used",
        after.advisory.len()
    );
    Ok(())
}

/// One file of the database: TOML in a fenced block, then prose. `None` for a withdrawn one, and
/// for one that is only for information.
fn read(text: &str, before: &Advisories) -> Result<Option<Advisory>> {
    let block = text
        .split("```toml")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let table: toml::Table = toml::from_str(block.context("an advisory has no TOML")?)?;
    let head = &table["advisory"];
    let field = |key: &str| {
        head.get(key)
            .and_then(toml::Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    if head.get("withdrawn").is_some() || field("informational") == "notice" {
        return Ok(None);
    }
    let mut safe = Vec::new();
    for key in ["patched", "unaffected"] {
        let ranges = table.get("versions").and_then(|versions| versions.get(key));
        let ranges = ranges.and_then(toml::Value::as_array).into_iter().flatten();
        safe.extend(ranges.filter_map(|range| range.as_str().map(str::to_owned)));
    }
    let id = field("id");
    let kept = before
        .advisory
        .iter()
        .find(|old| old.id == id)
        .and_then(|old| old.kept.clone());
    Ok(Some(Advisory {
        id,
        package: field("package"),
        safe,
        kept,
    }))
}

/// Whether an SPDX expression can be met with the allowed licences. `AND` binds tighter than `OR`;
/// an old `/` means `OR`.
fn allows(expression: &str, allowed: &[String]) -> bool {
    let flat = expression.replace('/', " OR ").replace(['(', ')'], " ");
    let meets = |all: &str| {
        all.split(" AND ")
            .all(|one| allowed.iter().any(|name| name == one.trim()))
    };
    // Parentheses as they occur in practice: an AND of ORs is met when each group is.
    if expression.contains('(') {
        let groups = expression.split(" AND ");
        return groups.into_iter().all(|group| {
            let group = group.replace(['(', ')'], " ");
            group
                .split(" OR ")
                .any(|one| allowed.iter().any(|name| name == one.trim()))
        });
    }
    flat.split(" OR ").any(meets)
}

fn numbers(version: &str) -> [u64; 3] {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let mut parts = core.split('.').map(|part| part.trim().parse().unwrap_or(0));
    [(); 3].map(|()| parts.next().unwrap_or(0))
}

/// Whether a version fits a requirement as the database writes them: `>=1.2.3, <2`, `^0.3.1`, `=1.0`.
fn fits(requirement: &str, version: &str) -> bool {
    let is = numbers(version);
    requirement.split(',').map(str::trim).all(|part| {
        let end = part
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(part.len());
        let (operator, bound) = (part[..end].trim(), numbers(&part[end..]));
        match operator {
            ">=" => is >= bound,
            ">" => is > bound,
            "<" => is < bound,
            "<=" => is <= bound,
            "=" => is == bound,
            "~" => is >= bound && is[..2] == bound[..2],
            // A caret, written or not: the first number that is not zero stays.
            _ => {
                let fixed = bound.iter().position(|number| *number != 0).unwrap_or(2);
                is >= bound && is[..=fixed] == bound[..=fixed]
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_are_read_as_cargo_reads_them() {
        for (requirement, version, expected) in [
            (">=1.2.3", "1.2.3", true),
            (">=1.2.3", "1.2.2", false),
            ("^0.3.1", "0.3.9", true),
            ("^0.3.1", "0.4.0", false),
            (">=1.0.0, <2.0.0", "1.5.0", true),
            (">=1.0.0, <2.0.0", "2.0.0", false),
            ("=0.3.1", "0.3.2", false),
            ("~1.2.3", "1.2.9", true),
            ("~1.2.3", "1.3.0", false),
        ] {
            assert_eq!(
                fits(requirement, version),
                expected,
                "{requirement} {version}"
            );
        }
    }

    #[test]
    fn licence_expressions_are_met_or_not() {
        let allowed = [
            "MIT".to_owned(),
            "Apache-2.0".to_owned(),
            "Unicode-3.0".to_owned(),
        ];
        for (expression, expected) in [
            ("MIT", true),
            ("MIT OR GPL-3.0", true),
            ("MIT AND GPL-3.0", false),
            ("GPL-3.0", false),
            ("MIT/Apache-2.0", true),
            ("(MIT OR GPL-3.0) AND Unicode-3.0", true),
            ("(MIT OR Apache-2.0) AND GPL-3.0", false),
            ("", false),
        ] {
            assert_eq!(allows(expression, &allowed), expected, "{expression}");
        }
    }
}
