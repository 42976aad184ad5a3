//! JSON Patch, by cases of the sort that its public suite has.

use serde_json::{Value, json};

use crate::agui::{Operation, apply, weight};

fn patched(document: &Value, patch: Value) -> Option<Value> {
    let operations: Vec<Operation> = serde_json::from_value(patch).unwrap();
    let mut new = document.clone();
    match apply(&mut new, &operations, 1 << 20) {
        Ok(()) => Some(new),
        Err(_) => {
            assert_eq!(new, *document, "a patch that fails changes nothing");
            None
        }
    }
}

/// A document, a patch, and what comes of them.
const APPLIES: &str = r#"
{"constructor":{}} | [{"op":"add","path":"/prototype","value":1}] | {"constructor":{},"prototype":1}
{"a":1} | [] | {"a":1}
{"a":1} | [{"op":"add","path":"/b","value":null}] | {"a":1,"b":null}
{"a":1} | [{"op":"add","path":"/a","value":[2]}] | {"a":[2]}
{"a":1} | [{"op":"add","path":"","value":[2]}] | [2]
{"a":1} | [{"op":"add","path":"/","value":2}] | {"a":1,"":2}
[1,3] | [{"op":"add","path":"/1","value":2}] | [1,2,3]
[1] | [{"op":"add","path":"/1","value":2}] | [1,2]
[1] | [{"op":"add","path":"/-","value":[2]}] | [1,[2]]
{"l":[[1]]} | [{"op":"add","path":"/l/0/-","value":2}] | {"l":[[1,2]]}
{"0":1} | [{"op":"add","path":"/01","value":2}] | {"0":1,"01":2}
{"a/b":{"m~n":1}} | [{"op":"replace","path":"/a~1b/m~0n","value":2}] | {"a/b":{"m~n":2}}
{"~1":10} | [{"op":"test","path":"/~01","value":10}] | {"~1":10}
{"a":[1,2]} | [{"op":"remove","path":"/a/0"}] | {"a":[2]}
{"a":1} | [{"op":"remove","path":""}] | null
{"a":1} | [{"op":"replace","path":"","value":5}] | 5
{"a":null} | [{"op":"replace","path":"/a","value":1}] | {"a":1}
{"a":1} | [{"op":"move","from":"/a","path":"/b"}] | {"b":1}
{"a":1} | [{"op":"move","from":"/a","path":"/a"}] | {"a":1}
[1,2,3] | [{"op":"move","from":"/0","path":"/2"}] | [2,3,1]
{"a":{"b":1}} | [{"op":"move","from":"/a/b","path":"/a"}] | {"a":1}
{"a":1,"ab":2} | [{"op":"move","from":"/a","path":"/ab"}] | {"ab":1}
{"a":{"b":1}} | [{"op":"copy","from":"/a","path":"/a/c"}] | {"a":{"b":1,"c":{"b":1}}}
{"a":[1.0]} | [{"op":"test","path":"/a","value":[1]}] | {"a":[1.0]}
{"a":{"x":1,"y":2}} | [{"op":"test","path":"/a","value":{"y":2,"x":1}}] | {"a":{"x":1,"y":2}}
{"a":1} | [{"op":"remove","path":"/a","value":"left over"}] | {}
"#;

/// A document, and a patch that does not apply to it.
const DOES_NOT: &str = r#"
[1] | [{"op":"add","path":"/2","value":2}]
[1] | [{"op":"add","path":"/-1","value":2}]
[1,2] | [{"op":"add","path":"/01","value":2}]
[1] | [{"op":"add","path":"/x","value":2}]
{"a":1} | [{"op":"add","path":"/b/c","value":2}]
{"a":"text"} | [{"op":"add","path":"/a/0","value":2}]
{"a":1} | [{"op":"add","path":"b","value":2}]
{"a~2":1} | [{"op":"test","path":"/a~2","value":1}]
{"a":1} | [{"op":"remove","path":"/b"}]
{"a":1} | [{"op":"remove","path":"a"}]
[1] | [{"op":"remove","path":"/-"}]
[1] | [{"op":"remove","path":"/1e0"}]
{"a":1} | [{"op":"replace","path":"/b","value":1}]
[1] | [{"op":"replace","path":"/1","value":1}]
{"a":{"b":1}} | [{"op":"move","from":"/a","path":"/a/b"}]
{"a":1} | [{"op":"move","from":"/b","path":"/c"}]
{"a":1} | [{"op":"copy","from":"/b","path":"/c"}]
{"a":1} | [{"op":"test","path":"/a","value":"1"}]
{"a":null} | [{"op":"test","path":"/b","value":null}]
{"a":1} | [{"op":"replace","path":"/a","value":2},{"op":"test","path":"/a","value":1}]
{} | [{"op":"add","path":"/__proto__","value":1}]
{"a":{}} | [{"op":"add","path":"/a/__proto__/x","value":1}]
{"__proto__":1} | [{"op":"copy","from":"/__proto__","path":"/a"}]
{"constructor":{}} | [{"op":"add","path":"/constructor/prototype","value":1}]
"#;

fn cases(text: &str) -> Vec<Vec<Value>> {
    let lines = text.trim().lines();
    let case = |line: &str| -> Vec<Value> {
        let parts = line.split(" | ");
        parts.map(|it| serde_json::from_str(it).unwrap()).collect()
    };
    lines.map(case).collect()
}

#[test]
fn what_applies() {
    for case in cases(APPLIES) {
        let [document, patch, wanted] = &case[..] else {
            panic!("{case:?}");
        };
        assert_eq!(
            patched(document, patch.clone()).as_ref(),
            Some(wanted),
            "{case:?}"
        );
    }
}

#[test]
fn what_does_not_apply() {
    for case in cases(DOES_NOT) {
        assert_eq!(patched(&case[0], case[1].clone()), None, "{case:?}");
    }
}

#[test]
fn a_patch_does_no_more_than_a_moment_of_work() {
    let large = json!({"a": vec!["some text"; 20_000], "b": []});
    let again = |count| -> Value {
        let both = [
            json!({"op": "copy", "from": "/a", "path": "/c"}),
            json!({"op": "remove", "path": "/c"}),
        ];
        both.into_iter().cycle().take(count).collect()
    };
    assert_eq!(patched(&large, again(20)), Some(large.clone()));
    assert_eq!(patched(&large, again(9000)), None);
    let add = json!({"op": "add", "path": "/a/0", "value": 1});
    assert_eq!(patched(&large, vec![add; 9000].into()), None);
}

#[test]
fn a_patch_makes_nothing_too_large_or_too_deep() {
    let double = json!({"op": "copy", "from": "/a", "path": "/a/-"});
    let list = Value::Array(vec![double; 60]);
    assert_eq!(patched(&json!({"a": ["some text"]}), list), None);
    let nest = json!([{"op": "move", "from": "/a", "path": "/b"}, {"op": "add", "path": "/a", "value": {}},
        {"op": "move", "from": "/b", "path": "/a/c"}]);
    let mut document = json!({"a": {}});
    let mut times = 0;
    while let Some(new) = patched(&document, nest.clone()) {
        document = new;
        times += 1;
    }
    assert!((90..=100).contains(&times), "{times}");
    assert!(weight(&document) < 10_000);
}
