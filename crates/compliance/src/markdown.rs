//! A report as Markdown.

use std::fmt::Write as _;

use crate::{Report, State};

/// Text in which nothing is markup; it stays on its line.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '|' | '&' | '!' | '~' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// The report for people, as Markdown.
#[must_use]
pub fn markdown(report: &Report) -> String {
    let evidence = &report.evidence;
    let mut text = format!(
        "# {}\n\n{}\n\n- Workspace: {}\n- Window: {} to {}\n- Log: {} entries, key {}\n\
         - Satisfied: {}; not satisfied: {}; not assessable: {}\n",
        plain(&report.catalog.title),
        plain(&report.catalog.about),
        plain(&evidence.workspace),
        evidence.since,
        evidence.until,
        evidence.checkpoint.size,
        plain(&evidence.checkpoint.key),
        report.count(State::Satisfied),
        report.count(State::NotSatisfied),
        report.count(State::NotAssessable),
    );
    for one in &report.controls {
        let (control, finding) = (&one.control, &one.finding);
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\n## {}: {}\n\n{}. {}\n\n- **{}**: {}\n",
            control.id,
            plain(&control.title),
            plain(&control.reference),
            plain(&control.statement),
            finding.state.as_str(),
            plain(&finding.said),
        );
        if let Some(question) = finding.question {
            let _ = writeln!(
                text,
                "- Asked: `{} --since {} --until {}`; entries: {}",
                question.command(),
                evidence.since,
                evidence.until,
                finding.count
            );
        }
        if !finding.entries.is_empty() {
            let numbers = finding.entries.iter().map(|it| it.number.to_string());
            let numbers: Vec<String> = numbers.collect();
            let _ = writeln!(text, "- Proven, the newest: {}", numbers.join(", "));
        }
        let _ = writeln!(text, "- A person brings: {}", plain(&control.person));
    }
    let _ = write!(
        text,
        "\n## Checkpoint\n\n```\n{}\n```\n",
        evidence.checkpoint.note.replace("```", "").trim_end()
    );
    text
}
