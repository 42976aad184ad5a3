//! Schemas of a description as tools have them: whole, without references, in the words of JSON Schema 2020-12. Where
//! something is not taken along, a schema takes more than it did, never less.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::short;

/// How deep schemas are followed; what is deeper may be anything.
const MOST_DEPTH: usize = 24;
/// References that lead from one to the next.
const MOST_HOPS: usize = 16;
/// Bytes of a reference.
const MOST_REFERENCE: usize = 512;
/// What a part counts beside its own bytes.
const PART: usize = 8;
/// Bytes that the parts of all schemas of one operation count: of a definition that is taken no more are needed.
const MOST_OF_ONE: usize = 512 << 10;
/// Bytes that those of all operations count together, which become tools and which do not: eight times what all definitions say
/// at most.
const MOST_OF_ALL: usize = 32 << 20;

/// What is taken along as it is.
const PLAIN: [&str; 20] = [
    "title",
    "description",
    "default",
    "enum",
    "const",
    "type",
    "minimum",
    "maximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "required",
    "deprecated",
];
/// What holds one schema, or a yes or no.
const ONE: [&str; 2] = ["items", "additionalProperties"];
/// What holds schemas by name.
const NAMED: [&str; 2] = ["properties", "patternProperties"];
/// What holds a list of them.
const LISTS: [&str; 2] = ["prefixItems", "allOf"];

const CIRCLE: &str = "its references lead in a circle";

/// A description that schemas are taken from.
#[derive(Clone, Copy)]
pub(super) struct Root<'a> {
    pub(super) all: &'a Value,
    /// Of OpenAPI 3.0, whose schemas have words of their own.
    pub(super) old: bool,
}

/// Where a value refers to.
fn reference(value: &Value) -> Option<&str> {
    value.get("$ref").and_then(Value::as_str)
}

/// A pointer of a reference, without `%41`.
fn plain(pointer: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(pointer.len());
    let mut rest = pointer.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let pair = [rest.next()?, rest.next()?];
        bytes.push(u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?);
    }
    String::from_utf8(bytes).ok()
}

impl<'a> Root<'a> {
    /// What a reference leads to.
    pub(super) fn target(self, reference: &str) -> Result<&'a Value, String> {
        let why = || {
            let reference = short(reference);
            format!("`$ref` leads out of the description, or nowhere: `{reference}`")
        };
        if reference.len() > MOST_REFERENCE {
            return Err(why());
        }
        let pointer = reference.strip_prefix('#').ok_or_else(why)?;
        let pointer = plain(pointer).ok_or_else(why)?;
        self.all.pointer(&pointer).ok_or_else(why)
    }

    /// A value, or what it refers to.
    pub(super) fn resolved(self, value: &'a Value) -> Result<&'a Value, String> {
        let mut value = value;
        for _ in 0..MOST_HOPS {
            match reference(value) {
                Some(reference) => value = self.target(reference)?,
                None => return Ok(value),
            }
        }
        Err(CIRCLE.to_owned())
    }
}

/// Takes schemas along.
pub(super) struct Schemas<'a> {
    root: Root<'a>,
    /// References that are open.
    open: Vec<&'a str>,
    /// What the parts of one operation may still count.
    left: usize,
    /// What those of all that follow may.
    left_of_all: usize,
}

/// Whether a schema says more than words.
fn binds(schema: &Map<String, Value>) -> bool {
    let words = ["$ref", "title", "description", "summary", "deprecated"];
    schema.keys().any(|it| !words.contains(&it.as_str()))
}

impl<'a> Schemas<'a> {
    pub(super) const fn new(root: Root<'a>) -> Self {
        Self {
            root,
            open: Vec::new(),
            left: MOST_OF_ONE,
            left_of_all: MOST_OF_ALL,
        }
    }

    /// Another operation begins.
    pub(super) fn begin(&mut self) -> Root<'a> {
        self.open.clear();
        self.left = MOST_OF_ONE;
        self.root
    }

    /// Whether nothing is left for any operation.
    pub(super) const fn is_spent(&self) -> bool {
        self.left_of_all == 0
    }

    /// Counts a part, before it is made.
    pub(super) fn count(&mut self, bytes: usize) -> Result<(), String> {
        let size = PART.saturating_add(bytes);
        let of_all = self.left_of_all.checked_sub(size);
        self.left_of_all = of_all.unwrap_or(0);
        let left = of_all.and_then(|_| self.left.checked_sub(size));
        self.left = left.unwrap_or(0);
        left.map(drop)
            .ok_or_else(|| "its schemas have too many parts, or too long ones".to_owned())
    }

    /// A value as it is.
    fn copied(&mut self, value: &Value) -> Result<Value, String> {
        self.count(value.as_str().map_or(0, str::len))?;
        match value {
            Value::Array(all) => {
                let all: Result<Vec<Value>, String> =
                    all.iter().map(|it| self.copied(it)).collect();
                all.map(Value::Array)
            }
            Value::Object(fields) => {
                let mut out = Map::new();
                for (name, value) in fields {
                    self.count(name.len())?;
                    out.insert(name.clone(), self.copied(value)?);
                }
                Ok(Value::Object(out))
            }
            plain => Ok(plain.clone()),
        }
    }

    /// A value, or what it refers to.
    fn resolved(&mut self, mut value: &'a Value) -> Result<&'a Value, String> {
        for _ in 0..MOST_HOPS {
            let Some(reference) = reference(value) else {
                return Ok(value);
            };
            self.count(reference.len())?;
            value = self.root.target(reference)?;
        }
        Err(CIRCLE.to_owned())
    }

    /// A schema, whole.
    pub(super) fn whole(&mut self, schema: &'a Value) -> Result<Value, String> {
        self.schema(schema, 0)
    }

    fn schema(&mut self, schema: &'a Value, depth: usize) -> Result<Value, String> {
        self.count(0)?;
        let Value::Object(fields) = schema else {
            return Ok(match schema {
                Value::Bool(false) => Value::Bool(false),
                _ => json!({}),
            });
        };
        if depth > MOST_DEPTH {
            return Ok(json!({}));
        }
        let Some(reference) = reference(schema) else {
            return self.fields(fields, depth);
        };
        self.count(reference.len())?;
        let mut whole = match self.open.contains(&reference) {
            true => json!({ "description": "Another one of the same kind." }),
            false => {
                let target = self.root.target(reference)?;
                self.open.push(reference);
                let whole = self.schema(target, depth + 1);
                self.open.pop();
                whole?
            }
        };
        // What stands beside a reference counts since 3.1 alone.
        if !self.root.old {
            if let (Some(words), Some(whole)) = (fields.get("description"), whole.as_object_mut()) {
                whole.insert("description".to_owned(), self.copied(words)?);
            }
            if binds(fields) {
                let beside = self.fields(fields, depth)?;
                whole = json!({ "allOf": [whole, beside] });
            }
        }
        Ok(whole)
    }

    fn fields(&mut self, fields: &'a Map<String, Value>, depth: usize) -> Result<Value, String> {
        let mut out = Map::new();
        for (name, value) in fields {
            let name_of = name.as_str();
            self.count(0)?;
            let made = match name_of {
                _ if PLAIN.contains(&name_of) => self.copied(value)?,
                _ if ONE.contains(&name_of) => match value {
                    Value::Bool(_) => value.clone(),
                    _ => self.schema(value, depth + 1)?,
                },
                _ if NAMED.contains(&name_of) => self.named(value, depth)?,
                _ if LISTS.contains(&name_of) => self.list(value, depth)?,
                _ => continue,
            };
            out.insert(name.clone(), made);
        }
        self.choices(fields, &mut out, depth)?;
        self.limits(fields, &mut out);
        self.drop_read_only(fields, &mut out)?;
        Ok(Value::Object(out))
    }

    fn named(&mut self, value: &'a Value, depth: usize) -> Result<Value, String> {
        let mut out = Map::new();
        for (name, schema) in value.as_object().into_iter().flatten() {
            self.count(name.len())?;
            out.insert(name.clone(), self.schema(schema, depth + 1)?);
        }
        Ok(Value::Object(out))
    }

    fn list(&mut self, value: &'a Value, depth: usize) -> Result<Value, String> {
        let all = value.as_array().into_iter().flatten();
        let all: Result<Vec<Value>, String> =
            all.map(|schema| self.schema(schema, depth + 1)).collect();
        all.map(Value::Array)
    }

    /// One of several: what was made wider may fit twice, so one that fits is enough.
    fn choices(
        &mut self,
        fields: &'a Map<String, Value>,
        out: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), String> {
        let mut all = Vec::new();
        for word in ["anyOf", "oneOf"] {
            if let Some(list) = fields.get(word) {
                all.push(self.list(list, depth)?);
            }
        }
        let mut all = all.into_iter();
        if let Some(first) = all.next() {
            out.insert("anyOf".to_owned(), first);
        }
        if let Some(second) = all.next() {
            let own = out.entry("allOf").or_insert_with(|| json!([]));
            if let Some(own) = own.as_array_mut() {
                own.push(json!({ "anyOf": second }));
            }
        }
        Ok(())
    }

    /// Words of 3.0: `nullable`, and bounds that say yes or no.
    fn limits(&self, fields: &Map<String, Value>, out: &mut Map<String, Value>) {
        for (edge, own) in [
            ("exclusiveMinimum", "minimum"),
            ("exclusiveMaximum", "maximum"),
        ] {
            match fields.get(edge) {
                Some(Value::Bool(true)) => {
                    if let Some(bound) = out.remove(own) {
                        out.insert(edge.to_owned(), bound);
                    }
                }
                Some(bound @ Value::Number(_)) => {
                    out.insert(edge.to_owned(), bound.clone());
                }
                _ => {}
            }
        }
        if !self.root.old || fields.get("nullable") != Some(&Value::Bool(true)) {
            return;
        }
        if let Some(word @ Value::String(_)) = out.get("type").cloned() {
            out.insert("type".to_owned(), json!([word, "null"]));
        }
        if let Some(Value::Array(all)) = out.get_mut("enum")
            && !all.contains(&Value::Null)
        {
            all.push(Value::Null);
        }
    }

    /// What a server alone says is not sent to it.
    fn drop_read_only(
        &mut self,
        fields: &'a Map<String, Value>,
        out: &mut Map<String, Value>,
    ) -> Result<(), String> {
        let own = fields.get("properties").and_then(Value::as_object);
        let mut gone = BTreeSet::new();
        for (name, schema) in own.into_iter().flatten() {
            let schema = self.resolved(schema)?;
            if schema.get("readOnly") == Some(&Value::Bool(true)) {
                gone.insert(name.as_str());
            }
        }
        if let Some(Value::Object(all)) = out.get_mut("properties") {
            all.retain(|name, _| !gone.contains(name.as_str()));
        }
        if let Some(Value::Array(all)) = out.get_mut("required") {
            all.retain(|it| it.as_str().is_none_or(|it| !gone.contains(it)));
        }
        Ok(())
    }
}

/// Whether a value is of a type.
fn is_of(value: &Value, word: &str) -> bool {
    match word {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => {
            let whole = |it: f64| it.fract() == 0.0;
            value.is_i64() || value.is_u64() || value.as_f64().is_some_and(whole)
        }
        _ => true,
    }
}

/// The types that a schema names; none: any.
pub(super) fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(word)) => vec![word],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Looks whether a value fits a schema, as far as that can be said in a few words. `at` is where it stands.
///
/// # Errors
/// What does not fit, without the value.
pub(super) fn check(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    if *schema == Value::Bool(false) {
        return Err(format!("`{at}`: there is no such argument"));
    }
    let types = types(schema);
    if !types.is_empty() && !types.iter().any(|it| is_of(value, it)) {
        return Err(format!(
            "`{at}`: it is to be of type {}",
            types.join(" or ")
        ));
    }
    let listed = schema.get("enum").and_then(Value::as_array);
    if listed.is_some_and(|all| !all.contains(value))
        || schema.get("const").is_some_and(|it| it != value)
    {
        return Err(format!("`{at}`: it is none of the values that it may have"));
    }
    within(schema, value, at)?;
    for part in schema
        .get("allOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        check(part, value, at)?;
    }
    let any = schema.get("anyOf").and_then(Value::as_array);
    if any.is_some_and(|all| !all.iter().any(|it| check(it, value, at).is_ok())) {
        return Err(format!(
            "`{at}`: it fits none of the forms that it may have"
        ));
    }
    match value {
        Value::Object(fields) => check_fields(schema, fields, at),
        Value::Array(items) => check_items(schema, items, at),
        _ => Ok(()),
    }
}

/// Whether numbers and lengths are within bounds.
fn within(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let (size, words) = match value {
        Value::Number(number) => (number.as_f64(), ["minimum", "maximum"]),
        Value::String(text) => {
            let length = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
            (Some(f64::from(length)), ["minLength", "maxLength"])
        }
        Value::Array(items) => {
            let length = u32::try_from(items.len()).unwrap_or(u32::MAX);
            (Some(f64::from(length)), ["minItems", "maxItems"])
        }
        _ => return Ok(()),
    };
    let [least, most] = words;
    let Some(size) = size else {
        return Ok(());
    };
    let mut wrong =
        bound(least).is_some_and(|it| size < it) || bound(most).is_some_and(|it| size > it);
    if value.is_number() {
        wrong |= bound("exclusiveMinimum").is_some_and(|it| size <= it);
        wrong |= bound("exclusiveMaximum").is_some_and(|it| size >= it);
    }
    match wrong {
        true => Err(format!(
            "`{at}`: it is out of its bounds (`{least}`, `{most}`)"
        )),
        false => Ok(()),
    }
}

fn check_fields(schema: &Value, fields: &Map<String, Value>, at: &str) -> Result<(), String> {
    let place = |name: &str| match at.is_empty() {
        true => name.to_owned(),
        false => format!("{at}.{name}"),
    };
    let needed = schema.get("required").and_then(Value::as_array);
    for name in needed.into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            return Err(format!("`{}` is missing", place(name)));
        }
    }
    let own = schema.get("properties").and_then(Value::as_object);
    let patterns = schema.get("patternProperties").is_some();
    for (name, value) in fields {
        match own.and_then(|it| it.get(name)) {
            Some(schema) => check(schema, value, &place(name))?,
            None if patterns => {}
            None => match schema.get("additionalProperties") {
                Some(Value::Bool(false)) => {
                    return Err(format!("`{}`: there is no such argument", place(name)));
                }
                Some(schema) => check(schema, value, &place(name))?,
                None => {}
            },
        }
    }
    Ok(())
}

fn check_items(schema: &Value, items: &[Value], at: &str) -> Result<(), String> {
    let first = schema.get("prefixItems").and_then(Value::as_array);
    let rest = schema.get("items");
    for (index, value) in items.iter().enumerate() {
        let own = first.and_then(|it| it.get(index)).or(rest);
        if let Some(schema) = own {
            check(schema, value, &format!("{at}[{index}]"))?;
        }
    }
    Ok(())
}
