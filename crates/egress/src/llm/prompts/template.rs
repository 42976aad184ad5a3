//! Templates of prompts: Jinja's `{{ … }}`, `{% if %}` and `{% for %}`, and a few filters. A template reads no files, names no
//! other one, and is done in bounded time and memory whatever it says: nothing in it can make a text that grows by itself.
//! No I/O.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::value::{Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use serde_json::Value as Json;

/// Steps of all templates of a prompt together.
const FUEL: u64 = 200_000;
/// Bytes that filters of one template look at, together.
const MOST_FILTERED: usize = 4 << 20;
/// Bytes of what is made of one template.
pub(super) const MOST_TEXT: usize = 256 << 10;
/// Statements that there are.
const STATEMENTS: [&str; 6] = ["if", "elif", "else", "endif", "for", "endfor"];
/// What puts texts together, again and again; the template itself does that.
const OPERATORS: [char; 3] = ['+', '*', '~'];

/// What a template wants, when it is one.
///
/// # Errors
/// What is wrong, and where.
pub(super) fn check(text: &str) -> Result<BTreeSet<String>, String> {
    plain(text)?;
    let environment = environment(1);
    let template = environment.template_from_str(text);
    let template = template.map_err(|error| told(&error))?;
    Ok(template.undeclared_variables(false).into_iter().collect())
}

/// The text of a template with these variables; one of so many, which have their steps together.
///
/// # Errors
/// What is wrong, and where.
pub(super) fn render(text: &str, variables: &Json, of: usize) -> Result<String, String> {
    plain(text)?;
    let environment = environment(of);
    let template = environment.template_from_str(text);
    let template = template.map_err(|error| told(&error))?;
    let mut made = Bounded(Vec::new());
    let done = template.render_captured_to(Value::from_serialize(variables), &mut made);
    match done {
        Ok(_) => String::from_utf8(made.0).map_err(|_| "it makes no text".to_owned()),
        Err(error) if error.kind() == ErrorKind::WriteFailure => {
            Err(format!("it makes more than {MOST_TEXT} bytes"))
        }
        Err(error) if error.kind() == ErrorKind::UndefinedError => {
            let wanted = template.undeclared_variables(false).into_iter();
            let mut missing: Vec<String> = wanted
                .filter(|it| variables.get(it).is_none() && !is_spared(text, it))
                .collect();
            missing.sort_unstable();
            Err(match missing.is_empty() {
                true => told(&error),
                false => format!("{}; not given: {}", told(&error), missing.join(", ")),
            })
        }
        Err(error) => Err(told(&error)),
    }
}

/// Whether each tag that names a variable says what holds without it.
fn is_spared(text: &str, name: &str) -> bool {
    let of_name = |it: Option<char>| it.is_some_and(|it| it.is_alphanumeric() || it == '_');
    let within = [("{{", "}}"), ("{%", "%}")];
    let tags = within.into_iter().flat_map(|(begin, end)| {
        let begun = text.split(begin).skip(1);
        begun.filter_map(move |it| it.split(end).next())
    });
    let mut named =
        tags.flat_map(|tag| tag.match_indices(name).map(move |(at, _)| tag.split_at(at)));
    named.all(|(before, rest)| {
        let after = rest.get(name.len()..).unwrap_or_default();
        let last = before.chars().next_back();
        // A part of another name, or a field of something.
        if of_name(last) || last == Some('.') || of_name(after.chars().next()) {
            return true;
        }
        let after = after.trim_start();
        let filter = after.strip_prefix('|').map(str::trim_start);
        filter.is_some_and(|it| it.starts_with("default"))
            || ["is defined", "is not defined"]
                .iter()
                .any(|it| after.starts_with(it))
    })
}

/// An error with its line.
fn told(error: &Error) -> String {
    let what = match error.kind() {
        ErrorKind::OutOfFuel => "it takes too many steps".to_owned(),
        ErrorKind::UndefinedError => "a value is used that is not there".to_owned(),
        kind => match error.detail() {
            Some(detail) => format!("{kind}: {detail}"),
            None => kind.to_string(),
        },
    };
    match error.line() {
        Some(line) => format!("line {line}: {what}"),
        None => what,
    }
}

/// What is written, within bounds.
struct Bounded(Vec<u8>);

impl Bounded {
    fn text(self) -> Result<String, Error> {
        String::from_utf8(self.0).map_err(|_| wrong("it makes no text"))
    }
}

impl std::fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        io::Write::write_all(self, text.as_bytes()).map_err(|_| std::fmt::Error)
    }
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MOST_TEXT {
            return Err(io::Error::other("too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn wrong(why: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, why)
}

/// A filter of texts, whose bytes are counted: a step may look at many.
fn of_texts(
    left: &Arc<AtomicUsize>,
    made: impl Fn(&str) -> String + Send + Sync + 'static,
) -> impl Fn(&Value) -> Result<String, Error> + Send + Sync + 'static {
    let left = left.clone();
    move |it: &Value| {
        let text = it.as_str().ok_or_else(|| wrong("it is no text"))?;
        take(&left, text.len())?;
        match made(text) {
            text if text.len() <= MOST_TEXT => Ok(text),
            _ => Err(wrong("it makes too long a text")),
        }
    }
}

/// Takes so many bytes of those that filters may look at.
fn take(left: &AtomicUsize, bytes: usize) -> Result<(), Error> {
    let fits = |it: usize| it.checked_sub(bytes);
    let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
    let over = |_| wrong("its filters look at too many bytes");
    taken.map(drop).map_err(over)
}

fn environment(of: usize) -> Environment<'static> {
    let left = Arc::new(AtomicUsize::new(MOST_FILTERED / of.max(1)));
    // Empty: none of the filters and functions that there are usually, of which some make long texts of short ones.
    let mut all = Environment::empty();
    all.set_undefined_behavior(UndefinedBehavior::Strict);
    all.set_auto_escape_callback(|_| AutoEscape::None);
    all.set_keep_trailing_newline(true);
    all.set_fuel(Some(FUEL / of.max(1) as u64));
    all.add_test("defined", |it: Value| !it.is_undefined());
    all.add_test("undefined", |it: Value| it.is_undefined());
    all.add_test("none", |it: Value| it.is_none());
    all.add_filter("upper", of_texts(&left, str::to_uppercase));
    all.add_filter("lower", of_texts(&left, str::to_lowercase));
    all.add_filter("trim", of_texts(&left, |it| it.trim().to_owned()));
    all.add_filter("default", |it: Value, other: Value| {
        match it.is_undefined() {
            true => other,
            false => it,
        }
    });
    all.add_filter("length", length);
    let of_join = left.clone();
    all.add_filter("join", move |it: &Value, between: Option<String>| {
        let text = join(it, between)?;
        take(&of_join, text.len()).map(|()| text)
    });
    all.add_filter("tojson", move |it: &Value| {
        let text = to_json(it)?;
        take(&left, text.len()).map(|()| text)
    });
    all
}

fn length(of: &Value) -> Result<usize, Error> {
    let none = || Error::new(ErrorKind::InvalidOperation, "`length`: it has none");
    of.len().ok_or_else(none)
}

/// The items of a list, with something between them.
fn join(all: &Value, between: Option<String>) -> Result<String, Error> {
    if all.kind() != ValueKind::Seq {
        return Err(wrong("`join`: it is no list"));
    }
    let between = between.unwrap_or_default();
    let mut text = Bounded(Vec::new());
    for (place, item) in all.try_iter()?.enumerate() {
        let between = if place > 0 { between.as_str() } else { "" };
        let written = write!(text, "{between}{item}");
        written.map_err(|_| wrong("`join`: it makes too long a text"))?;
    }
    text.text()
}

fn to_json(of: &Value) -> Result<String, Error> {
    let mut text = Bounded(Vec::new());
    serde_json::to_writer(&mut text, of)
        .map_err(|_| wrong("`tojson`: it makes too long a text"))?;
    text.text()
}

/// Whether nothing stands in a template that could make a text grow by itself: no statement but these, no `recursive`, and
/// no operator that puts texts together. Whatever looks like the beginning of a tag is looked at, in comments and texts
/// too: rather one too many is refused.
fn plain(text: &str) -> Result<(), String> {
    for (at, _) in text.match_indices('{') {
        let Some(rest) = text.get(at..) else { continue };
        let (end, is_statement) = match rest {
            _ if rest.starts_with("{{") => ("}}", false),
            _ if rest.starts_with("{%") => ("%}", true),
            _ => continue,
        };
        let line = || text.get(..at).unwrap_or_default().matches('\n').count() + 1;
        let inner = rest.get(2..).unwrap_or_default();
        let told = |why: String| format!("line {}: {why}", line());
        tag(inner, end, is_statement).map_err(told)?;
    }
    Ok(())
}

/// Looks at one tag, from behind its beginning.
fn tag(inner: &str, end: &str, is_statement: bool) -> Result<(), String> {
    let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner);
    if is_statement {
        let word = inner.trim_start();
        let stop = word.find(|it: char| !it.is_alphanumeric() && it != '_');
        let word = stop.map_or(word, |stop| word.get(..stop).unwrap_or_default());
        if !STATEMENTS.contains(&word) {
            let all = STATEMENTS.join(", ");
            return Err(format!(
                "`{{% {word}` is none of the statements that there are: {all}"
            ));
        }
    }
    let mut quote = None;
    let mut word = String::new();
    let mut all = inner.char_indices();
    while let Some((at, it)) = all.next() {
        if let Some(open) = quote {
            match it {
                '\\' => drop(all.next()),
                _ if it == open => quote = None,
                _ => {}
            }
            continue;
        }
        let rest = inner.get(at..).unwrap_or_default();
        let close = rest.strip_prefix(['-', '+']).unwrap_or(rest);
        if close.starts_with(end) {
            return match is_statement && word == "recursive" {
                true => Err("`recursive` is not taken".to_owned()),
                false => Ok(()),
            };
        }
        if rest.starts_with("{{") || rest.starts_with("{%") {
            return Err("a tag begins within another".to_owned());
        }
        if OPERATORS.contains(&it) {
            return Err(format!(
                "`{it}` is not taken: write texts one after the other"
            ));
        }
        if word == "recursive" && !it.is_alphanumeric() && it != '_' && is_statement {
            return Err("`recursive` is not taken".to_owned());
        }
        match it {
            '"' | '\'' => quote = Some(it),
            _ if it.is_alphanumeric() || it == '_' => word.push(it),
            _ => word.clear(),
        }
    }
    Err(format!("a tag is not closed by `{end}`"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_template_says_what_its_variables_say() {
        let variables = json!({
            "name": "Ada", "tags": ["a", "b"], "deep": { "er": 7 }, "no": null, "yes": true,
        });
        for (text, made) in [
            ("Hello {{ name }}!\n", "Hello Ada!\n"),
            ("{{ deep.er }} {{- tags[1] -}} x", "7bx"),
            ("{% if yes and not no %}y{% else %}n{% endif %}", "y"),
            (
                "{% for it in tags %}{{ loop.index }}{{ it }} {% endfor %}",
                "1a 2b ",
            ),
            ("{{ tags|join(', ') }}", "a, b"),
            ("{{ tags|length - 1 }}", "1"),
            ("{{ missing|default('none') }}", "none"),
            ("{% if missing is defined %}y{% endif %}", ""),
            ("{{ name|upper|lower|trim }}", "ada"),
            ("{{ deep|tojson }}", "{\"er\":7}"),
            ("<b>{{ '<' }}", "<b><"),
            ("{# no #}a { b } c", "a { b } c"),
            ("{{ name }} and {{ '{' }}% x %}", "Ada and {% x %}"),
        ] {
            assert_eq!(render(text, &variables, 1).as_deref(), Ok(made), "{text}");
        }
        let wanted = check("{{ a }}{% for b in c.d %}{{ b }}{% endfor %}").unwrap();
        assert_eq!(wanted.into_iter().collect::<Vec<_>>(), ["a", "c"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, why) in [
            (
                "a\n{{ gone }}",
                "line 2: a value is used that is not there; not given: gone",
            ),
            (
                "{{ spared|default('no') }}{% if asked is defined %}{% endif %}\n{{ gone }} {{ un.spared }}",
                "line 2: a value is used that is not there; not given: gone, un",
            ),
            (
                "{{ tags.gone.more }}",
                "line 1: a value is used that is not there",
            ),
            ("\n\n{{ name", "line 3: a tag is not closed by `}}`"),
            ("{% if name %}", "line 1"),
            ("{{ name|shout }}", "shout"),
            ("{{ range(9) }}", "range"),
            ("{% set a = 1 %}", "`{% set` is none of the statements"),
            ("{%- macro a() %}{% endmacro %}", "`{% macro`"),
            ("{% include 'a' %}", "`{% include`"),
            ("{# {{ \" #}{% set a = 1 %}{{ \" }}", "`{% set`"),
            ("{{ '{% set a = 1 %}' }}", "`{% set`"),
            ("{% for a in '%}' recursive %}{% endfor %}", "`recursive`"),
            ("{{ name ~ name }}", "`~` is not taken"),
            ("{{ name + name }}", "`+` is not taken"),
            ("{{ 'a' * 9 }}", "`*` is not taken"),
            ("{{ 'a' ** 9 }}", "`*` is not taken"),
            ("{{ name|join('') }}", "no list"),
        ] {
            let variables = json!({ "name": "Ada", "tags": {} });
            let told = render(text, &variables, 1).unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
        }
    }

    #[test]
    fn nothing_takes_for_ever_or_grows_without_end() {
        let many = json!({ "all": vec![0; 10_000], "long": "x".repeat(1_000) });
        let each =
            "{% for a in all %}{% for b in all %}{% if a %}{% endif %}{% endfor %}{% endfor %}";
        assert!(
            render(each, &many, 1)
                .unwrap_err()
                .contains("too many steps")
        );
        let long = "{% for a in all %}{{ long }}{% endfor %}";
        assert!(
            render(long, &many, 1)
                .unwrap_err()
                .contains("more than 262144 bytes")
        );
        let joined = "{{ all|join(long) }}";
        assert!(
            render(joined, &many, 1)
                .unwrap_err()
                .contains("too long a text")
        );
        let quotes = format!("{{{{ '\"'{} }}}}", "|tojson".repeat(40));
        assert!(
            render(&quotes, &many, 1)
                .unwrap_err()
                .contains("too long a text")
        );
        let lists = format!("{{{{ [{}]|tojson }}}}", "long,".repeat(4_000));
        assert!(
            render(&lists, &many, 1)
                .unwrap_err()
                .contains("too long a text")
        );
        let looks = "{% for a in all %}{% if long|upper == '' %}{% endif %}{% endfor %}";
        assert!(
            render(looks, &many, 1)
                .unwrap_err()
                .contains("too many bytes")
        );
        let deep = format!("{{{{ {}1{} }}}}", "(".repeat(5_000), ")".repeat(5_000));
        assert!(check(&deep).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_template_or_says_why(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "{{", "}}", "{%", "%}", "{#", "#}", "if", "for", "in", " ", "a", "b.c", "'", "\"", "\\", "|join", "(",
                    ")", "else", "endif", "endfor", "é", "\n", "-", "{", "}", "recursive", "set", "=", "1",
                ]),
                0..24,
            ),
        ) {
            let text: String = parts.concat();
            let variables = json!({ "a": [1, 2], "b": { "c": "d" } });
            let (checked, made) = (check(&text), render(&text, &variables, 1));
            prop_assert!(checked.is_ok() || made.is_err(), "{}", text);
            // What is no template to begin with passes as it is.
            if !text.contains("{{") && !text.contains("{%") && !text.contains("{#") {
                prop_assert_eq!(made.as_deref(), Ok(text.as_str()));
            }
        }
    }
}
