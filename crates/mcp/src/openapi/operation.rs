//! An operation of a description as a tool: what it is defined as, and the request that a call of it is.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::form::{Form, Pairs, plain};
use super::parameter::{Parameter, Place, Read};
use super::schema::{Root, Schemas, check};
use super::{short, word};

/// Parameters of one operation.
const MOST_PARAMETERS: usize = 100;
/// Characters of what is said of an operation, each of summary and description.
const MOST_WORDS: usize = 8_000;
/// The argument that is the body.
const BODY: &str = "body";

/// A part of a path.
#[derive(Debug, Clone)]
enum Piece {
    Plain(String),
    /// The argument that stands there.
    Argument(usize),
}

/// An operation.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Its name as a tool.
    pub name: String,
    /// The definition of the tool, as JSON.
    pub definition: String,
    method: &'static str,
    path: Vec<Piece>,
    parameters: Vec<Parameter>,
    /// Its body: the media type, and how it is written.
    body: Option<(String, Written)>,
}

/// How a body is written.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Written {
    Json,
    /// As a form: fields by these styles, and else each by itself, with what has parts as JSON.
    Form(BTreeMap<String, Form>),
}

/// The request that a call is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its method.
    pub method: &'static str,
    /// Its path and query, behind the base of the API.
    pub target: String,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its body, with its media type.
    pub body: Option<(String, String)>,
}

/// Where an operation stands.
pub(super) struct At<'a> {
    pub(super) method: &'static str,
    pub(super) path: &'a str,
    /// The path's own.
    pub(super) item: &'a Value,
    pub(super) own: &'a Value,
}

/// What was made of an operation: the tool, and what it does without.
pub(super) type Made = (Operation, Vec<String>);

/// The name of an operation as a tool.
pub(super) fn name(at: &At<'_>) -> String {
    let own = at.own.get("operationId").and_then(Value::as_str);
    match own.filter(|it| !it.trim().is_empty()) {
        Some(own) => word(own.trim()),
        None => {
            let parts = at.path.split(|c: char| !c.is_ascii_alphanumeric());
            let parts: Vec<&str> = parts.filter(|it| !it.is_empty()).collect();
            word(format!("{}_{}", at.method, parts.join("_")).trim_end_matches('_'))
        }
    }
}

/// The parameters of an operation: those of its path, and its own in their place.
fn parameters<'a>(root: Root<'a>, at: &At<'a>) -> Result<Vec<&'a Value>, String> {
    let mut all: Vec<((&str, &str), &Value)> = Vec::new();
    for list in [at.item, at.own] {
        let list = list.get("parameters").and_then(Value::as_array);
        if list.is_some_and(|it| it.len() > MOST_PARAMETERS) {
            return Err(format!("it has more than {MOST_PARAMETERS} parameters"));
        }
        for parameter in list.into_iter().flatten() {
            let parameter = root.resolved(parameter)?;
            let text = |field: &str| {
                let found = parameter.get(field).and_then(Value::as_str);
                found.unwrap_or_default()
            };
            let key = (text("in"), text("name"));
            all.retain(|(its, _)| *its != key);
            all.push((key, parameter));
        }
    }
    match all.len() > MOST_PARAMETERS {
        true => Err(format!("it has more than {MOST_PARAMETERS} parameters")),
        false => Ok(all.into_iter().map(|(_, it)| it).collect()),
    }
}

/// A body that can be said.
#[derive(Clone)]
struct Body<'a> {
    media: &'a str,
    written: Written,
    schema: Option<&'a Value>,
    required: bool,
}

/// Whether a media type is one that is spoken here, and how a body of it is written.
fn written(kind: &str, media: &Value) -> Result<Option<Written>, String> {
    let plain = kind.split(';').next().unwrap_or_default().trim();
    let plain = plain.to_ascii_lowercase();
    match plain.as_str() {
        _ if !kind.bytes().all(|it| matches!(it, 0x20..=0x7e)) => Ok(None),
        "application/x-www-form-urlencoded" => styles(media).map(Written::Form).map(Some),
        json if json == "application/json" || json.ends_with("+json") => Ok(Some(Written::Json)),
        _ => Ok(None),
    }
}

/// The styles that a form names for its fields.
fn styles(media: &Value) -> Result<BTreeMap<String, Form>, String> {
    let all = media.get("encoding").and_then(Value::as_object);
    let mut styles = BTreeMap::new();
    for (name, own) in all.into_iter().flatten() {
        let style = own.get("style").and_then(Value::as_str);
        let explode = own.get("explode").and_then(Value::as_bool);
        // Without either, what its content is decides.
        if style.is_some() || explode.is_some() {
            let form = Form::named(style.unwrap_or("form"), explode);
            let form = form.map_err(|why| format!("`{}` of its body: {why}", short(name)))?;
            styles.insert(name.clone(), form);
        }
    }
    Ok(styles)
}

/// The body of an operation, in JSON where it can be; none, when it has none or does without.
fn body<'a>(
    root: Root<'a>,
    at: &At<'a>,
    left: &mut Vec<String>,
) -> Result<Option<Body<'a>>, String> {
    let Some(own) = at.own.get("requestBody") else {
        return Ok(None);
    };
    if matches!(at.method, "get" | "head") {
        left.push("without its body: GET and HEAD have none".to_owned());
        return Ok(None);
    }
    let own = root.resolved(own)?;
    let required = own.get("required") == Some(&Value::Bool(true));
    let (mut found, mut why) = (None, "it is neither JSON nor a form".to_owned());
    for (kind, media) in own
        .get("content")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        match written(kind, media) {
            Ok(Some(written)) if found.is_none() || written == Written::Json => {
                let is_json = written == Written::Json;
                found = Some(Body {
                    media: kind,
                    written,
                    schema: media.get("schema"),
                    required,
                });
                if is_json {
                    break;
                }
            }
            Ok(_) => {}
            Err(its) => why = its,
        }
    }
    match found {
        Some(found) => Ok(Some(found)),
        None if required => Err(format!("its body cannot be said: {why}")),
        None => {
            left.push(format!("without its body: {why}"));
            Ok(None)
        }
    }
}

/// A body as a form: its fields in their order, each in its style.
fn form(value: &Value, styles: &BTreeMap<String, Form>) -> Result<String, String> {
    let Value::Object(fields) = value else {
        return Err(format!("`{BODY}`: a form is an object"));
    };
    let has_parts = |it: &Value| match it {
        Value::Object(_) => true,
        Value::Array(all) => all.iter().any(|it| plain(it).is_none()),
        _ => false,
    };
    let mut all = Vec::new();
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let form = match styles.get(name) {
            Some(form) => *form,
            None if has_parts(value) => Form::Json,
            None => Form::Each,
        };
        let pairs = form.pairs(name, value);
        let odd = || format!("`{BODY}.{name}`: its style has no place for what is within");
        all.extend(pairs.ok_or_else(odd)?);
    }
    Ok(line(&all, "&"))
}

/// Pairs as they are sent.
fn line(pairs: &[(String, String)], between: &str) -> String {
    let all = pairs.iter().map(|(name, value)| format!("{name}={value}"));
    all.collect::<Vec<_>>().join(between)
}

/// A path in its pieces.
fn pieces(path: &str, parameters: &[Parameter]) -> Result<Vec<Piece>, String> {
    let mut all = Vec::new();
    let mut rest = path;
    let plain = |text: &str| {
        let is_plain = |it: u8| it.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&it);
        match text.bytes().all(is_plain) {
            true => Ok(Piece::Plain(text.to_owned())),
            false => Err("its path has characters that no path has".to_owned()),
        }
    };
    while let Some((before, after)) = rest.split_once('{') {
        all.push(plain(before)?);
        let closed = after.split_once('}');
        let (name, after) = closed.ok_or_else(|| "its path has a `{` without a `}`".to_owned())?;
        let is_it = |it: &Parameter| it.place == Place::Path && it.name == name;
        let index = parameters.iter().position(is_it);
        let index = index.ok_or_else(|| format!("`{{{name}}}` of its path is no parameter"))?;
        all.push(Piece::Argument(index));
        rest = after;
    }
    all.push(plain(rest)?);
    let used = |index: usize| {
        let is_it = |it: &Piece| matches!(it, Piece::Argument(its) if *its == index);
        all.iter().any(is_it)
    };
    let mut unused = parameters.iter().enumerate();
    let unused = unused.find(|(index, it)| it.place == Place::Path && !used(*index));
    if let Some((_, parameter)) = unused {
        return Err(format!("its path has no `{{{}}}`", parameter.name));
    }
    let is_dots = |it: &str| matches!(it, "." | "..");
    match path.starts_with('/') && !path.split('/').any(is_dots) {
        true => Ok(all),
        false => Err("its path does not begin with `/`, or has `.` or `..`".to_owned()),
    }
}

/// What an operation says of itself.
fn words(own: &Value) -> String {
    let text = |field: &str| {
        let text = own.get(field).and_then(Value::as_str).unwrap_or_default();
        text.trim().chars().take(MOST_WORDS).collect::<String>()
    };
    let (summary, description) = (text("summary"), text("description"));
    match (summary.is_empty(), description.is_empty()) {
        (false, false) if !description.starts_with(&summary) => {
            format!("{summary}\n\n{description}")
        }
        (false, true) => summary,
        _ => description,
    }
}

/// What a method proposes that it does.
fn annotations(method: &str) -> Value {
    match method {
        "get" | "head" => json!({ "readOnlyHint": true }),
        "delete" | "put" => {
            json!({ "readOnlyHint": false, "destructiveHint": true, "idempotentHint": true })
        }
        _ => json!({ "readOnlyHint": false, "destructiveHint": true }),
    }
}

/// Gives each parameter an argument of its own: of two that have one name the later is called after its place, too.
fn named(all: &mut [Parameter], has_body: bool) -> Result<(), String> {
    all.sort_by_key(|it| it.place);
    let mut taken = BTreeSet::new();
    taken.extend(has_body.then(|| BODY.to_owned()));
    for parameter in all {
        if taken.insert(parameter.argument.clone()) {
            continue;
        }
        let argument = format!("{}_{}", parameter.place.as_str(), parameter.argument);
        parameter.argument = word(&argument);
        if !taken.insert(parameter.argument.clone()) {
            let name = &parameter.name;
            return Err(format!(
                "its parameter `{name}` has a name that another one has"
            ));
        }
    }
    Ok(())
}

impl Operation {
    /// Makes a tool of an operation; or says why it is none.
    pub(super) fn read<'a>(
        schemas: &mut Schemas<'a>,
        at: &At<'a>,
        said: &BTreeSet<String>,
    ) -> Result<Made, String> {
        let root = schemas.begin();
        if at.own.get("servers").or(at.item.get("servers")).is_some() {
            return Err("it is at another server than the rest".to_owned());
        }
        let (mut all, mut left) = (Vec::new(), Vec::new());
        for parameter in parameters(root, at)? {
            match Parameter::read(parameter, schemas, said)? {
                Read::Taken(parameter) => all.push(parameter),
                Read::Unsaid => {}
                Read::Left(why) => left.push(why),
            }
        }
        let body = body(root, at, &mut left)?;
        let body_schema = match body.as_ref().and_then(|it| it.schema) {
            Some(schema) => schemas.whole(schema)?,
            None => json!({}),
        };
        named(&mut all, body.is_some())?;
        let path = pieces(at.path, &all)?;
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for parameter in &mut all {
            let schema = std::mem::take(&mut parameter.schema);
            properties.insert(parameter.argument.clone(), schema);
            required.extend(parameter.required.then(|| parameter.argument.clone()));
        }
        if let Some(body) = &body {
            properties.insert(BODY.to_owned(), body_schema);
            required.extend(body.required.then(|| BODY.to_owned()));
        }
        let input = json!({
            "type": "object", "properties": properties, "required": required, "additionalProperties": false,
        });
        let told: BTreeMap<&str, Value> = all
            .iter()
            .map(|it| (it.argument.as_str(), it.told()))
            .collect();
        let name = name(at);
        let method = at.method.to_ascii_uppercase();
        let media = body.as_ref().map(|it| it.media);
        let mut definition = json!({
            "name": name, "description": words(at.own), "inputSchema": input, "annotations": annotations(at.method),
            // What a call becomes is part of what somebody says yes to.
            "_meta": { "skep/operation": { "method": method, "path": at.path, "arguments": told, "body": media } },
        });
        if let Some(Written::Form(styles)) = body.as_ref().map(|it| &it.written) {
            let told = styles
                .iter()
                .map(|(name, form)| (name.clone(), form.as_str().into()));
            definition["_meta"]["skep/operation"]["form"] = Value::Object(told.collect());
        }
        let operation = Self {
            name,
            definition: definition.to_string(),
            method: at.method,
            path,
            parameters: all,
            body: body.map(|it| (it.media.to_owned(), it.written)),
        };
        Ok((operation, left))
    }

    /// The request that a call with these arguments is.
    ///
    /// # Errors
    /// What of the arguments does not fit, in words for who said them.
    pub fn asked(&self, arguments: &Map<String, Value>) -> Result<Asked, String> {
        // It is read again for each call: definitions are many, and schemas that were read are many times as large.
        let definition: Value = serde_json::from_str(&self.definition).unwrap_or_default();
        let input = definition.get("inputSchema").ok_or("it has no schema")?;
        check(input, &Value::Object(arguments.clone()), "")?;
        let given = |it: &Parameter| arguments.get(&it.argument);
        let mut target = String::new();
        for piece in &self.path {
            match piece {
                Piece::Plain(text) => target.push_str(text),
                Piece::Argument(index) => {
                    let parameter = self.parameters.get(*index);
                    let value = parameter.and_then(|it| Some((it, given(it)?)));
                    let (parameter, value) = value.ok_or("an argument of the path is missing")?;
                    target.push_str(&parameter.in_path(value)?);
                }
            }
        }
        // Several arguments may stand in one segment.
        if target.split('/').any(|it| matches!(it, "." | "..")) {
            return Err("the arguments make a `.` or `..` in the path".to_owned());
        }
        let (mut cookies, mut headers) = (Vec::new(), Vec::new());
        for parameter in &self.parameters {
            let Some(value) = given(parameter) else {
                continue;
            };
            match parameter.place {
                Place::Path | Place::Query => {}
                Place::Cookie => cookies.extend(parameter.pairs(value)?),
                Place::Header => {
                    let value = parameter.in_header(value)?;
                    headers.extend(value.map(|it| (parameter.name.clone(), it)));
                }
            }
        }
        let query = self.query(arguments)?;
        if !query.is_empty() {
            target.push('?');
            target.push_str(&line(&query, "&"));
        }
        if !cookies.is_empty() {
            headers.push(("cookie".to_owned(), line(&cookies, "; ")));
        }
        let body = match arguments.get(BODY).zip(self.body.as_ref()) {
            None => None,
            Some((value, (kind, Written::Json))) => Some((kind.clone(), value.to_string())),
            Some((value, (kind, Written::Form(styles)))) => {
                Some((kind.clone(), form(value, styles)?))
            }
        };
        Ok(Asked {
            method: self.method,
            target,
            headers,
            body,
        })
    }

    /// The pairs of the query. No object of free fields says what another argument is to say.
    fn query(&self, arguments: &Map<String, Value>) -> Result<Pairs, String> {
        let mut all = Pairs::new();
        let queries = || self.parameters.iter().filter(|it| it.place == Place::Query);
        for parameter in queries() {
            let Some(value) = arguments.get(&parameter.argument) else {
                continue;
            };
            let pairs = parameter.pairs(value)?;
            let others = || queries().filter(|it| it.argument != parameter.argument);
            let taken = |name: &String| others().any(|it| it.names(name));
            if parameter.names_pairs(value) && pairs.iter().any(|(name, _)| taken(name)) {
                let argument = &parameter.argument;
                return Err(format!(
                    "`{argument}`: it has a field that is another argument"
                ));
            }
            all.extend(pairs);
        }
        Ok(all)
    }
}
