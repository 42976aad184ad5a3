//! References put into a manifest's `env`, with everything else of the file left as it is. Only what is read back as
//! it is meant is written.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::Value;

use crate::failure::{Failure, Result};

/// Bytes of a manifest.
const MOST: u64 = 4 << 20;

/// Why the file is left alone, and what to do instead.
fn by_hand(file: &Path, why: &str, lines: &[String]) -> Failure {
    Failure::plain(format!("{} is left as it is: {why}", file.display())).hint(format!(
        "Write it yourself, below `env`:\n{}",
        lines.join("\n")
    ))
}

/// Puts references for these variables and secrets into the file. Tells how many changed.
pub(super) fn put(file: &Path, wanted: &[(&str, &str)]) -> Result<usize> {
    let failed = |error: std::io::Error| Failure::plain(format!("{}: {error}", file.display()));
    if fs::metadata(file).map_err(failed)?.len() > MOST {
        return Err(Failure::plain(format!(
            "{} is no manifest: it is too large",
            file.display()
        )));
    }
    let text = fs::read_to_string(file).map_err(failed)?;
    let references: Vec<(&str, String)> = wanted
        .iter()
        .map(|(variable, secret)| (*variable, format!("${{secret:{secret}}}")))
        .collect();
    let lines: Vec<String> = references
        .iter()
        .map(|(variable, reference)| format!("  {variable}: {reference}"))
        .collect();
    let before = env(&text).map_err(|why| by_hand(file, why, &lines))?;
    let has_own = |variable: &str| {
        let value = before.get(variable).and_then(Value::as_str);
        value.is_some_and(|value| value.starts_with("${secret:"))
    };
    let missing: Vec<(&str, String)> = references
        .into_iter()
        .filter(|(variable, _)| !has_own(variable))
        .collect();
    if missing.is_empty() {
        return Ok(0);
    }
    let edited = edit(&text, &missing).map_err(|why| by_hand(file, why, &lines))?;
    let after = env(&edited).map_err(|why| by_hand(file, why, &lines))?;
    let is_right = |(variable, reference): &(&str, String)| {
        after.get(*variable).and_then(Value::as_str) == Some(reference)
    };
    let kept = |(variable, value): (&String, &Value)| {
        let wanted = missing.iter().any(|(name, _)| name == variable);
        wanted || after.get(variable) == Some(value)
    };
    if !missing.iter().all(is_right) || !before.iter().all(kept) {
        return Err(by_hand(
            file,
            "its `env` is written in a way that is not understood",
            &lines,
        ));
    }
    replace(file, &edited).map_err(failed)?;
    Ok(missing.len())
}

/// The variables of an agent's manifest.
fn env(text: &str) -> std::result::Result<serde_json::Map<String, Value>, &'static str> {
    let mut options = serde_saphyr::Options::default();
    options.with_snippet = false;
    let document: Value = serde_saphyr::from_str_with_options(text, options)
        .map_err(|_| "it is not one document of YAML")?;
    let Value::Object(document) = document else {
        return Err("it is no manifest");
    };
    let kind = document.get("kind").and_then(Value::as_str);
    if kind.is_some_and(|kind| kind != "Agent") {
        return Err("it is not of one agent");
    }
    match document.get("env") {
        None | Some(Value::Null) => Ok(serde_json::Map::new()),
        Some(Value::Object(env)) => Ok(env.clone()),
        Some(_) => Err("its `env` is no map"),
    }
}

/// Whether a line is the one of a variable, at this indent.
fn is_of(line: &str, indent: &str, variable: &str) -> bool {
    let rest = line.strip_prefix(indent).unwrap_or_default();
    let rest = rest.trim_start_matches(['"', '\'']).strip_prefix(variable);
    let rest = rest.map(|rest| rest.trim_start_matches(['"', '\'']).trim_start());
    rest.is_some_and(|rest| rest.starts_with(':'))
}

fn edit(text: &str, wanted: &[(&str, String)]) -> std::result::Result<String, &'static str> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let is_env = |line: &String| {
        let rest = line.strip_prefix("env:").map(str::trim);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('#'))
    };
    let Some(start) = lines.iter().position(is_env) else {
        if lines.iter().any(|line| line.starts_with("env")) {
            return Err("its `env` is not written in lines");
        }
        lines.push("env:".to_owned());
        lines.extend(
            wanted
                .iter()
                .map(|(variable, reference)| format!("  {variable}: {reference}")),
        );
        return Ok(lines.join("\n") + "\n");
    };
    let inside = |line: &String| line.is_empty() || line.starts_with([' ', '\t', '#']);
    let length = lines[start + 1..]
        .iter()
        .take_while(|line| inside(line))
        .count();
    let mut end = start + 1 + length;
    // What stands behind the last variable belongs to what follows.
    while end > start + 1 && !lines[end - 1].trim_start().starts_with(|c: char| c != '#') {
        end -= 1;
    }
    let first = lines[start + 1..end].iter().find(|line| {
        let line = line.trim_start();
        !line.is_empty() && !line.starts_with('#')
    });
    let indent = first.map_or_else(
        || "  ".to_owned(),
        |line| line[..line.len() - line.trim_start().len()].to_owned(),
    );
    for (variable, reference) in wanted {
        let at = (start + 1..end).find(|at| is_of(&lines[*at], &indent, variable));
        let line = format!("{indent}{variable}: {reference}");
        match at {
            None => {
                lines.insert(end, line);
                end += 1;
            }
            Some(at) => {
                let goes_on = |next: &String| {
                    let depth = next.len() - next.trim_start().len();
                    !next.trim().is_empty() && depth > indent.len()
                };
                if at + 1 < end && goes_on(&lines[at + 1]) {
                    return Err("a value in its `env` goes over several lines");
                }
                lines[at] = line;
            }
        }
    }
    Ok(lines.join("\n") + "\n")
}

/// Replaces the file as a whole, with the rights that it has.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let folder = file.parent().filter(|it| !it.as_os_str().is_empty());
    let mut new = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    new.as_file()
        .set_permissions(fs::metadata(file)?.permissions())?;
    new.write_all(text.as_bytes())?;
    new.as_file().sync_all()?;
    new.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(pairs: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
        let reference = |secret: &str| format!("${{secret:{secret}}}");
        pairs
            .iter()
            .map(|(name, secret)| (*name, reference(secret)))
            .collect()
    }

    #[test]
    fn references_come_in_and_the_rest_stays() {
        let text = "# mine\nname: a\nenv: # of it\n    A: x # why\n    \"B\": plain\n\n# about calls\ncalls:\n  attempts: 2\n";
        let edited = edit(text, &wanted(&[("B", "p/B"), ("C", "p/C")])).unwrap();
        let expected = "# mine\nname: a\nenv: # of it\n    A: x # why\n    B: ${secret:p/B}\n    C: ${secret:p/C}\n\n\
            # about calls\ncalls:\n  attempts: 2\n";
        assert_eq!(edited, expected);
        let none = edit("name: a\ncommand: [x]", &wanted(&[("A", "A")])).unwrap();
        assert_eq!(none, "name: a\ncommand: [x]\nenv:\n  A: ${secret:A}\n");
        let empty = edit("name: a\nenv:\ncommand: [x]\n", &wanted(&[("A", "A")])).unwrap();
        assert_eq!(empty, "name: a\nenv:\n  A: ${secret:A}\ncommand: [x]\n");
        for odd in [
            "name: a\nenv: {A: b}\n",
            "name: a\nenv:\n  A: |\n    long\n",
        ] {
            assert!(edit(odd, &wanted(&[("A", "A")])).is_err(), "{odd}");
        }
    }

    #[test]
    fn what_is_not_understood_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent.yaml");
        for text in [
            "kind: Stack\nname: a\nagents: []\n",
            "name: a\n---\nname: b\n",
            "name: a\nenv: {A: b}\n",
            "name: a\nenv: [A]\n",
            "- a\n",
        ] {
            fs::write(&file, text).unwrap();
            let said = put(&file, &[("A", "p/A")]).unwrap_err();
            assert!(said.detail.contains("left as it is"), "{}", said.detail);
            assert!(
                said.told().contains("  A: ${secret:p/A}"),
                "{}",
                said.told()
            );
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
        fs::write(&file, "name: a\nenv:\n  A: ${secret:mine}\n").unwrap();
        assert_eq!(put(&file, &[("A", "p/A")]).unwrap(), 0);
        assert_eq!(put(&file, &[("A", "p/A"), ("B", "p/B")]).unwrap(), 1);
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(
            text,
            "name: a\nenv:\n  A: ${secret:mine}\n  B: ${secret:p/B}\n"
        );
    }
}
