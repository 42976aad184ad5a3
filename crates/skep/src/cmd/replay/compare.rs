//! How two answers differ: status, headers that say something, and the body by lines. Pure.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Lines around a difference that are shown too.
const CONTEXT: usize = 3;
/// The largest table of lines against lines; beyond it, what differs is shown as a whole.
const MOST_CELLS: usize = 16 << 20;

/// Headers that differ between any two answers.
const NOISE: [&str; 12] = [
    "age",
    "connection",
    "content-length",
    "date",
    "etag",
    "expires",
    "idempotency-replayed",
    "keep-alive",
    "last-modified",
    "server-timing",
    "traceresponse",
    "transfer-encoding",
];
const OURS: &str = "skep-";

/// An answer as it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// What differs.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Differences {
    pub(super) same: bool,
    /// Before and after, when they differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<(u16, u16)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) headers: Vec<HeaderChange>,
    /// Lines that begin with ` `, `-` or `+`; with `@@` where lines are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) body: Vec<String>,
}

/// A header that differs; absent on one side when it is not there.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct HeaderChange {
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) to: Option<String>,
}

/// What differs between two answers.
pub(super) fn compare(before: &Told, after: &Told) -> Differences {
    let status = (before.status != after.status).then_some((before.status, after.status));
    let headers = headers(&before.headers, &after.headers);
    let body = bodies(&before.body, &after.body);
    Differences {
        same: status.is_none() && headers.is_empty() && body.is_empty(),
        status,
        headers,
        body,
    }
}

fn headers(before: &[(String, String)], after: &[(String, String)]) -> Vec<HeaderChange> {
    let says = |name: &str| !NOISE.contains(&name) && !name.starts_with(OURS);
    let mut names: Vec<&str> = before.iter().chain(after).map(|it| it.0.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let value = |all: &[(String, String)], name: &str| {
        let values = all.iter().filter(|it| it.0 == name);
        let values: Vec<_> = values.map(|it| it.1.as_str()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    };
    names
        .into_iter()
        .filter(|name| says(name))
        .map(|name| HeaderChange {
            name: name.to_owned(),
            from: value(before, name),
            to: value(after, name),
        })
        .filter(|change| change.from != change.to)
        .collect()
}

fn bodies(before: &[u8], after: &[u8]) -> Vec<String> {
    if before == after {
        return Vec::new();
    }
    match (text(before), text(after)) {
        (Some(before), Some(after)) => {
            let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
            let (old, new) = (lines(&before), lines(&after));
            // JSON that differs in blanks and order only is the same.
            match before == after {
                true => Vec::new(),
                false if old == new => vec![" only the ends of lines differ".to_owned()],
                false => hunks(&old, &new),
            }
        }
        _ => vec![
            format!("-{}", summary(before)),
            format!("+{}", summary(after)),
        ],
    }
}

/// JSON in one form: its keys in order, one to a line; other text as it is; `None` when it is
/// binary.
fn text(body: &[u8]) -> Option<String> {
    if let Ok(value) = serde_json::from_slice::<Value>(body) {
        let mut value = value;
        value.sort_all_objects();
        return serde_json::to_string_pretty(&value).ok();
    }
    let text = std::str::from_utf8(body).ok()?;
    (!text.contains('\0')).then(|| text.to_owned())
}

fn summary(body: &[u8]) -> String {
    let hash = Sha256::digest(body);
    let hash: String = hash.iter().fold(String::new(), |mut text, byte| {
        // A string takes whatever is written to it.
        let _ = write!(text, "{byte:02x}");
        text
    });
    format!("{} bytes, sha256 {hash}", body.len())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Both,
    Old,
    New,
}

/// The differences with some lines around them.
fn hunks(old: &[String], new: &[String]) -> Vec<String> {
    let edits = edits(old, new);
    let changed = |at: usize| edits[at].0 != Side::Both;
    let near = |at: usize| {
        let from = at.saturating_sub(CONTEXT);
        (from..edits.len().min(at + CONTEXT + 1)).any(changed)
    };
    let mut shown = Vec::new();
    let mut gap = false;
    let (mut old_line, mut new_line) = (1, 1);
    for (at, (side, line)) in edits.iter().enumerate() {
        if near(at) {
            if gap || at == 0 && edits.len() > 2 * CONTEXT {
                shown.push(format!("@@ -{old_line} +{new_line} @@"));
            }
            gap = false;
            shown.push(match side {
                Side::Both => format!(" {line}"),
                Side::Old => format!("-{line}"),
                Side::New => format!("+{line}"),
            });
        } else {
            gap = true;
        }
        old_line += usize::from(*side != Side::New);
        new_line += usize::from(*side != Side::Old);
    }
    shown
}

/// How the new lines come of the old ones, by their longest common subsequence.
fn edits<'a>(old: &'a [String], new: &'a [String]) -> Vec<(Side, &'a str)> {
    let same = |(a, b): &(&String, &String)| a == b;
    let head = old.iter().zip(new).take_while(same).count();
    let (old_rest, new_rest) = (&old[head..], &new[head..]);
    let tail = old_rest.iter().rev().zip(new_rest.iter().rev());
    let tail = tail.take_while(same).count();
    let old_middle = &old_rest[..old_rest.len() - tail];
    let new_middle = &new_rest[..new_rest.len() - tail];
    let both = |lines: &'a [String]| lines.iter().map(|line| (Side::Both, line.as_str()));
    let mut edits: Vec<_> = both(&old[..head]).collect();
    middle(old_middle, new_middle, &mut edits);
    edits.extend(both(&old[old.len() - tail..]));
    edits
}

fn middle<'a>(old: &'a [String], new: &'a [String], edits: &mut Vec<(Side, &'a str)>) {
    let width = new.len() + 1;
    let cells = (old.len() + 1).saturating_mul(width);
    let (mut i, mut j) = (0, 0);
    if cells <= MOST_CELLS {
        // The length of the longest common subsequence of what is left of both.
        let mut longest = vec![0_u32; cells];
        for i in (0..old.len()).rev() {
            for j in (0..new.len()).rev() {
                longest[i * width + j] = match old[i] == new[j] {
                    true => longest[(i + 1) * width + j + 1] + 1,
                    false => longest[(i + 1) * width + j].max(longest[i * width + j + 1]),
                };
            }
        }
        while i < old.len() && j < new.len() {
            if old[i] == new[j] {
                edits.push((Side::Both, &old[i]));
                (i, j) = (i + 1, j + 1);
            } else if longest[(i + 1) * width + j] >= longest[i * width + j + 1] {
                edits.push((Side::Old, &old[i]));
                i += 1;
            } else {
                edits.push((Side::New, &new[j]));
                j += 1;
            }
        }
    }
    edits.extend(old[i..].iter().map(|line| (Side::Old, line.as_str())));
    edits.extend(new[j..].iter().map(|line| (Side::New, line.as_str())));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Told {
        let headers = headers.iter().map(|(n, v)| ((*n).into(), (*v).into()));
        Told {
            status,
            headers: headers.collect(),
            body: body.to_vec(),
        }
    }

    #[test]
    fn what_says_nothing_is_no_difference() {
        let json = [("content-type", "application/json"), ("date", "now")];
        let before = told(200, &json, br#"{"a":1,"b":[{"c":2,"d":3}]}"#);
        let later = [("content-type", "application/json"), ("skep-call-id", "x")];
        let after = told(200, &later, b"{ \"b\": [{\"d\":3, \"c\":2}], \"a\": 1 }\n");
        assert!(compare(&before, &after).same);
    }

    #[test]
    fn json_differs_by_its_keys() {
        let before = told(200, &[("x", "1"), ("x", "2")], br#"{"a":1,"b":2}"#);
        let after = told(500, &[("y", "1")], br#"{"b":3,"a":1}"#);
        let found = compare(&before, &after);
        assert_eq!(found.status, Some((200, 500)));
        assert_eq!(found.headers[0].from.as_deref(), Some("1, 2"));
        assert_eq!(found.headers[1].to.as_deref(), Some("1"));
        let lines = [" {", "   \"a\": 1,", "-  \"b\": 2", "+  \"b\": 3", " }"];
        assert_eq!(found.body, lines);
    }

    #[test]
    fn far_lines_are_left_out_and_bytes_are_hashed() {
        let text = |at: usize, with: &str| {
            let line = |n| {
                if n == at {
                    with.to_owned()
                } else {
                    format!("{n}")
                }
            };
            (1..=20).map(line).collect::<Vec<_>>().join("\n")
        };
        let found = bodies(text(10, "old").as_bytes(), text(10, "new").as_bytes());
        assert_eq!(found[0], "@@ -7 +7 @@");
        assert_eq!(found[4..6], ["-old", "+new"]);
        assert_eq!(found.len(), 9);
        let found = bodies(&[0xff, 0], b"text");
        assert!(found[0].starts_with("-2 bytes, sha256 "), "{found:?}");
        assert_eq!(
            bodies(b"a\nb", b"a\r\nb"),
            [" only the ends of lines differ"]
        );
    }

    #[test]
    fn edits_lead_from_the_old_to_the_new() {
        let lines = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
        for (old, new, kept) in [
            ("abcabba", "cbabac", 4),
            ("", "abc", 0),
            ("abc", "", 0),
            ("xaby", "xcdy", 2),
        ] {
            let (old, new) = (lines(old), lines(new));
            let edits = edits(&old, &new);
            let side = |not: Side| -> Vec<&str> {
                let kept = edits.iter().filter(|edit| edit.0 != not);
                kept.map(|edit| edit.1).collect()
            };
            assert_eq!((side(Side::New), side(Side::Old)), (refs(&old), refs(&new)));
            let both = edits.iter().filter(|edit| edit.0 == Side::Both).count();
            assert_eq!(both, kept);
        }
        fn refs(lines: &[String]) -> Vec<&str> {
            lines.iter().map(String::as_str).collect()
        }
    }
}
