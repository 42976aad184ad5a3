//! `.dockerignore`: which paths are not sent. Patterns are of Docker's kind: whole paths from the
//! context's root, `*` and `?` within a name, `**` over folders, `!` takes back, the last one that
//! matches decides, and what is below an excluded folder is excluded.

/// The patterns of one file, in order.
#[derive(Debug, Default)]
pub(super) struct Ignore(Vec<Pattern>);

#[derive(Debug)]
struct Pattern {
    names: Vec<Vec<char>>,
    includes: bool,
}

impl Ignore {
    pub(super) fn parse(text: &str) -> Self {
        let lines = text.trim_start_matches('\u{feff}').lines();
        let lines = lines.filter(|line| !line.starts_with('#'));
        let patterns = lines.filter_map(|line| {
            let line = line.trim();
            let (includes, line) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            let mut names = Vec::new();
            for name in line.split('/') {
                match name {
                    "" | "." => {}
                    ".." => {
                        names.pop();
                    }
                    name => names.push(name.chars().collect()),
                }
            }
            (!names.is_empty()).then_some(Pattern { names, includes })
        });
        Self(patterns.collect())
    }

    /// Whether a path of the context is left out.
    pub(super) fn excludes(&self, path: &str) -> bool {
        let names: Vec<Vec<char>> = path.split('/').map(|name| name.chars().collect()).collect();
        let last = self.0.iter().rev();
        let mut last = last.filter(|pattern| covers(&pattern.names, &names));
        last.next().is_some_and(|pattern| !pattern.includes)
    }

    /// Whether something below an excluded folder may be sent after all.
    pub(super) fn takes_back(&self) -> bool {
        self.0.iter().any(|pattern| pattern.includes)
    }
}

/// Whether a pattern matches a path or a folder that it is in.
fn covers(pattern: &[Vec<char>], path: &[Vec<char>]) -> bool {
    match pattern.split_first() {
        None => true,
        Some((first, rest)) if *first == ['*', '*'] => match rest {
            [] => !path.is_empty(),
            rest => (0..=path.len()).any(|at| covers(rest, &path[at..])),
        },
        Some((first, rest)) => path
            .split_first()
            .is_some_and(|(name, below)| matches(first, name) && covers(rest, below)),
    }
}

/// One item of a pattern against a character: how long the item is, and whether it fits.
fn item(pattern: &[char], found: char) -> (usize, bool) {
    match pattern {
        ['?', ..] => (1, true),
        ['\\', quoted, ..] => (2, *quoted == found),
        ['[', set @ ..] => {
            let (start, is_negated) = match set.first() {
                Some('^') => (1, true),
                _ => (0, false),
            };
            // A bracket that nothing closes stands for itself.
            let Some(end) = set.iter().skip(start + 1).position(|one| *one == ']') else {
                return (1, found == '[');
            };
            let end = end + start + 1;
            let (mut at, mut is_in) = (start, false);
            while at < end {
                let is_range = at + 2 < end && set[at + 1] == '-';
                let last = if is_range { set[at + 2] } else { set[at] };
                is_in |= (set[at]..=last).contains(&found);
                at += if is_range { 3 } else { 1 };
            }
            (end + 2, is_in != is_negated)
        }
        [same, ..] => (1, *same == found),
        [] => (0, false),
    }
}

/// Whether a pattern matches one name. Looks back to the last `*` only, so that time stays bounded.
fn matches(pattern: &[char], name: &[char]) -> bool {
    let (mut at, mut of) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while of < name.len() {
        if pattern.get(at) == Some(&'*') {
            star = Some((at, of));
            at += 1;
            continue;
        }
        let (length, fits) = item(&pattern[at..], name[of]);
        if length > 0 && fits {
            at += length;
            of += 1;
        } else if let Some((back, from)) = star {
            at = back + 1;
            of = from + 1;
            star = Some((back, of));
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_out_what_docker_leaves_out() {
        for (text, path, excluded) in [
            ("target", "target", true),
            ("target", "target/debug/a", true),
            ("target", "sub/target", false),
            ("/target/", "target/a", true),
            ("*/target", "sub/target/x", true),
            ("**/target", "a/b/target", true),
            ("**/target", "target", true),
            ("*.md", "README.md", true),
            ("*.md", "docs/README.md", false),
            ("**/*.md", "docs/a/README.md", true),
            ("*.md\n!README.md", "README.md", false),
            (
                "*.md\n!README*.md\nREADME-secret.md",
                "README-secret.md",
                true,
            ),
            ("docs/**", "docs", false),
            ("docs/**", "docs/a", true),
            ("a/../b", "b", true),
            ("# no\n\n  x  ", "x", true),
            ("file?.txt", "file1.txt", true),
            ("file[0-9].txt", "filea.txt", false),
            ("file[^0-9].txt", "filea.txt", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("*", "anything/below", true),
            ("", "a", false),
            ("[", "[", true),
        ] {
            assert_eq!(
                Ignore::parse(text).excludes(path),
                excluded,
                "{text:?} {path}"
            );
        }
        assert!(Ignore::parse("*\n!a").takes_back());
        let long = format!("{}b", "*a".repeat(30));
        assert!(!Ignore::parse(&long).excludes(&"a".repeat(5_000)));
    }
}
