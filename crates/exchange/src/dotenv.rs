//! `.env` files: `NAME=value` in lines, with `export`, quotes, values over several lines, and comments. What
//! other readers replace (`${OTHER}`) is kept as it stands: a secret may have a `$` in it.

use std::collections::HashMap;

use zeroize::Zeroizing;

use crate::{Entry, ExchangeError, MOST_ENTRIES, variable};

/// A file that is read: what is left of it, and on which line that begins.
struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

fn wrong(line: usize, what: &str) -> ExchangeError {
    ExchangeError::wrong(Some(line), None, what)
}

impl<'a> Reader<'a> {
    /// Takes the line that is left, without its end.
    fn line(&mut self) -> &'a str {
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.line += 1;
        line.strip_suffix('\r').unwrap_or(line)
    }

    /// Takes a value in quotes; what follows it may only be a comment.
    fn quoted(&mut self, quote: char) -> Result<Zeroizing<String>, ExchangeError> {
        let first = self.line;
        let mut value = Zeroizing::new(String::new());
        let mut chars = self.rest.char_indices().skip(1);
        let end = loop {
            let Some((at, c)) = chars.next() else {
                return Err(wrong(first, "the value's quote is not closed"));
            };
            match c {
                _ if c == quote => break at + 1,
                '\n' => {
                    self.line += 1;
                    value.push(c);
                }
                // A file of Windows has its values with the line ends of all.
                '\r' if self.rest[at + 1..].starts_with('\n') => {}
                '\\' if quote == '"' => match chars.next().map(|(_, c)| c) {
                    Some('n') => value.push('\n'),
                    Some('r') => value.push('\r'),
                    Some('t') => value.push('\t'),
                    Some(c @ ('\\' | '"' | '$' | '`' | '\'')) => value.push(c),
                    Some(c) => {
                        self.line += usize::from(c == '\n');
                        value.push('\\');
                        value.push(c);
                    }
                    None => return Err(wrong(first, "the value's quote is not closed")),
                },
                c => value.push(c),
            }
        };
        self.rest = &self.rest[end..];
        let last = self.line;
        let after = self.line().trim();
        match after.is_empty() || after.starts_with('#') {
            true => Ok(value),
            false => Err(wrong(last, "something stands behind the value's quote")),
        }
    }

    fn value(&mut self) -> Result<Zeroizing<String>, ExchangeError> {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
        if let Some(quote @ ('"' | '\'' | '`')) = self.rest.chars().next() {
            return self.quoted(quote);
        }
        let line = self.line();
        // A comment begins behind a space: `a#b` is a value.
        let comment = line
            .match_indices('#')
            .map(|(at, _)| at)
            .find(|at| *at == 0 || line[..*at].ends_with([' ', '\t']));
        Ok(Zeroizing::new(
            line[..comment.unwrap_or(line.len())].trim().to_owned(),
        ))
    }
}

/// Reads a file.
pub(crate) fn read(text: &str) -> Result<Vec<Entry>, ExchangeError> {
    let mut reader = Reader {
        rest: text,
        line: 1,
    };
    let mut entries = Vec::new();
    while !reader.rest.is_empty() {
        let start = reader.rest.trim_start_matches([' ', '\t']);
        if start.is_empty() || start.starts_with(['#', '\n', '\r']) {
            reader.line();
            continue;
        }
        reader.rest = start.strip_prefix("export ").unwrap_or(start).trim_start();
        let line = reader.line;
        let end = reader.rest.find(['=', '\n']);
        let end = end.filter(|at| reader.rest[*at..].starts_with('='));
        let end = end.ok_or_else(|| wrong(line, "there is no `=`: write NAME=value"))?;
        let name = reader.rest[..end].trim().to_owned();
        // What is no name may be a piece of a value.
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/');
        if name.is_empty() || !name.chars().all(fits) {
            let what =
                "what stands before the `=` is no name of letters, digits, `_`, `.`, `-`, `/`";
            return Err(wrong(line, what));
        }
        reader.rest = &reader.rest[end + 1..];
        let value = reader.value()?;
        entries.push(Entry {
            name,
            value: Zeroizing::new(value.as_bytes().to_vec()),
            line: Some(line),
        });
        if entries.len() > MOST_ENTRIES {
            return Err(ExchangeError::TooMany);
        }
    }
    Ok(entries)
}

/// What the entries are called as variables, in their order; no two the same.
pub(crate) fn variables(entries: &[Entry]) -> Result<Vec<String>, ExchangeError> {
    let mut taken: HashMap<String, &str> = HashMap::new();
    let mut names = Vec::with_capacity(entries.len());
    for entry in entries {
        let name = variable(&entry.name);
        if let Some(one) = taken.insert(name.clone(), &entry.name) {
            return Err(ExchangeError::Collision {
                one: one.to_owned(),
                other: entry.name.clone(),
                variable: name,
            });
        }
        names.push(name);
    }
    Ok(names)
}

/// Writes a file that other readers of `.env` understand as this one does.
pub(crate) fn write(entries: &[Entry]) -> Result<Zeroizing<String>, ExchangeError> {
    let mut out = Zeroizing::new(String::new());
    for (entry, name) in entries.iter().zip(variables(entries)?) {
        let value = entry.text()?;
        out.push_str(&name);
        out.push('=');
        let plain = |c: char| c.is_ascii_alphanumeric() || "_./:@%+,-=".contains(c);
        if value.chars().all(plain) {
            out.push_str(value);
        } else if !value.contains(['\'', '\\', '\n', '\r']) {
            // Nothing in it is replaced, whoever reads it.
            out.push('\'');
            out.push_str(value);
            out.push('\'');
        } else {
            out.push('"');
            for c in value.chars() {
                match c {
                    '\n' => out.push_str("\\n"),
                    '\r' => out.push_str("\\r"),
                    '"' | '\\' | '$' | '`' => {
                        out.push('\\');
                        out.push(c);
                    }
                    _ => out.push(c),
                }
            }
            out.push('"');
        }
        out.push('\n');
    }
    Ok(out)
}
