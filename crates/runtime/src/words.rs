//! Splitting one text into the words of a command, as a shell does, without any expansion.

/// A quote that is opened and never closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unclosed(pub(crate) char);

/// The words of `text`: separated by blanks, kept together by single quotes, double quotes and
/// backslashes. `$`, `*`, `|` and the like mean themselves.
pub(crate) fn split(text: &str) -> Result<Vec<String>, Unclosed> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next() {
                        Some('\'') => break,
                        Some(inner) => word.push(inner),
                        None => return Err(Unclosed('\'')),
                    }
                }
            }
            '"' => double_quoted(&mut rest, word.get_or_insert_default())?,
            '\\' => match rest.next() {
                // A backslash before a line's end joins the lines.
                Some('\n') => {}
                Some(escaped) => word.get_or_insert_default().push(escaped),
                None => word.get_or_insert_default().push('\\'),
            },
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Between double quotes a backslash escapes only what would end or begin something.
fn double_quoted(
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
    word: &mut String,
) -> Result<(), Unclosed> {
    loop {
        match rest.next() {
            Some('"') => return Ok(()),
            Some('\\') => match rest.next() {
                Some('\n') => {}
                Some(escaped @ ('"' | '\\' | '$' | '`')) => word.push(escaped),
                Some(other) => word.extend(['\\', other]),
                None => return Err(Unclosed('"')),
            },
            Some(inner) => word.push(inner),
            None => return Err(Unclosed('"')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(text: &str) -> Vec<String> {
        split(text).unwrap()
    }

    #[test]
    fn splits_as_a_shell_does() {
        assert_eq!(
            words("python3 -m  agent\tmain.py"),
            ["python3", "-m", "agent", "main.py"]
        );
        assert_eq!(
            words(r#"sh -c 'echo "a b" $HOME'"#),
            ["sh", "-c", "echo \"a b\" $HOME"]
        );
        assert_eq!(words(r#"a"b c"'d e'f \  g"#), ["ab cd ef", " ", "g"]);
        assert_eq!(words(r#""\$x \n" '' "#), ["$x \\n", ""]);
        assert_eq!(words("  "), Vec::<String>::new());
        assert_eq!(split("a 'b"), Err(Unclosed('\'')));
        assert_eq!(split("a \"b\\"), Err(Unclosed('"')));
    }

    proptest! {
        #[test]
        fn single_quotes_keep_everything(list in prop::collection::vec("[^']{0,12}", 1..5)) {
            let text: Vec<String> = list.iter().map(|word| format!("'{word}'")).collect();
            prop_assert_eq!(words(&text.join(" ")), list);
        }

        #[test]
        fn never_panics(text in ".*") {
            let _ = split(&text);
        }
    }
}
