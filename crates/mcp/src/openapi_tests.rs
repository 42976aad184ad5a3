//! Descriptions of web APIs as tools: what they become, what is refused, and the requests that calls are.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

use crate::{Api, Definition, Description, Rules, Settings, Transport};

fn settings(description: &Value, headers: &[&str]) -> Settings {
    let header = |name: &&str| ((*name).to_owned(), crate::Value::parse("x").unwrap());
    Settings {
        name: "pets".to_owned(),
        transport: Transport::OpenApi {
            url: "https://pets.example/v1".to_owned(),
            headers: headers.iter().map(header).collect::<BTreeMap<_, _>>(),
            description: Arc::new(Description::new(description.to_string())),
        },
        rules: Rules::default(),
        resources: false,
        prompts: false,
        timeout: Settings::timeout(None),
        prices: BTreeMap::new(),
    }
}

fn api(description: &Value) -> Api {
    let settings = settings(description, &[]);
    settings.check().unwrap();
    settings.api().unwrap().unwrap().clone()
}

fn refused(description: &Value) -> String {
    settings(description, &[]).check().unwrap_err().to_string()
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "what is written down where it is used"
)]
fn of(version: &str, paths: Value, schemas: Value) -> Value {
    json!({
        "openapi": version, "info": { "title": "Pets", "version": "1.2" }, "paths": paths,
        "components": { "schemas": schemas },
    })
}

fn definition(api: &Api, name: &str) -> Value {
    let operation = api.operation(name).unwrap();
    Definition::read(&operation.definition).unwrap();
    serde_json::from_str(&operation.definition).unwrap()
}

fn asked(api: &Api, name: &str, arguments: Value) -> Result<crate::Asked, String> {
    let Value::Object(arguments) = arguments else {
        panic!("an object");
    };
    api.operation(name).unwrap().asked(&arguments)
}

fn pets() -> Value {
    let parameter = |name: &str, place: &str, kind: &str| json!({ "name": name, "in": place, "schema": { "type": kind } });
    of(
        "3.0.3",
        json!({
            "/pets/{id}": {
                "parameters": [{ "name": "id", "in": "path", "required": true, "schema": { "type": "string" } }],
                "get": {
                    "operationId": "getPet", "summary": "One pet.",
                    "parameters": [
                        { "name": "tags", "in": "query", "schema": { "type": "array", "items": { "type": "string" } } },
                        { "name": "ids", "in": "query", "explode": false, "schema": { "type": "array", "items": { "type": "integer" } } },
                        { "name": "where", "in": "query", "content": { "application/json": { "schema": { "type": "object" } } } },
                        { "name": "deep", "in": "query", "style": "deepObject", "schema": { "type": "object" } },
                        { "name": "label", "in": "query", "style": "matrix", "schema": { "type": "string" } },
                        parameter("X-Trace", "header", "string"), parameter("Authorization", "header", "string"),
                        parameter("seen", "cookie", "string"), parameter("id", "query", "integer"),
                    ],
                },
                "put": {
                    "operationId": "put/pet",
                    "requestBody": { "required": true, "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Pet" } } } },
                },
                "delete": {},
            },
            "/upload": { "post": { "operationId": "upload", "requestBody": { "required": true, "content": { "multipart/form-data": {} } } } },
            "/elsewhere": { "get": { "servers": [{ "url": "https://other.example" }] }, "trace": {} },
            "/odd": { "get": { "operationId": "odd", "parameters": [
                { "name": "p", "in": "query", "required": true, "schema": { "type": "array", "items": { "type": "object" } } },
            ] } },
            "/lost": { "post": { "operationId": "lost", "requestBody": { "$ref": "other.json#/Body" } } },
        }),
        json!({ "Pet": {
            "type": "object", "required": ["name", "id"], "additionalProperties": false,
            "properties": {
                "id": { "type": "integer", "readOnly": true }, "name": { "type": "string", "minLength": 1, "nullable": true },
                "age": { "type": "integer", "minimum": 0, "exclusiveMinimum": true, "example": 3 },
                "kind": { "oneOf": [{ "enum": ["cat"] }, { "enum": ["dog"] }] },
                "parent": { "$ref": "#/components/schemas/Pet" },
            },
        } }),
    )
}

#[test]
fn operations_become_tools_and_what_is_not_understood_is_said() {
    let api = api(&pets());
    assert_eq!((api.title.as_str(), api.version.as_str()), ("Pets", "1.2"));
    let names: Vec<&str> = api.operations.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["getPet", "put_pet", "delete_pets_id"]);
    let left: Vec<String> = api
        .left_out
        .iter()
        .map(|(what, why)| format!("{what}: {why}"))
        .collect();
    let has = |words: &str| {
        assert!(
            left.iter().any(|it| it.starts_with(words)),
            "{words}: {left:#?}"
        );
    };
    has("GET /pets/{id}: without its parameter `label`: its style is `matrix`");
    has("POST /upload: its body cannot be said: it is neither JSON nor a form");
    has("GET /elsewhere: it is at another server");
    has("TRACE /elsewhere: its method");
    has("GET /odd: its parameter `p`: its style has no place in a query for what is within");
    has("POST /lost: `$ref` leads out of the description");
    assert_eq!(left.len(), 6, "{left:#?}");
    let get = definition(&api, "getPet");
    assert_eq!(get["description"], "One pet.");
    assert_eq!(get["annotations"], json!({ "readOnlyHint": true }));
    let properties = get["inputSchema"]["properties"].as_object().unwrap();
    let own: Vec<&str> = properties.keys().map(String::as_str).collect();
    for name in [
        "X-Trace", "deep", "id", "ids", "query_id", "seen", "tags", "where",
    ] {
        assert!(own.contains(&name), "{name}: {own:?}");
    }
    assert_eq!(own.len(), 8, "{own:?}");
    assert_eq!(get["inputSchema"]["required"], json!(["id"]));
    assert_eq!(get["_meta"]["skep/operation"]["path"], "/pets/{id}");
    let put = definition(&api, "put_pet");
    assert_eq!(put["annotations"]["idempotentHint"], true);
    let pet = &put["inputSchema"]["properties"]["body"];
    assert_eq!(pet["required"], json!(["name"]));
    assert_eq!(pet["properties"]["name"]["type"], json!(["string", "null"]));
    assert_eq!(
        pet["properties"]["age"],
        json!({ "type": "integer", "exclusiveMinimum": 0 })
    );
    assert_eq!(
        pet["properties"]["kind"]["anyOf"],
        json!([{ "enum": ["cat"] }, { "enum": ["dog"] }])
    );
    assert!(pet["properties"].get("id").is_none());
    // It goes round once, and then it may be anything.
    assert!(pet["properties"]["parent"].get("properties").is_none());
    assert_eq!(
        definition(&api, "delete_pets_id")["annotations"]["destructiveHint"],
        true
    );
}

#[test]
fn a_call_is_the_request_that_the_description_says() {
    let api = api(&pets());
    let get = asked(
        &api,
        "getPet",
        json!({
            "id": "a b%2e?#&", "tags": ["x&y", "z"], "ids": [1, 2], "where": { "a": "b c" }, "X-Trace": "t", "seen": "a;b",
            "query_id": 7,
        }),
    );
    let get = get.unwrap();
    assert_eq!(get.method, "get");
    let (path, query) = get.target.split_once('?').unwrap();
    assert_eq!(path, "/pets/a%20b%252e%3F%23%26");
    assert_eq!(
        query,
        "tags=x%26y&tags=z&ids=1,2&where=%7B%22a%22%3A%22b%20c%22%7D&id=7"
    );
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        get.headers,
        [pair("X-Trace", "t"), pair("cookie", "seen=a%3Bb")]
    );
    assert_eq!(get.body, None);
    let put = asked(
        &api,
        "put_pet",
        json!({ "id": "1", "body": { "name": "Rex", "kind": "dog" } }),
    )
    .unwrap();
    let (kind, body) = put.body.unwrap();
    assert_eq!(kind, "application/json");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body, json!({ "name": "Rex", "kind": "dog" }));
}

/// Payments, as many an API of that kind describes them.
fn payments() -> Value {
    let object = json!({ "type": "object" });
    let filter =
        json!({ "name": "created", "in": "query", "style": "deepObject", "schema": object });
    let form = json!({
        "schema": { "type": "object", "required": ["amount"], "properties": {
            "amount": { "type": "integer" }, "metadata": object, "expand": { "type": "array", "items": { "type": "string" } },
        } },
        "encoding": { "metadata": { "style": "deepObject" }, "expand": { "style": "deepObject", "explode": true } },
    });
    let form = json!({ "application/x-www-form-urlencoded": form });
    let both = json!({ "application/x-www-form-urlencoded": {}, "application/json": { "schema": { "type": "object" } } });
    of(
        "3.0.3",
        json!({ "/charges": {
            "get": { "operationId": "list", "parameters": [
                filter, { "name": "by", "in": "query", "schema": object },
                { "name": "limit", "in": "query", "schema": { "type": "integer" } },
                { "name": "created[lt]", "in": "query", "schema": { "type": "integer" } },
                { "name": "tags", "in": "query", "style": "pipeDelimited", "schema": { "type": "array", "items": { "type": "string" } } },
            ] },
            "post": { "operationId": "charge", "requestBody": { "required": true, "content": form } },
            "put": { "operationId": "either", "requestBody": { "content": both } },
            "patch": { "operationId": "odd", "requestBody": { "content": {
                "application/x-www-form-urlencoded": { "encoding": { "a": { "style": "matrix" } } },
            } } },
        } }),
        json!({}),
    )
}

#[test]
fn forms_and_objects_in_queries_are_written_as_the_description_says() {
    let api = api(&payments());
    let told = &definition(&api, "charge")["_meta"]["skep/operation"];
    assert_eq!(told["body"], "application/x-www-form-urlencoded");
    assert_eq!(
        told["form"],
        json!({ "metadata": "deep", "expand": "deep" })
    );
    let body = json!({
        "amount": 5, "metadata": { "order id": "7&8" }, "expand": ["a", "b"], "when": ["x", "y"], "free": { "a": 1 }, "gone": null,
    });
    let charged = asked(&api, "charge", json!({ "body": body })).unwrap();
    let (kind, text) = charged.body.unwrap();
    assert_eq!(kind, "application/x-www-form-urlencoded");
    let mut pairs: Vec<&str> = text.split('&').collect();
    pairs.sort_unstable();
    assert_eq!(
        pairs,
        [
            "amount=5",
            "expand%5B%5D=a",
            "expand%5B%5D=b",
            "free=%7B%22a%22%3A1%7D",
            "metadata%5Border%20id%5D=7%268",
            "when=x",
            "when=y",
        ]
    );
    // JSON is taken where it may be.
    let either = asked(&api, "either", json!({ "body": { "a": [1] } })).unwrap();
    let json = ("application/json".to_owned(), "{\"a\":[1]}".to_owned());
    assert_eq!(either.body, Some(json));
    let arguments = json!({ "created": { "gte": 1, "at": { "day": 2 } }, "by": { "name": "a b" }, "limit": 3, "tags": ["x", "y"] });
    let listed = asked(&api, "list", arguments).unwrap();
    let (_, query) = listed.target.split_once('?').unwrap();
    let mut pairs: Vec<&str> = query.split('&').collect();
    pairs.sort_unstable();
    assert_eq!(
        pairs,
        [
            "created%5Bat%5D%5Bday%5D=2",
            "created%5Bgte%5D=1",
            "limit=3",
            "name=a%20b",
            "tags=x%7Cy",
        ]
    );
    let left = api
        .left_out
        .iter()
        .find(|(what, _)| what == "PATCH /charges");
    let (_, why) = left.unwrap();
    assert_eq!(
        why,
        "without its body: `a` of its body: its style is `matrix`, which is not spoken here"
    );
}

#[test]
fn no_object_says_what_another_argument_is_to_say() {
    let api = api(&payments());
    for (arguments, name) in [
        (json!({ "by": { "limit": 1_000 } }), "by"),
        (json!({ "by": { "created[gte]": 1 } }), "by"),
        (json!({ "created": { "lt": 1 } }), "created"),
    ] {
        let why = asked(&api, "list", arguments).unwrap_err();
        assert_eq!(
            why,
            format!("`{name}`: it has a field that is another argument")
        );
    }
    // What has no place is not left out in silence.
    for (tool, arguments) in [
        ("list", json!({ "by": { "a": { "b": 1 } } })),
        ("list", json!({ "tags": [{}] })),
        (
            "charge",
            json!({ "body": { "amount": 1, "metadata": [[[[[[[[[[1]]]]]]]]]] } }),
        ),
    ] {
        assert!(asked(&api, tool, arguments).is_err());
    }
}

#[test]
fn arguments_that_do_not_fit_are_refused_by_their_name() {
    let api = api(&pets());
    for (tool, arguments, why) in [
        ("getPet", json!({}), "`id` is missing"),
        (
            "getPet",
            json!({ "id": 7 }),
            "`id`: it is to be of type string",
        ),
        (
            "getPet",
            json!({ "id": "1", "x": 1 }),
            "`x`: there is no such argument",
        ),
        (
            "getPet",
            json!({ "id": "1", "ids": ["a"] }),
            "`ids[0]`: it is to be of type integer",
        ),
        (
            "getPet",
            json!({ "id": "1", "X-Trace": "a\r\nb" }),
            "`X-Trace`: a header has",
        ),
        ("put_pet", json!({ "id": "1" }), "`body` is missing"),
        (
            "put_pet",
            json!({ "id": "1", "body": {} }),
            "`body.name` is missing",
        ),
        (
            "put_pet",
            json!({ "id": "1", "body": { "name": "" } }),
            "`body.name`: it is out of its bounds",
        ),
        (
            "put_pet",
            json!({ "id": "1", "body": { "name": "a", "age": 0 } }),
            "`body.age`: it is out of its bounds",
        ),
        (
            "put_pet",
            json!({ "id": "1", "body": { "name": "a", "kind": "cow" } }),
            "`body.kind`: it fits none",
        ),
        (
            "put_pet",
            json!({ "id": "1", "body": { "name": "a", "id": 1 } }),
            "`body.id`: there is no such argument",
        ),
    ] {
        let said = asked(&api, tool, arguments).unwrap_err();
        assert!(said.starts_with(why), "{why}: {said}");
    }
}

#[test]
fn no_argument_leads_out_of_its_segment() {
    let api = api(&of(
        "3.1.0",
        json!({ "/a/{x}{y}/c": { "get": { "operationId": "two", "parameters": [
            { "name": "x", "in": "path", "required": true, "schema": {} },
            { "name": "y", "in": "path", "required": true, "schema": {} },
        ] } } }),
        json!({}),
    ));
    for (x, y) in [
        (json!(".."), json!("a")),
        (json!("."), json!("a")),
        (json!("a/../b"), json!("a")),
        (json!("a\\b"), json!("a")),
        (json!("..;x"), json!("a")),
        (json!(""), json!("a")),
        (json!("a\n"), json!("a")),
        (json!([]), json!("a")),
        (json!({ "a": 1 }), json!("a")),
        (Value::Null, json!("a")),
    ] {
        let said = asked(&api, "two", json!({ "x": x, "y": y }));
        assert!(said.is_err(), "{x} {y}: {said:?}");
    }
    assert_eq!(
        asked(&api, "two", json!({ "x": ["a", 1], "y": ".z" }))
            .unwrap()
            .target,
        "/a/a,1.z/c"
    );
}

#[test]
fn descriptions_that_are_none_are_refused_with_the_next_thing_to_do() {
    let one = || json!({ "/a": { "get": {} } });
    for (description, why) in [
        (json!({ "swagger": "2.0", "paths": {} }), "Swagger 2.0"),
        (
            json!({ "openapi": "4.0.0", "paths": {} }),
            "none of OpenAPI 3.0 and 3.1",
        ),
        (json!({ "openapi": "3.1.0" }), "no `paths`"),
        (of("3.1.0", json!({}), json!({})), "no operation"),
        (
            of("3.1.0", json!({ "/a/{b}": { "get": {} } }), json!({})),
            "GET /a/{b}: `{b}` of its path is no parameter",
        ),
        (
            of("3.1.0", json!({ "/../a": { "get": {} } }), json!({})),
            "`..`",
        ),
    ] {
        let said = refused(&description);
        assert!(said.contains(why), "{why}: {said}");
    }
    let many: Map<String, Value> = (0..600)
        .map(|it| (format!("/a{it}"), json!({ "get": {} })))
        .collect();
    assert!(refused(&of("3.1.0", many.into(), json!({}))).contains("`allow`"));
    let mut long = of("3.1.0", one(), json!({}));
    long["info"]["description"] = "x".repeat(1 << 20).into();
    assert!(refused(&long).contains("1 MiB"));
    // Names of one kind are one name.
    let twice = json!({ "/a": { "get": { "operationId": "x/y" } }, "/b": { "get": { "operationId": "x y" } } });
    let api = api(&of("3.0.0", twice, json!({})));
    assert_eq!((api.operations.len(), api.left_out.len()), (1, 1));
    // A header that the settings say is nobody else's to say.
    let own = json!({ "/a": { "get": { "operationId": "a", "parameters": [
        { "name": "x-key", "in": "header", "required": true, "schema": {} }, { "name": "s", "in": "cookie", "schema": {} },
    ] } } });
    let settings = settings(&of("3.1.0", own, json!({})), &["X-Key", "Cookie"]);
    let api = settings.api().unwrap().unwrap();
    assert_eq!(definition(api, "a")["inputSchema"]["properties"], json!({}));
    assert!(asked(api, "a", json!({ "x-key": "mine" })).is_err());
}

#[test]
fn a_base_is_the_first_server_with_its_variables() {
    let base = |servers: Value| {
        let mut all = of("3.1.0", json!({}), json!({}));
        all["servers"] = servers;
        Description::new(all.to_string()).base()
    };
    assert_eq!(
        base(json!([{ "url": "https://a.example/v1" }])).unwrap(),
        "https://a.example/v1"
    );
    let variables =
        json!([{ "url": "https://{at}.example", "variables": { "at": { "default": "eu" } } }]);
    assert_eq!(base(variables).unwrap(), "https://eu.example");
    assert!(base(json!([{ "url": "/v1" }])).is_err());
    assert!(base(json!([])).is_err());
}

#[test]
fn schemas_that_never_end_and_those_that_explode_are_bounded() {
    let circle = json!({ "A": { "$ref": "#/components/schemas/B" }, "B": { "$ref": "#/components/schemas/A" } });
    let body = |name: &str| {
        json!({ "/a": { "post": { "operationId": "a", "requestBody": { "content": { "application/json": {
            "schema": { "$ref": format!("#/components/schemas/{name}") } } } } } }, "/b": { "get": { "operationId": "b" } } })
    };
    let made = api(&of("3.1.0", body("A"), circle));
    assert!(made.operation("a").is_some());
    // Each names the next ten times: 10^12 parts.
    let mut schemas = Map::new();
    for level in 0..12 {
        let next = json!({ "$ref": format!("#/components/schemas/S{}", level + 1) });
        let fields: Map<String, Value> =
            (0..10).map(|it| (format!("f{it}"), next.clone())).collect();
        schemas.insert(format!("S{level}"), json!({ "properties": fields }));
    }
    schemas.insert("S12".to_owned(), json!({}));
    let made = api(&of("3.1.0", body("S0"), schemas.into()));
    assert!(made.operation("a").is_none() && made.operation("b").is_some());
    assert!(made.left_out[0].1.contains("parts"), "{:?}", made.left_out);
}

#[test]
fn what_skep_itself_can_is_a_description_as_all_others() {
    let settings = Settings {
        transport: Transport::Skep {
            description: Arc::new(Description::own()),
        },
        ..settings(&json!({}), &[])
    };
    settings.check().unwrap();
    let api = settings.api().unwrap().unwrap();
    assert_eq!(
        (api.operations.len(), api.left_out.as_slice()),
        (7, &[][..])
    );
    let target = |name: &str, arguments: Value| asked(api, name, arguments).map(|it| it.target);
    assert_eq!(
        target("show_secret", json!({ "secret": "keys/pets" })).unwrap(),
        "/api/v1/secrets/keys%2Fpets"
    );
    let call = |path: &str| {
        target(
            "call_agent",
            json!({ "agent": "ada", "path": path, "body": 1 }),
        )
    };
    assert_eq!(call("/a b/c").unwrap(), "/agents/ada/a%20b/c");
    assert_eq!(call("").unwrap(), "/agents/ada/");
    for path in ["a/../b", "..", "a//b", "//a", "./a", "a\\b"] {
        assert!(call(path).is_err(), "{path}");
    }
    assert!(target("show_secret", json!({ "secret": "../agents" })).is_err());
    assert!(
        target(
            "call_agent",
            json!({ "agent": "a/b", "path": "", "body": 1 })
        )
        .is_err()
    );
}

proptest! {
    #[test]
    fn whatever_is_said_stays_where_it_belongs(text in "\\PC{1,20}", list in proptest::collection::vec("\\PC{0,8}", 0..4)) {
        let api = api(&pets());
        let said = asked(&api, "getPet", json!({ "id": text, "tags": list, "seen": text }));
        if let Ok(said) = said {
            let (path, query) = said.target.split_once('?').unwrap_or((&said.target, ""));
            prop_assert_eq!(path.split('/').count(), 3);
            prop_assert!(path.starts_with("/pets/") && !path.contains("//"));
            let pairs: Vec<&str> = query.split('&').filter(|it| !it.is_empty()).collect();
            prop_assert_eq!(pairs.len(), list.len());
            prop_assert!(pairs.iter().all(|it| it.starts_with("tags=") && it.matches('=').count() == 1));
            prop_assert!(said.target.bytes().all(|it| it.is_ascii_graphic()));
            let cookies = &said.headers[0].1;
            prop_assert!(!cookies.contains(';') && cookies.matches('=').count() == 1);
        }
    }
}

/// Where all parts of a value are.
fn places(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                places(value, &format!("{at}/{name}"), all);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                places(value, &format!("{at}/{index}"), all);
            }
        }
        _ => {}
    }
}

/// Changes one part of a description: it is another value, gone, there twice, the same as another part, or deep.
fn changed(whole: &mut Value, (at, from, how): (usize, usize, u8)) {
    let mut all = Vec::new();
    places(whole, "", &mut all);
    let (at, from) = (&all[at % all.len()], &all[from % all.len()]);
    let other = match how {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1e300),
        3 => json!("\u{0}/{id}\u{1F600}"),
        4 => json!([{}, [], ""]),
        5 => json!({ "$ref": format!("#{from}") }),
        6 => json!({ "$ref": "#/%zz" }),
        7 => whole.pointer(from).cloned().unwrap(),
        8 => (0..100).fold(
            json!({}),
            |it, _| json!({ "items": it, "properties": { "a": true } }),
        ),
        9 => json!("x".repeat(5_000)),
        10 => {
            let mut twice = whole.pointer(at).cloned().unwrap();
            match &mut twice {
                Value::Array(items) => items.extend(items.clone()),
                Value::Object(fields) => {
                    let own: Vec<_> = fields.clone().into_iter().collect();
                    fields.extend(
                        own.into_iter()
                            .map(|(name, value)| (format!("{name}2"), value)),
                    );
                }
                _ => {}
            }
            twice
        }
        _ => {
            let (parent, name) = at.rsplit_once('/').unwrap_or_default();
            let name = name.replace("~1", "/").replace("~0", "~");
            match whole.pointer_mut(parent) {
                Some(Value::Object(fields)) => drop(fields.remove(&name)),
                Some(Value::Array(items)) => drop(items.remove(name.parse().unwrap())),
                _ => {}
            }
            return;
        }
    };
    *whole.pointer_mut(at).unwrap() = other;
}

#[test]
fn whatever_a_description_says_is_read_or_refused() {
    let (read, with_base) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let change = (any::<usize>(), any::<usize>(), 0_u8..12);
    let strategy = (proptest::collection::vec(change, 0..6), any::<bool>());
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let ran = TestRunner::new(config).run(&strategy, |(changes, is_new)| {
        let mut description = pets();
        description["servers"] =
            json!([{ "url": "https://{at}.example", "variables": { "at": { "default": "eu" } } }]);
        if is_new {
            description["openapi"] = json!("3.1.0");
        }
        for change in changes {
            changed(&mut description, change);
        }
        let text = description.to_string();
        if let Ok(base) = Description::new(text).base() {
            prop_assert!(base.starts_with("https://") || base.starts_with("http://"));
            with_base.set(with_base.get() + 1);
        }
        let settings = settings(&description, &[]);
        match settings.api().unwrap() {
            Err(why) => prop_assert!(!why.is_empty() && why.len() < 2_000),
            Ok(api) => {
                read.set(read.get() + 1);
                prop_assert!(
                    api.operations
                        .iter()
                        .map(|it| it.definition.len())
                        .sum::<usize>()
                        <= 4 << 20
                );
                for (index, operation) in api.operations.iter().enumerate() {
                    prop_assert!(Definition::read(&operation.definition).is_ok());
                    let is_it = |it: &crate::Operation| it.name == operation.name;
                    prop_assert_eq!(api.operations.iter().position(is_it), Some(index));
                    for arguments in [
                        json!({}),
                        json!({ "id": "1", "body": { "name": "a" } }),
                        json!({ "id": [], "tags": {} }),
                    ] {
                        if let Ok(asked) = operation.asked(arguments.as_object().unwrap()) {
                            prop_assert!(asked.target.starts_with('/') && asked.target.is_ascii());
                        }
                    }
                }
            }
        }
        Ok(())
    });
    ran.unwrap();
    // It is about descriptions that are read: else it shows nothing.
    assert!(
        read.get() > 64 && with_base.get() > 64,
        "{read:?} {with_base:?}"
    );
}

/// A description whose operations all have one body.
fn bodies(count: usize, schemas: Value) -> Value {
    let body = json!({ "content": { "application/json": { "schema": { "$ref": "#/components/schemas/All" } } } });
    let one = |it: usize| {
        let own = json!({ "operationId": format!("a{it}"), "requestBody": body });
        (format!("/a{it}"), json!({ "post": own }))
    };
    let mut paths: Map<String, Value> = (0..count).map(one).collect();
    paths.insert(
        "/hello".to_owned(),
        json!({ "get": { "operationId": "hello" } }),
    );
    of("3.1.0", paths.into(), schemas)
}

#[test]
fn what_is_named_again_and_again_counts_each_time() {
    let named = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let fields = |name: &str| -> Value {
        let all = (0..4_000).map(|it| (format!("f{it}"), named(name)));
        json!({ "properties": all.collect::<Map<_, _>>() })
    };
    let fillers: Map<String, Value> = (0..20_000)
        .map(|it| (format!("x-{it}"), json!(0)))
        .collect();
    // Values that are taken along, and words that nobody takes, are work all the same.
    for long in [
        json!({ "enum": vec![0; 200_000] }),
        json!({ "default": { "a": vec![json!({ "b": "c" }); 20_000] } }),
        json!({ "const": "x".repeat(300_000) }),
        json!({ "required": vec!["a"; 100_000] }),
        json!({ "description": "x".repeat(300_000) }),
        fillers.into(),
    ] {
        let made = api(&bodies(1, json!({ "All": fields("Long"), "Long": long })));
        assert!(made.operation("a0").is_none() && made.operation("hello").is_some());
        let (_, why) = &made.left_out[0];
        assert!(why.contains("too many parts"), "{why}");
    }
    // Long names of parameters, too.
    let long =
        json!({ "name": "x".repeat(600_000), "in": "query", "required": true, "schema": {} });
    let mut description = of(
        "3.1.0",
        json!({ "/a": { "get": { "parameters": [{ "$ref": "#/components/parameters/P" }] } }, "/b": { "get": {} } }),
        json!({}),
    );
    description["components"]["parameters"] = json!({ "P": long });
    let made = api(&description);
    assert_eq!((made.operations.len(), made.left_out.len()), (1, 1));
    let (_, why) = &made.left_out[0];
    assert!(why.len() <= 300, "{}", why.len());
}

#[test]
fn operations_that_cannot_be_tools_count_as_all_others() {
    // Each costs all that one may.
    let level = |next: &str| {
        let next = json!({ "$ref": format!("#/components/schemas/{next}") });
        let fields = (0..40).map(|it| (format!("f{it}"), next.clone()));
        json!({ "properties": fields.collect::<Map<_, _>>() })
    };
    let schemas = json!({ "All": level("B"), "B": level("C"), "C": level("D"), "D": {} });
    let few = api(&bodies(20, schemas.clone()));
    assert_eq!((few.operations.len(), few.left_out.len()), (1, 20));
    assert!(refused(&bodies(200, schemas)).contains("`allow`"));
    // And such that cost little are still too many.
    let odd: Map<String, Value> = (0..2_000)
        .map(|it| (format!("/a{it}"), json!({ "servers": [], "get": {} })))
        .chain([("/hello".to_owned(), json!({ "get": {} }))])
        .collect();
    let description = of("3.1.0", odd.into(), json!({}));
    assert!(refused(&description).contains("`allow`"));
    let mut wanted = settings(&description, &[]);
    wanted.rules.allow = vec!["get_hello".to_owned()];
    assert_eq!(wanted.api().unwrap().unwrap().operations.len(), 1);
    // Lists of parameters are looked at no further than they may be long.
    let parameter = json!({ "name": "p", "in": "query", "schema": {} });
    let list =
        json!({ "/a": { "get": { "parameters": vec![parameter; 101] } }, "/b": { "get": {} } });
    let made = api(&of("3.1.0", list, json!({})));
    assert!(
        made.left_out[0].1.contains("100 parameters"),
        "{:?}",
        made.left_out
    );
}

#[test]
fn a_large_description_of_five_hundred_operations_is_read_whole() {
    let words = "What this is for, in some more words than are needed.";
    let leaf: Map<String, Value> = (0..14)
        .map(|it| {
            (
                format!("field_{it}"),
                json!({ "type": "string", "description": words, "maxLength": 64, "example": "x" }),
            )
        })
        .collect();
    let leaf = json!({ "type": "object", "properties": leaf, "x-order": 1 });
    let all: Map<String, Value> = (0..4)
        .map(|it| {
            (
                format!("part_{it}"),
                json!({ "$ref": "#/components/schemas/Leaf" }),
            )
        })
        .collect();
    let description = bodies(499, json!({ "All": { "properties": all }, "Leaf": leaf }));
    assert!(description.to_string().len() < 1 << 20);
    let made = api(&description);
    assert_eq!((made.operations.len(), made.left_out.len()), (500, 0));
    let size: usize = made.operations.iter().map(|it| it.definition.len()).sum();
    assert!(size > 3 << 20, "{size}");
}
