//! Secrets that a specification's variables name: `${secret:NAME}`, `${secret:NAME#FIELD}`, and
//! `${secret-file:NAME}` for a program that must hold the value itself.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::short;
use crate::RuntimeError;

/// Secrets that one agent may name.
const MOST: usize = 100;
/// Bytes of a name with its field.
const MOST_TEXT: usize = 400;
const OPEN: [(&str, Use); 2] = [
    ("${secret:", Use::Placeholder),
    ("${secret-file:", Use::File),
];

/// How a program uses a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Use {
    /// It sends a placeholder, which becomes the value on the way out.
    Placeholder,
    /// It reads the value from a file.
    File,
}

/// A secret that a specification names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// The field of its value that is meant, when that is a JSON object.
    pub field: Option<String>,
    /// How it is used.
    pub how: Use,
}

/// Where in a text secrets are named, in order.
fn find(text: &str) -> Result<Vec<(Range<usize>, Named)>, String> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(rest) = text.get(from..) {
        let next = OPEN.iter().filter_map(|(open, how)| {
            let at = from + rest.find(open)?;
            Some((at, at + open.len(), *how))
        });
        let Some((start, inside, how)) = next.min_by_key(|(start, ..)| *start) else {
            break;
        };
        let length = text[inside..]
            .find('}')
            .ok_or("a secret is not closed: write `}`")?;
        let named = &text[inside..inside + length];
        let (name, field) = match named.split_once('#') {
            Some((name, field)) => (name, Some(field)),
            None => (named, None),
        };
        let plain = |c: char| !c.is_control() && !c.is_whitespace() && !"${#".contains(c);
        let is_field = |field: &str| !field.is_empty() && !field.chars().any(char::is_control);
        let fits = !name.is_empty() && name.chars().all(plain) && named.len() <= MOST_TEXT;
        if !fits || !field.is_none_or(is_field) {
            let named = short(named);
            return Err(format!(
                "`{named}` names no secret; write `${{secret:name}}` or `${{secret:name#field}}`"
            ));
        }
        let end = inside + length + 1;
        let (name, field) = (name.to_owned(), field.map(str::to_owned));
        found.push((start..end, Named { name, field, how }));
        from = end;
    }
    Ok(found)
}

/// The secrets that variables name.
///
/// # Errors
/// [`RuntimeError::InvalidSpec`] with the variable that is wrong.
pub fn named(env: &BTreeMap<String, String>) -> Result<BTreeSet<Named>, RuntimeError> {
    let mut all = BTreeSet::new();
    for (variable, text) in env {
        let field = || format!("env.{}", short(variable));
        let found = find(text).map_err(|reason| RuntimeError::spec(field(), reason))?;
        all.extend(found.into_iter().map(|(_, named)| named));
        if all.len() > MOST {
            let reason = format!("names more than {MOST} secrets with those before it");
            return Err(RuntimeError::spec(field(), reason));
        }
    }
    Ok(all)
}

/// The variables that name secrets, with what stands for these.
pub(crate) fn filled(
    env: &BTreeMap<String, String>,
    given: &BTreeMap<Named, String>,
) -> BTreeMap<String, String> {
    let fill = |text: &str| {
        let found = find(text).ok().filter(|found| !found.is_empty())?;
        let (mut whole, mut from) = (String::new(), 0);
        for (at, named) in found {
            whole.push_str(text.get(from..at.start)?);
            whole.push_str(given.get(&named)?);
            from = at.end;
        }
        whole.push_str(text.get(from..)?);
        Some(whole)
    };
    let filled = env
        .iter()
        .filter_map(|(name, text)| Some((name.clone(), fill(text)?)));
    filled.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Result<BTreeSet<Named>, RuntimeError> {
        named(&BTreeMap::from([("KEY".to_owned(), text.to_owned())]))
    }

    fn one(name: &str, field: Option<&str>, how: Use) -> Named {
        Named {
            name: name.to_owned(),
            field: field.map(str::to_owned),
            how,
        }
    }

    #[test]
    fn secrets_are_named_anywhere_in_a_variable() {
        let text = "a:${secret:billing/stripe}, b:${secret:db#user} ${secret-file:cert}";
        let all = [
            one("billing/stripe", None, Use::Placeholder),
            one("cert", None, Use::File),
            one("db", Some("user"), Use::Placeholder),
        ];
        assert_eq!(of(text).unwrap(), BTreeSet::from(all.clone()));
        let given = BTreeMap::from([
            (all[0].clone(), "1".to_owned()),
            (all[1].clone(), "/x".to_owned()),
            (all[2].clone(), "3".to_owned()),
        ]);
        let env = BTreeMap::from([
            ("KEY".to_owned(), text.to_owned()),
            ("PLAIN".to_owned(), "${HOME} $".to_owned()),
        ]);
        let filled = filled(&env, &given);
        let expected = BTreeMap::from([("KEY".to_owned(), "a:1, b:3 /x".to_owned())]);
        assert_eq!(filled, expected);
    }

    #[test]
    fn what_names_no_secret_is_told() {
        for (text, part) in [
            ("${secret:a", "closed"),
            ("${secret:}", "names no secret"),
            ("${secret:a b}", "names no secret"),
            ("${secret:a#}", "names no secret"),
            ("${secret:${secret:a}}", "names no secret"),
        ] {
            let error = of(text).unwrap_err().to_string();
            assert!(error.contains("env.KEY") && error.contains(part), "{error}");
        }
        let many = |count: usize| {
            (0..count).fold(String::new(), |all, n| all + &format!("${{secret:n{n}}}"))
        };
        assert!(of(&many(MOST)).is_ok() && of(&many(MOST + 1)).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(\\$\\{secret(-file)?:|[a-z#}]|.){0,20}") {
            if let Ok(all) = of(&text) {
                let given = all.into_iter().map(|one| (one, "x".to_owned())).collect();
                let env = BTreeMap::from([("KEY".to_owned(), text)]);
                let left = filled(&env, &given).into_values().next().unwrap_or_default();
                let open = OPEN.iter().any(|(open, _)| left.contains(open));
                prop_assert!(!open);
            }
        }
    }
}
