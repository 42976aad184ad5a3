//! What clients ask, in both versions and over both bindings, and what they are told of what is wrong.

use serde_json::{Value, json};

use crate::a2a::rest::{self, route};
use crate::a2a::{
    Answer, Authentication, Content, Error, Fault, Form, ListTasks, Method, PushConfig, Request,
    StreamResponse, TaskState, Version, rpc,
};

const NEWER: Option<&str> = Some("1.0");

fn read(version: Option<&str>, request: &Value) -> Result<rpc::Call, Value> {
    let bytes = request.to_string();
    rpc::read(version, bytes.as_bytes()).map_err(|it| it.answer())
}

/// A request of a method with these parameters.
fn asks(version: Option<&str>, method: &str, params: &Value) -> Result<Request, Error> {
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let read = rpc::read(version, request.to_string().as_bytes());
    read.map(|it| it.request).map_err(|it| it.error)
}

#[test]
fn versions_are_told_apart() {
    for (told, version) in [
        (None, Version::V0_3),
        (Some(""), Version::V0_3),
        (Some("0.3"), Version::V0_3),
        (Some("0.3.0"), Version::V0_3),
        (Some("1.0"), Version::V1_0),
        (Some(" 1.0.1 "), Version::V1_0),
    ] {
        assert_eq!(Version::of(told), Ok(version), "{told:?}");
    }
    for odd in [
        "1",
        "1.1",
        "2.0",
        "0.2",
        "1.0.x",
        "1.0.",
        "1.0.1.2",
        "one",
        "1.0\u{1b}",
    ] {
        let error = Version::of(Some(odd)).unwrap_err();
        assert_eq!(error.fault, Fault::VersionNotSupported, "{odd}");
    }
}

/// What is no request, the code of the error, and the id of the answer.
const REFUSED: &[(&str, i32, &str)] = &[
    ("{", -32700, "null"),
    ("", -32700, "null"),
    ("[]", -32600, "null"),
    (
        "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"GetTask\"}]",
        -32600,
        "null",
    ),
    ("1", -32600, "null"),
    ("{\"id\":1,\"method\":\"GetTask\"}", -32600, "1"),
    (
        "{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"GetTask\"}",
        -32600,
        "1",
    ),
    (
        "{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"GetTask\"}",
        -32600,
        "null",
    ),
    (
        "{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":5}",
        -32600,
        "\"a\"",
    ),
    ("{\"jsonrpc\":\"2.0\",\"id\":\"a\"}", -32600, "\"a\""),
    (
        "{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"None\"}",
        -32601,
        "1.5",
    ),
    ("{\"jsonrpc\":\"2.0\",\"method\":\"None\"}", -32601, "null"),
    (
        "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"GetTask\",\"params\":[]}",
        -32602,
        "7",
    ),
    (
        "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"GetTask\"}",
        -32602,
        "7",
    ),
    (
        "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"message/send\"}",
        -32601,
        "7",
    ),
];

#[test]
fn requests_that_are_none_are_refused() {
    for (bytes, code, id) in REFUSED {
        let refused = rpc::read(NEWER, bytes.as_bytes()).unwrap_err().answer();
        assert_eq!(refused["error"]["code"], *code, "{bytes}");
        let id: Value = serde_json::from_str(id).unwrap();
        assert_eq!(
            (&refused["id"], &refused["jsonrpc"]),
            (&id, &json!("2.0")),
            "{bytes}"
        );
    }
    let request =
        json!({ "jsonrpc": "2.0", "id": "x", "method": "GetTask", "params": { "id": "t" } });
    let refused = read(Some("9.9"), &request).unwrap_err();
    assert_eq!(refused["error"]["code"], -32009);
    assert_eq!(refused["id"], "x");
    let hint = read(None, &request).unwrap_err();
    assert_eq!(hint["error"]["code"], -32601);
    let hint = hint["error"]["message"].as_str().unwrap();
    assert!(hint.contains("A2A-Version: 1.0"), "{hint}");
    let call = read(NEWER, &request).unwrap();
    assert_eq!(
        (call.id.clone(), call.method),
        (json!("x"), Method::GetTask)
    );
    let answer = rpc::result(&call.id, &json!({}));
    assert_eq!(answer, json!({ "jsonrpc": "2.0", "id": "x", "result": {} }));
}

/// A message with these parts, in 1.0.
fn message(parts: &Value) -> Value {
    json!({ "message": { "messageId": "m", "role": "ROLE_USER", "parts": parts } })
}

/// Where a message is changed, to what, and what is said to be wrong.
const WRONG: &[[&str; 3]] = &[
    ["", "null", "message"],
    ["/message", "5", "message"],
    ["/message/messageId", "null", "message.messageId"],
    ["/message/messageId", "\"\"", "message.messageId"],
    ["/message/messageId", "\"a\\nb\"", "message.messageId"],
    ["/message/taskId", "5", "message.taskId"],
    ["/message/role", "null", "message.role"],
    ["/message/role", "\"user\"", "message.role"],
    ["/message/role", "\"ROLE_AGENT\"", "message.role"],
    ["/message/metadata", "[]", "message.metadata"],
    ["/message/extensions", "[1]", "message.extensions[0]"],
    ["/message/parts", "[]", "message.parts"],
    ["/message/parts", "null", "message.parts"],
    ["/message/parts", "{}", "message.parts"],
    [
        "/message/parts",
        "[{\"text\": \"a\"}, {}]",
        "message.parts[1]",
    ],
    [
        "/message/parts/0",
        "{\"text\": \"a\", \"url\": \"u\"}",
        "message.parts[0]",
    ],
    [
        "/message/parts/0",
        "{\"text\": \"a\", \"data\": null}",
        "message.parts[0]",
    ],
    [
        "/message/parts/0",
        "{\"kind\": \"file\", \"file\": {\"uri\": \"u\"}}",
        "message.parts[0]",
    ],
    ["/message/parts/0", "{\"text\": 5}", "message.parts[0].text"],
    [
        "/message/parts/0",
        "{\"raw\": \"!\"}",
        "message.parts[0].raw",
    ],
    [
        "/message/parts/0",
        "{\"text\": \"a\", \"mediaType\": 5}",
        "message.parts[0].mediaType",
    ],
    [
        "/configuration/historyLength",
        "-1",
        "configuration.historyLength",
    ],
    [
        "/configuration/historyLength",
        "1.5",
        "configuration.historyLength",
    ],
    [
        "/configuration/historyLength",
        "4294967296",
        "configuration.historyLength",
    ],
    [
        "/configuration/returnImmediately",
        "\"yes\"",
        "configuration.returnImmediately",
    ],
    [
        "/configuration/acceptedOutputModes",
        "\"text\"",
        "configuration.acceptedOutputModes",
    ],
    [
        "/configuration/taskPushNotificationConfig",
        "{\"url\": \"ftp://x\"}",
        "configuration.taskPushNotificationConfig.url",
    ],
    [
        "/configuration/taskPushNotificationConfig",
        "{\"url\": \"https://x\", \"authentication\": {}}",
        "configuration.taskPushNotificationConfig.authentication.scheme",
    ],
];

/// Methods, what they are given, and what is said to be wrong.
const OTHERS: &[[&str; 3]] = &[
    ["GetTask", "{}", "id"],
    [
        "GetTask",
        "{\"id\": \"t\", \"historyLength\": -5}",
        "historyLength",
    ],
    ["ListTasks", "{\"pageSize\": 0}", "pageSize"],
    ["ListTasks", "{\"pageSize\": 101}", "pageSize"],
    ["ListTasks", "{\"status\": \"working\"}", "status"],
    [
        "ListTasks",
        "{\"statusTimestampAfter\": \"yesterday\"}",
        "statusTimestampAfter",
    ],
    [
        "CreateTaskPushNotificationConfig",
        "{\"url\": \"https://x\"}",
        "taskId",
    ],
    [
        "CreateTaskPushNotificationConfig",
        "{\"taskId\": \"t\"}",
        "url",
    ],
    ["GetTaskPushNotificationConfig", "{\"taskId\": \"t\"}", "id"],
    [
        "DeleteTaskPushNotificationConfig",
        "{\"id\": \"c\"}",
        "taskId",
    ],
];

/// The field that is said to be wrong.
fn wrong(method: &str, params: &Value) -> Value {
    let error = asks(NEWER, method, params).unwrap_err();
    assert_eq!(error.fault, Fault::InvalidParams, "{params}");
    error.details()[0]["fieldViolations"][0]["field"].clone()
}

#[test]
fn what_is_wrong_is_named() {
    for [at, value, field] in WRONG {
        let mut params = message(&json!([{ "text": "Hi" }]));
        params["configuration"] = json!({});
        let (parent, name) = at.rsplit_once('/').unwrap_or_default();
        let value: Value = serde_json::from_str(value).unwrap();
        match params.pointer_mut(at) {
            Some(there) => *there = value,
            None => params.pointer_mut(parent).unwrap()[name] = value,
        }
        assert_eq!(wrong("SendMessage", &params), *field, "{params}");
    }
    let mut long = message(&json!([{ "text": "Hi" }]));
    long["message"]["contextId"] = "x".repeat(201).into();
    assert_eq!(wrong("SendMessage", &long), "message.contextId");
    for [method, params, field] in OTHERS {
        let params = serde_json::from_str(params).unwrap();
        assert_eq!(wrong(method, &params), *field, "{method} {params}");
    }
}

#[test]
fn both_versions_have_one_form() {
    let push =
        |inner: Value| json!({ "url": "https://x/y", "token": "k", "authentication": inner });
    let newer = json!({
        "message": { "messageId": "m", "contextId": "c", "taskId": "t", "role": "ROLE_USER", "metadata": { "a": 1 },
            "parts": [
                { "text": "Hi" },
                { "raw": "aGk=", "filename": "f", "mediaType": "image/png" },
                { "url": "https://x/f", "mediaType": "text/html" },
                { "data": { "b": [1] }, "metadata": { "n": 1 } },
            ] },
        "configuration": { "acceptedOutputModes": ["text/plain"], "historyLength": 3, "returnImmediately": true,
            "taskPushNotificationConfig": push(json!({ "scheme": "Bearer", "credentials": "s" })) },
        "metadata": { "x": 1 },
    });
    let older = json!({
        "message": { "kind": "message", "messageId": "m", "contextId": "c", "taskId": "t", "role": "user",
            "metadata": { "a": 1 }, "parts": [
                { "kind": "text", "text": "Hi" },
                { "kind": "file", "file": { "bytes": "aGk=", "name": "f", "mimeType": "image/png" } },
                { "kind": "file", "file": { "uri": "https://x/f", "mimeType": "text/html" } },
                { "kind": "data", "data": { "b": [1] }, "metadata": { "n": 1 } },
            ] },
        "configuration": { "acceptedOutputModes": ["text/plain"], "historyLength": 3, "blocking": false,
            "pushNotificationConfig": push(json!({ "schemes": ["Bearer"], "credentials": "s" })) },
        "metadata": { "x": 1 },
    });
    // As the buffers of 0.3 are written over HTTP.
    let buffers = json!({
        "message": { "messageId": "m", "contextId": "c", "taskId": "t", "role": "ROLE_USER", "metadata": { "a": 1 },
            "content": [
                { "text": "Hi" },
                { "file": { "fileWithBytes": "aGk", "name": "f", "mimeType": "image/png" } },
                { "file": { "fileWithUri": "https://x/f", "mimeType": "text/html" } },
                { "data": { "data": { "b": [1] } }, "metadata": { "n": 1 } },
            ] },
        "configuration": { "acceptedOutputModes": ["text/plain"], "historyLength": 3, "blocking": false,
            "pushNotification": push(json!({ "schemes": ["Bearer"], "credentials": "s" })) },
        "metadata": { "x": 1 },
    });
    let asked = asks(NEWER, "SendMessage", &newer).unwrap();
    assert_eq!(asks(None, "message/send", &older).unwrap(), asked);
    assert_eq!(asks(None, "message/send", &buffers).unwrap(), asked);
    let mut proto = buffers.clone();
    let object = proto.as_object_mut().unwrap();
    let inner = object.remove("message").unwrap();
    object.insert("request".to_owned(), inner);
    let object = proto["configuration"].as_object_mut().unwrap();
    object.remove("blocking");
    assert_eq!(asks(None, "message/send", &proto).unwrap(), asked);
    let Request::SendMessage(send) = asked else {
        panic!("{asked:?}");
    };
    assert!(send.return_immediately);
    let mut written = send.message.wire(Form::V0_3Http);
    written["content"][1]["file"]["fileWithBytes"] = "aGk".into();
    assert_eq!(written, buffers["message"]);
    assert_eq!(send.message.wire(Version::V1_0), newer["message"]);
    assert_eq!(send.message.wire(Version::V0_3), older["message"]);
}

#[test]
fn what_is_not_said_has_a_meaning() {
    // Who says nothing waits.
    let plain = message(&json!([{ "data": null }]));
    let Request::SendStreamingMessage(send) = asks(NEWER, "SendStreamingMessage", &plain).unwrap()
    else {
        panic!("it is a stream");
    };
    assert!(!send.return_immediately);
    assert_eq!(send.message.parts[0].content, Content::Data(Value::Null));
    // Snake case and numbers as texts are ProtoJSON, too.
    let snake = json!({ "message": { "message_id": "m", "role": "ROLE_USER", "parts": [{ "raw": "-_8" }] },
        "configuration": { "history_length": "3" } });
    let Request::SendMessage(send) = asks(NEWER, "SendMessage", &snake).unwrap() else {
        panic!("it is a message");
    };
    assert_eq!(send.history_length, Some(3));
    assert_eq!(
        send.message.parts[0].content,
        Content::Raw("+/8=".to_owned())
    );
}

fn config() -> PushConfig {
    PushConfig {
        task_id: Some("t".to_owned()),
        id: Some("c".to_owned()),
        url: "https://x".to_owned(),
        token: None,
        authentication: Some(Authentication {
            scheme: "Bearer".to_owned(),
            credentials: None,
        }),
        tenant: None,
    }
}

#[test]
fn configurations_for_pushing_are_read_and_written() {
    let newer = json!({ "taskId": "t", "id": "c", "url": "https://x", "authentication": { "scheme": "Bearer" } });
    let older = json!({ "taskId": "t", "pushNotificationConfig":
        { "id": "c", "url": "https://x", "authentication": { "schemes": ["Bearer"] } } });
    let asked = Request::CreatePushConfig(config());
    assert_eq!(
        asks(NEWER, "CreateTaskPushNotificationConfig", &newer),
        Ok(asked.clone())
    );
    assert_eq!(
        asks(None, "tasks/pushNotificationConfig/set", &older),
        Ok(asked)
    );
    assert_eq!(config().wire(Version::V1_0), newer);
    assert_eq!(config().wire(Version::V0_3), older);
    let all = Answer::Pushes {
        configs: vec![config()],
        next_page_token: String::new(),
    };
    assert_eq!(all.wire(Version::V0_3), json!([older]));
    assert_eq!(
        all.wire(Version::V1_0),
        json!({ "configs": [newer], "nextPageToken": "" })
    );
    let named = &all.wire(Form::http(Version::V0_3))["configs"][0];
    assert_eq!(named["name"], "tasks/t/pushNotificationConfigs/c");
    assert_eq!(
        named["pushNotificationConfig"],
        older["pushNotificationConfig"]
    );
    let get = |id: Option<&str>| Request::GetPushConfig {
        task_id: "t".to_owned(),
        id: id.map(str::to_owned),
        tenant: None,
    };
    let method = "tasks/pushNotificationConfig/get";
    assert_eq!(asks(None, method, &json!({ "id": "t" })), Ok(get(None)));
    let named = json!({ "id": "t", "pushNotificationConfigId": "c" });
    assert_eq!(asks(None, method, &named), Ok(get(Some("c"))));
    let newer = asks(
        NEWER,
        "GetTaskPushNotificationConfig",
        &json!({ "taskId": "t", "id": "c" }),
    );
    assert_eq!(newer, Ok(get(Some("c"))));
    let error = asks(
        None,
        "tasks/pushNotificationConfig/delete",
        &json!({ "id": "t" }),
    )
    .unwrap_err();
    assert!(
        error.message.contains("pushNotificationConfigId"),
        "{error}"
    );
}

type Path = (
    &'static str,
    &'static str,
    Method,
    [Option<&'static str>; 3],
);

/// Paths, what they stand for, and the tenant, the task and the configuration in them.
const PATHS: &[Path] = &[
    ("POST", "/message:send", Method::SendMessage, [None; 3]),
    (
        "POST",
        "/v1/message:stream",
        Method::SendStreamingMessage,
        [None; 3],
    ),
    (
        "POST",
        "/acme/message:send",
        Method::SendMessage,
        [Some("acme"), None, None],
    ),
    ("GET", "/tasks", Method::ListTasks, [None; 3]),
    (
        "GET",
        "/a%20c/tasks",
        Method::ListTasks,
        [Some("a c"), None, None],
    ),
    ("GET", "/tasks/t", Method::GetTask, [None, Some("t"), None]),
    (
        "GET",
        "/tasks/tasks",
        Method::GetTask,
        [None, Some("tasks"), None],
    ),
    (
        "GET",
        "/acme/tasks/t",
        Method::GetTask,
        [Some("acme"), Some("t"), None],
    ),
    (
        "POST",
        "/tasks/t:cancel",
        Method::CancelTask,
        [None, Some("t"), None],
    ),
    (
        "GET",
        "/tasks/t:subscribe",
        Method::SubscribeToTask,
        [None, Some("t"), None],
    ),
    (
        "POST",
        "/v1/tasks/t:subscribe",
        Method::SubscribeToTask,
        [None, Some("t"), None],
    ),
    (
        "POST",
        "/tasks/a%2Fb/pushNotificationConfigs",
        Method::CreateTaskPushNotificationConfig,
        [None, Some("a/b"), None],
    ),
    (
        "GET",
        "/tasks/t/pushNotificationConfigs",
        Method::ListTaskPushNotificationConfigs,
        [None, Some("t"), None],
    ),
    (
        "DELETE",
        "/acme/tasks/t/pushNotificationConfigs/c",
        Method::DeleteTaskPushNotificationConfig,
        [Some("acme"), Some("t"), Some("c")],
    ),
    (
        "GET",
        "/v1/tasks/t/pushNotificationConfigs/c",
        Method::GetTaskPushNotificationConfig,
        [None, Some("t"), Some("c")],
    ),
    (
        "GET",
        "/extendedAgentCard",
        Method::GetExtendedAgentCard,
        [None; 3],
    ),
    ("GET", "/v1/card", Method::GetExtendedAgentCard, [None; 3]),
];

#[test]
fn paths_are_operations() {
    for (verb, path, method, ids) in PATHS {
        let route = route(verb, path).unwrap_or_else(|| panic!("{verb} {path}"));
        assert_eq!(route.method, *method, "{path}");
        let told = [route.tenant, route.task, route.config];
        assert_eq!(told, ids.map(|it| it.map(str::to_owned)), "{path}");
        assert_eq!(route.is_older, path.starts_with("/v1"));
    }
    for (verb, path) in [
        ("GET", "/message:send"),
        ("POST", "/tasks/t"),
        ("DELETE", "/tasks/t"),
        ("GET", "/"),
        ("GET", ""),
        ("GET", "/tasks/"),
        ("POST", "/tasks/:cancel"),
        ("GET", "/tasks/t/other"),
        ("GET", "/tasks/%ff"),
        ("GET", "/tasks/t/pushNotificationConfigs/c/d"),
        ("GET", "/card"),
        ("GET", "/v1/extendedAgentCard"),
        ("GET", "/a/b/tasks"),
        ("POST", "//message:send"),
    ] {
        assert_eq!(route(verb, path), None, "{verb} {path}");
    }
}

#[test]
fn requests_over_http_are_the_same() {
    let read = |version, (verb, path), query, body: &str| {
        let route = route(verb, path).unwrap();
        rest::read(version, &route, (query, body.as_bytes()))
    };
    let list = |query| {
        let (_, request) = read(NEWER, ("GET", "/acme/tasks"), query, "")?;
        match request {
            Request::ListTasks(list) => Ok::<_, Error>(list),
            other => panic!("{other:?}"),
        }
    };
    let wanted = ListTasks {
        context_id: Some("a b".to_owned()),
        status: Some(TaskState::Working),
        page_size: 7,
        page_token: Some("x=".to_owned()),
        history_length: Some(0),
        status_timestamp_after: Some(1_000_000),
        include_artifacts: true,
        tenant: Some("acme".to_owned()),
    };
    let query = "contextId=a+b&status=TASK_STATE_WORKING&pageSize=7&pageToken=x%3D&historyLength=0\
        &statusTimestampAfter=1970-01-01T00:00:01Z&includeArtifacts=true";
    assert_eq!(list(query), Ok(wanted));
    let plain = list("").unwrap();
    assert_eq!((plain.page_size, plain.include_artifacts), (50, false));
    for odd in [
        "pageSize=x",
        "includeArtifacts=1",
        "contextId=%f",
        "tenant=other",
    ] {
        assert_eq!(list(odd).unwrap_err().fault, Fault::InvalidParams, "{odd}");
    }
    let get = |version, query| read(version, ("GET", "/tasks/t"), query, "").map(|(it, _)| it);
    assert_eq!(get(None, ""), Ok(Version::V0_3));
    assert_eq!(get(None, "A2A-Version=1.0"), Ok(Version::V1_0));
    assert_eq!(get(Some("0.3"), "A2A-Version=1.0"), Ok(Version::V0_3));
    assert_eq!(
        get(Some("7.0"), "").unwrap_err().fault,
        Fault::VersionNotSupported
    );
    let older = read(NEWER, ("GET", "/v1/tasks/t"), "", "").unwrap_err();
    assert_eq!(older.fault, Fault::MethodNotFound);
    let cancel = |body| read(NEWER, ("POST", "/tasks/t:cancel"), "", body).map(|(_, it)| it);
    assert_eq!(cancel("").unwrap().task_id(), Some("t"));
    assert_eq!(cancel("{\"id\":\"t\"}").unwrap().task_id(), Some("t"));
    assert_eq!(
        cancel("{\"id\":\"u\"}").unwrap_err().fault,
        Fault::InvalidParams
    );
    assert_eq!(cancel("{").unwrap_err().fault, Fault::Parse);
    assert_eq!(cancel("[]").unwrap_err().fault, Fault::InvalidParams);
    let push = ("POST", "/v1/tasks/t/pushNotificationConfigs");
    let body = json!({ "configId": "c", "config": { "pushNotificationConfig":
        { "id": "c", "url": "https://x", "authentication": { "schemes": ["Bearer"] } } } });
    let (_, request) = read(None, push, "", &body.to_string()).unwrap();
    assert_eq!(request, Request::CreatePushConfig(config()));
    let one = ("GET", "/tasks/t/pushNotificationConfigs/c");
    for version in [None, NEWER] {
        let (_, request) = read(version, one, "", "").unwrap();
        assert!(matches!(request, Request::GetPushConfig { task_id, id, .. }
            if task_id == "t" && id.as_deref() == Some("c")));
    }
}

#[test]
fn errors_have_the_form_of_each_binding() {
    let error = Error::task_not_found("t");
    let info = json!({ "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "TASK_NOT_FOUND",
        "domain": "a2a-protocol.org", "metadata": { "taskId": "t" } });
    let rpc = json!({ "code": -32001, "message": "Task not found", "data": [info] });
    assert_eq!(error.rpc(), rpc);
    let rest = json!({ "error": { "code": 404, "status": "NOT_FOUND", "message": "Task not found", "details": [info] } });
    assert_eq!(error.rest(Version::V1_0), rest);
    let older = error.rest(Version::V0_3);
    assert_eq!(older["error"], rest["error"]);
    assert_eq!(
        (&older["code"], &older["message"], &older["type"]),
        (
            &json!(-32001),
            &json!("Task not found"),
            &json!("TaskNotFoundError")
        )
    );
    for (fault, name) in [
        (Fault::Parse, "JSONParseError"),
        (Fault::Internal, "InternalError"),
        (Fault::InvalidParams, "InvalidParamsError"),
        (
            Fault::PushNotificationNotSupported,
            "PushNotificationNotSupportedError",
        ),
    ] {
        assert_eq!(Error::new(fault, "x").rest(Version::V0_3)["type"], name);
    }
    let codes: Vec<i32> = Fault::ALL[..9].iter().map(|it| it.code()).collect();
    assert_eq!(codes, (-32009..=-32001).rev().collect::<Vec<i32>>());
    let invalid = Error::invalid("message.parts", "at least one part is needed");
    assert_eq!(invalid.rest(Version::V1_0)["error"]["code"], 400);
    assert_eq!(invalid.rpc()["code"], -32602);
    let ours = Error::other(429, "too-many-requests", "Slow down.");
    assert_eq!((ours.fault.status(), ours.fault.code()), (429, -32000));
    assert_eq!(
        ours.rest(Version::V1_0)["error"]["status"],
        "RESOURCE_EXHAUSTED"
    );
    assert_eq!(ours.details()[0]["reason"], "TOO_MANY_REQUESTS");
    assert_eq!(ours.details()[0]["domain"], "skep");
    for fault in Fault::ALL {
        assert!((400..600).contains(&fault.status()), "{fault:?}");
        assert!(
            fault.code() < -32000 && !fault.grpc().is_empty(),
            "{fault:?}"
        );
    }
}

#[test]
fn pages_say_what_they_have() {
    let asked = message(&json!([{ "text": "Hi" }]));
    let Request::SendMessage(send) = asks(NEWER, "SendMessage", &asked).unwrap() else {
        panic!("it is a message");
    };
    let task = crate::a2a::Task::submitted("t", "c", send.message, 1_234_567);
    let page = |artifacts| Answer::Tasks {
        tasks: vec![task.clone()],
        next_page_token: String::new(),
        page_size: 50,
        total_size: 1,
        artifacts,
    };
    let told = page(true).wire(Version::V1_0);
    assert_eq!(told["tasks"][0]["artifacts"], json!([]));
    assert_eq!(
        told["tasks"][0]["status"]["timestamp"],
        "1970-01-01T00:00:01.234Z"
    );
    assert_eq!(
        (&told["nextPageToken"], &told["totalSize"]),
        (&json!(""), &json!(1))
    );
    let told = page(false).wire(Version::V1_0);
    assert_eq!(told["tasks"][0].get("artifacts"), None);
    assert_eq!(Answer::Deleted.wire(Version::V1_0), json!({}));
    let mut cancelled = task.clone();
    cancelled.status.state = TaskState::Canceled;
    let told = Answer::Event(StreamResponse::Task(cancelled)).wire(Form::http(Version::V0_3));
    assert_eq!(told["task"]["status"]["state"], "TASK_STATE_CANCELLED");
    assert_eq!(
        TaskState::of(Version::V0_3, "TASK_STATE_CANCELLED"),
        Some(TaskState::Canceled)
    );
    assert_eq!(Answer::Task(task).wire(Version::V0_3)["kind"], "task");
}
