//! JSON Patch, by cases of the sort that its public suite has.

use serde_json::{Value, json};

use crate::agui::{Operation, apply, weight};

fn patched(document: Value, patch: Value) -> Option<Value> {
    let operations: Vec<Operation> = serde_json::from_value(patch).unwrap();
    let mut new = document.clone();
    match apply(&mut new, &operations, 1 << 20) {
        Ok(()) => Some(new),
        Err(_) => {
            assert_eq!(new, document, "a patch that fails changes nothing");
            None
        }
    }
}

#[test]
fn what_applies() {
    for (document, patch, wanted) in [
        (json!({"a": 1}), json!([]), json!({"a": 1})),
        (
            json!({"a": 1}),
            json!([{"op": "add", "path": "/b", "value": null}]),
            json!({"a": 1, "b": null}),
        ),
        (
            json!({"a": 1}),
            json!([{"op": "add", "path": "/a", "value": [2]}]),
            json!({"a": [2]}),
        ),
        (
            json!({"a": 1}),
            json!([{"op": "add", "path": "", "value": [2]}]),
            json!([2]),
        ),
        (
            json!({"a": 1}),
            json!([{"op": "add", "path": "/", "value": 2}]),
            json!({"a": 1, "": 2}),
        ),
        (
            json!([1, 3]),
            json!([{"op": "add", "path": "/1", "value": 2}]),
            json!([1, 2, 3]),
        ),
        (
            json!([1]),
            json!([{"op": "add", "path": "/1", "value": 2}]),
            json!([1, 2]),
        ),
        (
            json!([1]),
            json!([{"op": "add", "path": "/-", "value": [2]}]),
            json!([1, [2]]),
        ),
        (
            json!({"l": [[1]]}),
            json!([{"op": "add", "path": "/l/0/-", "value": 2}]),
            json!({"l": [[1, 2]]}),
        ),
        (
            json!({"0": 1}),
            json!([{"op": "add", "path": "/01", "value": 2}]),
            json!({"0": 1, "01": 2}),
        ),
        (
            json!({"a/b": {"m~n": 1}}),
            json!([{"op": "replace", "path": "/a~1b/m~0n", "value": 2}]),
            json!({"a/b": {"m~n": 2}}),
        ),
        (
            json!({"~1": 10}),
            json!([{"op": "test", "path": "/~01", "value": 10}]),
            json!({"~1": 10}),
        ),
        (
            json!({"a": [1, 2]}),
            json!([{"op": "remove", "path": "/a/0"}]),
            json!({"a": [2]}),
        ),
        (
            json!({"a": 1}),
            json!([{"op": "replace", "path": "", "value": 5}]),
            json!(5),
        ),
        (
            json!({"a": null}),
            json!([{"op": "replace", "path": "/a", "value": 1}]),
            json!({"a": 1}),
        ),
        (
            json!({"a": 1}),
            json!([{"op": "move", "from": "/a", "path": "/b"}]),
            json!({"b": 1}),
        ),
        (
            json!({"a": 1}),
            json!([{"op": "move", "from": "/a", "path": "/a"}]),
            json!({"a": 1}),
        ),
        (
            json!([1, 2, 3]),
            json!([{"op": "move", "from": "/0", "path": "/2"}]),
            json!([2, 3, 1]),
        ),
        (
            json!({"a": {"b": 1}}),
            json!([{"op": "move", "from": "/a/b", "path": "/a"}]),
            json!({"a": 1}),
        ),
        (
            json!({"a": 1, "ab": 2}),
            json!([{"op": "move", "from": "/a", "path": "/ab"}]),
            json!({"ab": 1}),
        ),
        (
            json!({"a": {"b": 1}}),
            json!([{"op": "copy", "from": "/a", "path": "/a/c"}]),
            json!({"a": {"b": 1, "c": {"b": 1}}}),
        ),
        (
            json!({"a": [1.0]}),
            json!([{"op": "test", "path": "/a", "value": [1]}]),
            json!({"a": [1.0]}),
        ),
        (
            json!({"a": {"x": 1, "y": 2}}),
            json!([{"op": "test", "path": "/a", "value": {"y": 2, "x": 1}}]),
            json!({"a": {"x": 1, "y": 2}}),
        ),
        (
            json!({"a": 1}),
            json!([{"op": "remove", "path": "/a", "value": "left over"}]),
            json!({}),
        ),
    ] {
        let told = patched(document.clone(), patch.clone());
        assert_eq!(told, Some(wanted), "{document} {patch}");
    }
}

#[test]
fn what_does_not_apply() {
    for (document, patch) in [
        (json!([1]), json!([{"op": "add", "path": "/2", "value": 2}])),
        (
            json!([1]),
            json!([{"op": "add", "path": "/-1", "value": 2}]),
        ),
        (
            json!([1, 2]),
            json!([{"op": "add", "path": "/01", "value": 2}]),
        ),
        (json!([1]), json!([{"op": "add", "path": "/x", "value": 2}])),
        (
            json!({"a": 1}),
            json!([{"op": "add", "path": "/b/c", "value": 2}]),
        ),
        (
            json!({"a": "text"}),
            json!([{"op": "add", "path": "/a/0", "value": 2}]),
        ),
        (
            json!({"a": 1}),
            json!([{"op": "add", "path": "b", "value": 2}]),
        ),
        (
            json!({"a~2": 1}),
            json!([{"op": "test", "path": "/a~2", "value": 1}]),
        ),
        (json!({"a": 1}), json!([{"op": "remove", "path": "/b"}])),
        (json!({"a": 1}), json!([{"op": "remove", "path": "a"}])),
        (json!([1]), json!([{"op": "remove", "path": "/-"}])),
        (json!([1]), json!([{"op": "remove", "path": "/1e0"}])),
        (
            json!({"a": 1}),
            json!([{"op": "replace", "path": "/b", "value": 1}]),
        ),
        (
            json!([1]),
            json!([{"op": "replace", "path": "/1", "value": 1}]),
        ),
        (
            json!({"a": {"b": 1}}),
            json!([{"op": "move", "from": "/a", "path": "/a/b"}]),
        ),
        (
            json!({"a": 1}),
            json!([{"op": "move", "from": "/b", "path": "/c"}]),
        ),
        (
            json!({"a": 1}),
            json!([{"op": "copy", "from": "/b", "path": "/c"}]),
        ),
        (
            json!({"a": 1}),
            json!([{"op": "test", "path": "/a", "value": "1"}]),
        ),
        (
            json!({"a": null}),
            json!([{"op": "test", "path": "/b", "value": null}]),
        ),
        (
            json!({"a": 1}),
            json!([{"op": "replace", "path": "/a", "value": 2}, {"op": "test", "path": "/a", "value": 1}]),
        ),
    ] {
        assert_eq!(
            patched(document.clone(), patch.clone()),
            None,
            "{document} {patch}"
        );
    }
}

#[test]
fn a_patch_makes_nothing_too_large_or_too_deep() {
    let double = json!({"op": "copy", "from": "/a", "path": "/a/-"});
    let list = Value::Array(vec![double; 60]);
    assert_eq!(patched(json!({"a": ["some text"]}), list), None);
    let nest = json!([{"op": "move", "from": "/a", "path": "/b"}, {"op": "add", "path": "/a", "value": {}},
        {"op": "move", "from": "/b", "path": "/a/c"}]);
    let mut document = json!({"a": {}});
    let mut times = 0;
    while let Some(new) = patched(document.clone(), nest.clone()) {
        document = new;
        times += 1;
    }
    assert!((90..=100).contains(&times), "{times}");
    assert!(weight(&document) < 10_000);
}
