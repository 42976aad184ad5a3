//! A report as one page to print: no scripts, nothing from elsewhere.

use std::fmt::Write as _;

use crate::report::Assessed;
use crate::{Report, State};

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;\
color:#1a1a1a}h2{font-size:1.1rem;margin:1.6rem 0 .2rem}section{break-inside:avoid}\
.state{font-weight:600;border:1px solid;border-radius:3px;padding:0 .4rem}.satisfied{color:#0a5c2b}\
.not-satisfied{color:#9b1c1c}.not-assessable{color:#555}dt{font-weight:600}dd{margin:0 0 .3rem 1rem}\
pre{white-space:pre-wrap;overflow-wrap:anywhere;font-size:.8rem}code{overflow-wrap:anywhere}\
summary{cursor:pointer}@media print{body{margin:0}details{display:block}}";

/// Text in which nothing is markup, also within an attribute.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn row(page: &mut String, label: &str, value: &str) {
    // Writing to a string does not fail.
    let _ = write!(page, "<dt>{label}</dt><dd>{}</dd>", escape(value));
}

fn control(page: &mut String, report: &Report, one: &Assessed) {
    let (control, finding) = (&one.control, &one.finding);
    let state = finding.state.as_str();
    let _ = write!(
        page,
        "<section><h2>{}: {}</h2><p>{}</p><p><span class=\"state {state}\">{state}</span> {}</p><dl>",
        escape(&control.id),
        escape(&control.title),
        escape(&control.statement),
        escape(&finding.said),
    );
    row(page, "After", &control.reference);
    if let Some(question) = finding.question {
        let (since, until) = (report.evidence.since, report.evidence.until);
        let asked = format!("{} --since {since} --until {until}", question.command());
        row(page, "Asked", &asked);
        row(page, "Entries", &finding.count.to_string());
    }
    row(page, "A person brings", &control.person);
    page.push_str("</dl>");
    for entry in &finding.entries {
        let _ = write!(
            page,
            "<details><summary>Proof of entry {}</summary><pre>{}</pre></details>",
            entry.number,
            escape(&entry.proof)
        );
    }
    page.push_str("</section>");
}

/// The report as a page.
#[must_use]
pub fn html(report: &Report) -> String {
    let evidence = &report.evidence;
    let title = escape(&report.catalog.title);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>{title}</title><style>{STYLE}</style></head><body><main><h1>{title}</h1><p>{}</p><dl>",
        escape(&report.catalog.about)
    );
    row(&mut page, "Workspace", &evidence.workspace);
    let window = format!("{} to {}", evidence.since, evidence.until);
    row(&mut page, "Window", &window);
    let log = format!("{} entries", evidence.checkpoint.size);
    row(&mut page, "Log", &log);
    let [yes, no, open] = [State::Satisfied, State::NotSatisfied, State::NotAssessable]
        .map(|state| report.count(state));
    let states = format!("{yes} satisfied, {no} not satisfied, {open} not assessable");
    row(&mut page, "Controls", &states);
    page.push_str("</dl>");
    for one in &report.controls {
        control(&mut page, report, one);
    }
    let _ = writeln!(
        page,
        "<section><h2>Checkpoint</h2><pre>{}</pre><p>Key: <code>{}</code></p></section>\
         </main></body></html>",
        escape(&evidence.checkpoint.note),
        escape(&evidence.checkpoint.key)
    );
    page
}

#[cfg(test)]
mod tests {
    use crate::check::tests::{evidence, nasty};
    use crate::{Catalog, Framework, assess, html, markdown};

    #[test]
    fn nothing_that_was_gathered_is_markup() {
        for framework in Framework::ALL {
            let report = assess(Catalog::of(framework).unwrap(), nasty(evidence()));
            let page = html(&report);
            assert!(page.contains("&lt;script&gt;"), "{page}");
            assert!(!page.contains("<script"), "{page}");
            assert!(!page.contains("\"onload"), "{page}");
            let text = markdown(&report);
            assert!(text.contains("\\<script\\>"), "{text}");
            assert!(!text.replace("\\<script", "").contains("<script"), "{text}");
        }
    }
}
