//! Lists that pass: some of their items are left out or shown under another name, and all else stays as it was.

use crate::raw::{Object, array};

/// A result whose list `key` keeps what `keep` gives back; nothing, when it has no such list.
#[must_use]
pub fn kept(
    result: &str,
    key: &str,
    mut keep: impl FnMut(&str) -> Option<String>,
) -> Option<String> {
    let fields = Object::parse(result)?;
    let items = array(fields.get(key)?.get())?;
    let items: Vec<String> = items.iter().filter_map(|it| keep(it.get())).collect();
    let list = format!("[{}]", items.join(","));
    Some(fields.with(&[(key, Some(&list))]))
}

/// A result with more in its list.
#[must_use]
pub fn extended(result: &str, key: &str, more: &[String]) -> Option<String> {
    let fields = Object::parse(result)?;
    let items = array(fields.get(key)?.get())?;
    let all = items.iter().map(|it| it.get());
    let all: Vec<&str> = all.chain(more.iter().map(String::as_str)).collect();
    let list = format!("[{}]", all.join(","));
    Some(fields.with(&[(key, Some(&list))]))
}

/// The items of a result's list.
#[must_use]
pub fn one_of<'a>(result: &'a str, key: &str) -> Option<Vec<&'a str>> {
    let fields = Object::parse(result)?;
    let items = array(fields.get(key)?.get())?;
    Some(items.iter().map(|it| it.get()).collect())
}

/// Where a list goes on.
#[must_use]
pub fn next_cursor(result: &str) -> Option<String> {
    Object::parse(result)?
        .text("nextCursor")
        .filter(|it| !it.is_empty())
}
