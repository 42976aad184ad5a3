//! A benchmark as one HTML file: the table, and the distribution of latencies as a drawing. Nothing is
//! loaded from elsewhere.

use std::fmt::Write as _;

use super::report::{Found, Report};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 44.0;
const BOTTOM: f64 = 32.0;
/// Columns of the drawing to a factor of ten.
const BINS: f64 = 24.0;
/// Told apart by those who see few colours too (Okabe and Ito).
const COLORS: [&str; 6] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9",
];
const STYLE: &str = "\
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;\
padding:0 1rem}table{border-collapse:collapse}th,td{padding:.2rem 1rem .2rem 0;text-align:right;\
border-bottom:1px solid #8884}th:first-child,td:first-child{text-align:left}svg{max-width:100%;\
height:auto}svg text{fill:currentColor;font-size:12px}.axis{stroke:currentColor;opacity:.3}";

/// The page.
pub(super) fn page(report: &Report, earlier: Option<&Report>) -> String {
    let (headers, rows) = report.table(earlier);
    let mut table = String::new();
    let cells = |tag: &str, cells: &[String]| -> String {
        let cell = |text: &String| format!("<{tag}>{}</{tag}>", escaped(text));
        cells.iter().map(cell).collect()
    };
    // A string takes whatever is written to it.
    let _ = writeln!(table, "<tr>{}</tr>", cells("th", &headers));
    for row in &rows {
        let _ = writeln!(table, "<tr>{}</tr>", cells("td", row));
    }
    let errors = report.errors();
    let errors: String = errors
        .iter()
        .map(|line| format!("<li>{}</li>", escaped(line)))
        .collect();
    let errors = match errors.is_empty() {
        true => String::new(),
        false => format!("<h2>Errors</h2>\n<ul>{errors}</ul>\n"),
    };
    let names: Vec<_> = report.agents.iter().map(|it| it.agent.as_str()).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>Benchmark of {names}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>Benchmark of {names}</h1>\n<p>{at}: {load}.</p>\n\
         <table>\n{table}</table>\n{errors}<h2>Latencies</h2>\n{drawing}\
         <p>Each line is an agent: how many of its answers took how long, in milliseconds. The dotted \
         lines are its p50 and p99.</p>\n</body>\n</html>\n",
        names = escaped(&names.join(", ")),
        at = escaped(&report.at),
        load = escaped(&report.load),
        drawing = drawing(&report.agents),
    )
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            c => safe.push(c),
        }
    }
    safe
}

/// Where a latency is on the axis, which grows by factors.
struct Axis {
    from: f64,
    to: f64,
}

impl Axis {
    fn of(agents: &[Found]) -> Self {
        let all = agents.iter().flat_map(|found| &found.histogram);
        let (mut from, mut to) = (f64::MAX, 0.001_f64);
        for (at, _) in all {
            from = from.min(at.max(0.001));
            to = to.max(*at);
        }
        let from = from.min(to).log10().floor();
        let to = (to * 1.05).log10().ceil().max(from + 1.0);
        Self { from, to }
    }

    fn share(&self, ms: f64) -> f64 {
        (ms.max(0.001).log10() - self.from) / (self.to - self.from)
    }

    fn x(&self, ms: f64) -> f64 {
        LEFT + self.share(ms) * (WIDTH - LEFT)
    }

    fn bins(&self) -> usize {
        ((self.to - self.from) * BINS) as usize
    }
}

/// What share of an agent's answers is in each column of the drawing.
fn shares(found: &Found, axis: &Axis) -> Vec<f64> {
    let mut shares = vec![0.0; axis.bins() + 1];
    let all: u64 = found.histogram.iter().map(|bucket| bucket.1).sum();
    for (ms, count) in &found.histogram {
        let at = (axis.share(*ms) * axis.bins() as f64).max(0.0) as usize;
        let at = at.min(axis.bins());
        shares[at] += *count as f64 / all.max(1) as f64;
    }
    shares
}

fn drawing(agents: &[Found]) -> String {
    let axis = Axis::of(agents);
    let all: Vec<_> = agents.iter().map(|found| shares(found, &axis)).collect();
    let highest = all.iter().flatten().copied().fold(0.01, f64::max);
    let floor = HEIGHT - BOTTOM;
    let y = |share: f64| floor - share / highest * (floor - 10.0);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Distribution of latencies\">\n"
    );
    for power in axis.from as i32..=axis.to as i32 {
        let (ms, x) = (10_f64.powi(power), axis.x(10_f64.powi(power)));
        let anchor = if x > WIDTH - LEFT { "end" } else { "middle" };
        let _ = writeln!(
            svg,
            "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{floor}\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{ms} ms</text>",
            floor + 20.0
        );
    }
    let _ = writeln!(svg, "<text x=\"0\" y=\"14\">{:.0}%</text>", highest * 100.0);
    for (number, (found, shares)) in agents.iter().zip(&all).enumerate() {
        let color = COLORS[number % COLORS.len()];
        let step = (WIDTH - LEFT) / axis.bins() as f64;
        let points: String = shares
            .iter()
            .enumerate()
            .map(|(at, share)| format!("{:.1},{:.1} ", LEFT + (at as f64 + 0.5) * step, y(*share)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>"
        );
        for ms in [found.latency.p50, found.latency.p99] {
            let x = axis.x(ms);
            let _ = writeln!(
                svg,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{floor}\" stroke=\"{color}\" \
                 stroke-dasharray=\"2 4\"/>"
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" style=\"fill:{color}\">{}</text>",
            WIDTH - 6.0,
            16.0 + 16.0 * number as f64,
            escaped(&found.agent)
        );
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_stands_alone_and_runs_nothing_of_others() {
        let found = |histogram: &[(f64, u64)]| Found {
            agent: "<b>a&b".into(),
            histogram: histogram.to_vec(),
            ..Found::default()
        };
        for histogram in [&[][..], &[(0.0, 1)], &[(0.5, 3), (1.0, 9), (900.0, 1)]] {
            let report = Report::new("16 clients".into(), vec![found(histogram); 2]);
            let page = page(&report, None);
            assert!(
                page.contains("&lt;b&gt;a&amp;b") && !page.contains("<b>"),
                "{page}"
            );
            for outside in ["http:", "https:", "src=", "href=", "<script", "NaN", "inf"] {
                assert!(!page.contains(outside), "{outside} in {page}");
            }
        }
    }
}
