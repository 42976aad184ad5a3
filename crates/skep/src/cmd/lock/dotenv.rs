//! `.env` files: names and values, a line each. Nothing in a value is expanded, neither `$NAME` nor anything
//! else: what is written is what is read.

use zeroize::Zeroizing;

/// What is wrong in a file, and the line, from 1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) line: usize,
    pub(super) why: &'static str,
}

/// A name with its value.
type Pair = (String, Zeroizing<String>);

/// Whether something can be the name of a variable.
pub(super) fn is_variable(name: &str) -> bool {
    let mut letters = name.bytes();
    let first = letters
        .next()
        .is_some_and(|it| it.is_ascii_alphabetic() || it == b'_');
    first && letters.all(|it| it.is_ascii_alphanumeric() || it == b'_')
}

/// The rest of a text, with the line on which it begins.
struct Rest<'a> {
    text: &'a str,
    line: usize,
}

impl Rest<'_> {
    fn wrong<T>(&self, why: &'static str) -> Result<T, Wrong> {
        let line = self.line;
        Err(Wrong { line, why })
    }

    /// Goes on by so many bytes.
    fn skip(&mut self, bytes: usize) {
        let (gone, rest) = self.text.split_at(bytes);
        self.line += gone.matches('\n').count();
        self.text = rest;
    }

    fn skip_while(&mut self, like: impl Fn(char) -> bool) {
        let end = self.text.find(|it| !like(it)).unwrap_or(self.text.len());
        self.skip(end);
    }

    fn name(&mut self) -> Result<String, Wrong> {
        if let Some(rest) = self.text.strip_prefix("export ") {
            self.text = rest.trim_start_matches([' ', '\t']);
        }
        let end = self.text.find(['=', '\n']).unwrap_or(self.text.len());
        let name = self.text[..end].trim_end_matches([' ', '\t']).to_owned();
        if !self.text[end..].starts_with('=') {
            return self.wrong("a line is NAME=VALUE");
        }
        if !is_variable(&name) {
            return self.wrong("a name has letters, digits and `_`, and no digit first");
        }
        self.skip(end + 1);
        self.skip_while(|it| matches!(it, ' ' | '\t'));
        Ok(name)
    }

    fn value(&mut self) -> Result<Zeroizing<String>, Wrong> {
        let value = match self.text.chars().next() {
            Some('\'') => {
                let Some(end) = self.text[1..].find('\'') else {
                    return self.wrong("the quote does not end");
                };
                let value = Zeroizing::new(self.text[1..=end].to_owned());
                self.skip(end + 2);
                value
            }
            Some('"') => self.quoted()?,
            _ => {
                let end = self.text.find('\n').unwrap_or(self.text.len());
                let line = &self.text[..end];
                let comment = match line.starts_with('#') {
                    true => Some(0),
                    false => line.find(" #").or_else(|| line.find("\t#")),
                };
                let value = line[..comment.unwrap_or(end)].trim_end();
                let value = Zeroizing::new(value.to_owned());
                self.skip(end);
                return Ok(value);
            }
        };
        self.skip_while(|it| matches!(it, ' ' | '\t' | '\r'));
        match self.text.chars().next() {
            None | Some('\n' | '#') => Ok(value),
            Some(_) => self.wrong("something follows the quote"),
        }
    }

    fn quoted(&mut self) -> Result<Zeroizing<String>, Wrong> {
        // No longer than this, so that it is not moved while it grows, which would leave copies.
        let mut value = Zeroizing::new(String::with_capacity(self.text.len()));
        let mut letters = self.text.char_indices().skip(1);
        while let Some((at, letter)) = letters.next() {
            match letter {
                '"' => {
                    self.skip(at + 1);
                    return Ok(value);
                }
                '\\' => match letters.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, 'r')) => value.push('\r'),
                    Some((_, 't')) => value.push('\t'),
                    Some((_, same @ ('\\' | '"' | '$' | '`'))) => value.push(same),
                    Some((_, other)) => value.extend(['\\', other]),
                    None => break,
                },
                plain => value.push(plain),
            }
        }
        self.wrong("the quote does not end")
    }
}

/// The pairs of a file.
pub(super) fn parse(text: &str) -> Result<Vec<Pair>, Wrong> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut rest = Rest { text, line: 1 };
    let mut pairs = Vec::new();
    loop {
        rest.skip_while(char::is_whitespace);
        match rest.text.chars().next() {
            None => return Ok(pairs),
            Some('#') => rest.skip_while(|it| it != '\n'),
            Some(_) => {
                let name = rest.name()?;
                pairs.push((name, rest.value()?));
                // What may follow is a comment.
                rest.skip_while(|it| it != '\n');
            }
        }
    }
}

/// A pair as a line.
pub(super) fn line(name: &str, value: &str, out: &mut String) {
    let plain = |it: char| it.is_ascii_alphanumeric() || "_./:@%+=,-".contains(it);
    out.push_str(name);
    out.push('=');
    if value.chars().all(plain) {
        out.push_str(value);
    } else {
        out.push('"');
        for letter in value.chars() {
            match letter {
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\\' | '"' | '$' | '`' => out.extend(['\\', letter]),
                plain => out.push(plain),
            }
        }
        out.push('"');
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let pairs = parse(text).unwrap();
        pairs
            .into_iter()
            .map(|(name, value)| (name, value.to_string()))
            .collect()
    }

    #[test]
    fn what_people_write_is_read() {
        let text = "\u{feff}# one\r\nA=1\r\n  export B = two words  # said\nC='it''s'\n";
        assert_eq!(
            parse(text).err(),
            Some(Wrong {
                line: 4,
                why: "something follows the quote"
            })
        );
        let text = "A=1\r\nexport B = two words  # said\nC='$HOME\n#2' # x\nD=\"a\\n\\\"\\$b\\q\"\nE=\nF=a#b\nG=#x";
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "$HOME\n#2"),
            ("D", "a\n\"$b\\q"),
            ("E", ""),
            ("F", "a#b"),
            ("G", ""),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(pairs(text), expected);
        for (text, line) in [("A", 1), ("A=1\n2=3", 2), ("A='\n\n", 1), ("\n=x", 2)] {
            assert_eq!(parse(text).err().map(|it| it.line), Some(line), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in any::<String>()) {
            let mut text = String::new();
            line("NAME", &value, &mut text);
            line("NEXT", "x", &mut text);
            let expected = vec![("NAME".to_owned(), value), ("NEXT".to_owned(), "x".to_owned())];
            prop_assert_eq!(pairs(&text), expected);
        }

        #[test]
        fn no_text_breaks_it(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
