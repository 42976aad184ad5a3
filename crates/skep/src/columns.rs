//! What `--format` prints: columns by name, or a text with fields in braces.

use crate::failure::{Failure, Result};

/// The fields that a row has, by name.
pub(crate) type Fields = [(&'static str, String)];

/// What each row becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Template {
    /// These columns, in this order.
    Columns(Vec<&'static str>),
    /// A text with values in it.
    Text(Vec<Piece>),
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// What stands there.
    Plain(String),
    /// The value of a field.
    Field(&'static str),
}

fn field(name: &str, known: &[&'static str]) -> Result<&'static str> {
    if let Some(found) = known.iter().find(|one| **one == name) {
        return Ok(found);
    }
    let meant = match skep_core::similar(name, known.iter().copied()) {
        Some(meant) => format!("Did you mean `{meant}`? "),
        None => String::new(),
    };
    Err(
        Failure::usage(format!("--format: there is no field `{name}`"))
            .hint(format!("{meant}There are: {}.", known.join(", "))),
    )
}

impl Template {
    /// Reads what stands behind `--format`: `name,status` or `{name}\t{status}`.
    pub(crate) fn parse(text: &str, known: &[&'static str]) -> Result<Self> {
        if !text.contains(['{', '}']) {
            let names = text.split(',').map(|name| field(name.trim(), known));
            return names.collect::<Result<_>>().map(Self::Columns);
        }
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                // Twice is once, as in Rust and Python.
                '{' | '}' if rest.peek() == Some(&c) => {
                    rest.next();
                    plain.push(c);
                }
                '{' => {
                    let name: String = rest.by_ref().take_while(|c| *c != '}').collect();
                    if !plain.is_empty() {
                        pieces.push(Piece::Plain(std::mem::take(&mut plain)));
                    }
                    pieces.push(Piece::Field(field(name.trim(), known)?));
                }
                '}' => {
                    return Err(Failure::usage("--format: a `}` closes nothing")
                        .hint("Write `}}` for the sign itself."));
                }
                '\\' => match rest.next() {
                    Some('t') => plain.push('\t'),
                    Some('n') => plain.push('\n'),
                    Some('\\') => plain.push('\\'),
                    Some(other) => plain.extend(['\\', other]),
                    None => plain.push('\\'),
                },
                _ => plain.push(c),
            }
        }
        if !plain.is_empty() {
            pieces.push(Piece::Plain(plain));
        }
        Ok(Self::Text(pieces))
    }
}

fn value<'a>(fields: &'a Fields, name: &str) -> &'a str {
    let found = fields.iter().find(|(known, _)| *known == name);
    found.map_or("", |(_, value)| value)
}

/// A row as the text says, in a line.
pub(crate) fn fill(pieces: &[Piece], fields: &Fields) -> String {
    let mut line = String::new();
    for piece in pieces {
        match piece {
            Piece::Plain(text) => line.push_str(text),
            Piece::Field(name) => line.push_str(&crate::table::clean(value(fields, name))),
        }
    }
    line
}

/// The cells of a row.
pub(crate) fn cells(columns: &[&'static str], fields: &Fields) -> Vec<String> {
    let cells = columns.iter().map(|name| value(fields, name).to_owned());
    cells.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 3] = ["name", "status", "replicas"];

    fn line(text: &str) -> String {
        let fields = [("name", "a".to_owned()), ("status", "ready".to_owned())];
        match Template::parse(text, &KNOWN).unwrap() {
            Template::Columns(columns) => cells(&columns, &fields).join("|"),
            Template::Text(pieces) => fill(&pieces, &fields),
        }
    }

    #[test]
    fn columns_and_texts() {
        assert_eq!(line("name, status"), "a|ready");
        assert_eq!(line("{name}\\t{ status }\\n"), "a\tready\n");
        assert_eq!(line("{{{name}}}\\x"), "{a}\\x");
    }

    #[test]
    fn a_field_that_is_not_there_is_told_with_one_that_is() {
        for text in ["name,stats", "{stats}"] {
            let failure = Template::parse(text, &KNOWN).unwrap_err();
            let told = failure.render(false, false);
            assert!(told.contains("Did you mean `status`?"), "{told}");
            assert_eq!(failure.exit, crate::failure::Exit::Usage);
        }
        assert!(Template::parse("{name}}", &KNOWN).is_err());
    }
}
