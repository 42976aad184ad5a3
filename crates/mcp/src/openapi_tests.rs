//! Descriptions of web APIs as tools: what they become, what is refused, and the requests that calls are.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
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
                { "name": "p", "in": "query", "required": true, "style": "pipeDelimited", "schema": { "type": "array" } },
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
    has("GET /pets/{id}: without its parameter `deep`: its style is `deepObject`");
    has("POST /upload: its body is not JSON");
    has("GET /elsewhere: it is at another server");
    has("TRACE /elsewhere: its method");
    has("GET /odd: its parameter `p`: its style is `pipeDelimited`");
    has("POST /lost: `$ref` leads out of the description");
    assert_eq!(left.len(), 6, "{left:#?}");
    let get = definition(&api, "getPet");
    assert_eq!(get["description"], "One pet.");
    assert_eq!(get["annotations"], json!({ "readOnlyHint": true }));
    let properties = get["inputSchema"]["properties"].as_object().unwrap();
    let own: Vec<&str> = properties.keys().map(String::as_str).collect();
    for name in ["X-Trace", "id", "ids", "query_id", "seen", "tags", "where"] {
        assert!(own.contains(&name), "{name}: {own:?}");
    }
    assert_eq!(own.len(), 7, "{own:?}");
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

    #[test]
    fn whatever_a_description_says_is_read_or_refused(text in "\\PC{0,200}") {
        let settings = settings(&Value::String(text.clone()), &[]);
        prop_assert!(settings.check().is_err());
        prop_assert!(Description::new(text).base().is_err());
    }
}
