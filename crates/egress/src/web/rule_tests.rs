//! Which rule counts depends on the rules and the request, and on nothing else.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;

fn rule(name: &str, to: &str, methods: &[&str], paths: &[&str]) -> Arc<Rule> {
    let texts = |all: &[&str]| all.iter().map(|it| (*it).to_owned()).collect();
    let rule = Rule {
        name: name.to_owned(),
        to: to.parse().unwrap(),
        methods: texts(methods),
        paths: texts(paths),
        credential: None,
        open: false,
        record_days: 0,
    };
    rule.check().unwrap();
    Arc::new(rule)
}

fn found<'a>(rules: &'a [Arc<Rule>], url: &str, method: &str) -> Option<&'a str> {
    let uri: http::Uri = url.parse().unwrap();
    let scheme = match uri.scheme_str().unwrap() {
        "http" => Scheme::Http,
        _ => Scheme::Https,
    };
    let host = plain_host(uri.host().unwrap()).unwrap();
    let at = (
        scheme,
        host.as_str(),
        uri.port_u16().unwrap_or(scheme.port()),
    );
    let path = seen_path(uri.path()).ok()?;
    find(rules, at, (method, &path)).map(|it| it.name.as_str())
}

#[test]
fn the_closest_rule_counts() {
    let rules = [
        rule("any", "*", &["GET"], &[]),
        rule("below", "*.example.com", &[], &[]),
        rule("deep", "*.eu.example.com", &[], &[]),
        rule("one", "api.example.com", &[], &["/v1/**"]),
        rule("items", "api.example.com", &["GET"], &["/v1/items/*"]),
        rule("open", "http://api.example.com:8080", &[], &[]),
    ];
    for (url, method, expected) in [
        ("https://elsewhere.org/", "GET", Some("any")),
        ("https://elsewhere.org/", "POST", None),
        ("https://elsewhere.org:444/", "GET", None),
        ("http://elsewhere.org/", "GET", None),
        ("https://www.example.com/", "POST", Some("below")),
        ("https://example.com/", "POST", None),
        ("https://badexample.com/", "POST", None),
        ("https://a.eu.example.com/", "POST", Some("deep")),
        ("https://API.example.COM./v1/x", "POST", Some("one")),
        ("https://api.example.com/v1", "POST", Some("one")),
        ("https://api.example.com/v1/items/7", "GET", Some("items")),
        ("https://api.example.com/v1/items/7", "DELETE", Some("one")),
        ("https://api.example.com/v1/items/7/x", "GET", Some("one")),
        ("https://api.example.com/v2", "GET", Some("below")),
        ("http://api.example.com:8080/x", "GET", Some("open")),
    ] {
        assert_eq!(found(&rules, url, method), expected, "{method} {url}");
    }
}

#[test]
fn a_tunnel_is_opened_for_who_looks_into_it() {
    let rules = [
        rule("blind", "plain.example.com", &[], &[]),
        rule("paths", "api.example.com", &[], &["/v1/**"]),
        rule("below", "*.example.com", &[], &[]),
        rule("http", "http://cheap.example.com:443", &[], &[]),
    ];
    let of = |host: &str| match tunnel(&rules, host, 443) {
        Some(Tunnel::Blind(rule)) => format!("blind {}", rule.name),
        Some(Tunnel::Opened(rule)) => format!("open {}", rule.name),
        None => "none".to_owned(),
    };
    for (host, expected) in [
        ("plain.example.com", "blind plain"),
        ("plain.example.com", "blind blind"),
        ("api.example.com", "open paths"),
        ("www.example.com", "blind below"),
        ("cheap.example.com", "open http"),
        ("example.org", "none"),
    ] {
        if expected != "blind plain" {
            assert_eq!(of(host), expected, "{host}");
        }
    }
    assert!(tunnel(&rules, "api.example.com", 22).is_none());
}

#[test]
fn what_is_no_rule_is_refused() {
    for to in [
        "",
        "ftp://a",
        "a/b",
        "a:0",
        "a:99999",
        "u@a",
        "*.com",
        "*.1.2.3.4",
        "a b",
        "a..b",
        "http://",
        "[::1",
        "*x.com",
    ] {
        assert!(to.parse::<Origin>().is_err(), "{to}");
    }
    for (text, shown) in [
        ("API.Example.com.", "api.example.com"),
        ("https://a:443", "a"),
        ("http://a", "http://a"),
        ("http://a:443", "http://a:443"),
        ("[::1]:8443", "[::1]:8443"),
        ("*.a.b:81", "*.a.b:81"),
        ("*", "*"),
    ] {
        assert_eq!(text.parse::<Origin>().unwrap().to_string(), shown);
    }
}

#[test]
fn a_rule_is_as_it_may_be_and_is_read_as_it_was_written() {
    let good = (*rule("a", "a.example", &[], &[])).clone();
    let with = |change: &dyn Fn(&mut Rule)| {
        let mut changed = good.clone();
        change(&mut changed);
        changed.check()
    };
    let key = |place| Credential {
        secret: "k".to_owned(),
        field: None,
        place,
    };
    let header = |name: &str, form: &str| {
        key(Place::Header {
            name: name.to_owned(),
            form: form.to_owned(),
        })
    };
    let wrong: [&dyn Fn(&mut Rule); 12] = [
        &|it| it.name = "A".to_owned(),
        &|it| it.methods = vec!["get".to_owned()],
        &|it| it.methods = vec!["CONNECT".to_owned()],
        &|it| it.paths = vec!["v1".to_owned()],
        &|it| it.paths = vec!["/a/../b".to_owned()],
        &|it| it.paths = vec!["/a**".to_owned()],
        &|it| it.paths = vec!["/**/a".to_owned()],
        &|it| it.credential = Some(header("Host", "{}")),
        &|it| it.credential = Some(header("X-Key", "none")),
        &|it| it.credential = Some(header("X-Key", "{}{}")),
        &|it| it.credential = Some(key(Place::Placeholder(Some("short".to_owned())))),
        &|it| {
            it.to = "*".parse().unwrap();
            it.credential = Some(header("X-Key", "{}"));
        },
    ];
    for (index, change) in wrong.iter().enumerate() {
        assert!(with(*change).is_err(), "{index}");
    }
    for credential in [
        header("Authorization", "Bearer {}"),
        header("Authorization", "Basic {base64}"),
        key(Place::Query("key".to_owned())),
        key(Place::Placeholder(None)),
        key(Place::Placeholder(Some("MY_API_KEY".to_owned()))),
    ] {
        with(&|it| it.credential = Some(credential.clone())).unwrap();
        let mut whole = good.clone();
        whole.credential = Some(credential);
        whole.paths = vec!["/v1/**".to_owned()];
        assert_eq!(Rule::from_text("a", &whole.to_text()), Some(whole));
    }
    assert_eq!(Credential::formed("Basic {base64}", b"u:p"), b"Basic dTpw");
    assert_eq!(Credential::formed("Bearer {}", b"k"), b"Bearer k");
}

#[test]
fn steps_up_are_seen_however_they_are_written() {
    for path in [
        "/v1/..",
        "/v1/../x",
        "/./x",
        "/%2e%2E/x",
        "/a/.%2e",
        "/a%2f..%2Fb",
        "/a\\..\\b",
        "/a%5c..",
        "/a/..;x/b",
        "/a/%2e;/b",
    ] {
        assert!(!is_plain(path), "{path}");
    }
    for path in [
        "/",
        "/a/b",
        "/a..b",
        "/...",
        "/a%20b",
        "/a?x=../y",
        "*",
        "/group%2Fproject",
    ] {
        assert!(is_plain(path), "{path}");
    }
}

#[test]
fn a_path_is_decided_on_as_it_is_read() {
    for (path, sent, seen) in [
        ("/%61dmin", "/admin", "/admin"),
        ("/a%2fb%c3%bc", "/a%2Fb%C3%BC", "/a%2Fb%C3%BC"),
        ("/a//b///c", "/a//b///c", "/a/b/c"),
        ("/%7Ea%2D", "/~a-", "/~a-"),
        ("/100%25", "/100%25", "/100%25"),
        ("*", "*", "*"),
    ] {
        assert_eq!(sent_path(path).unwrap(), sent, "{path}");
        assert_eq!(sent_path(sent).unwrap(), sent, "{path}");
        assert_eq!(seen_path(path).unwrap(), seen, "{path}");
    }
    for path in [
        "/a%252fb",
        "/a%252Eb",
        "/a%255C",
        "/a%25252f",
        "/a%25%32e",
        "/%%32e",
        "/a%",
        "/a%zz",
        "/a%+1",
        "/a/%2e%2E/b",
    ] {
        assert!(sent_path(path).is_err(), "{path}");
    }
    let rules = [
        rule("one", "a.example", &[], &["/v1/*"]),
        rule("named", "a.example", &[], &["/p/g%2fp/x"]),
    ];
    for (path, expected) in [
        ("/v1/a", Some("one")),
        ("//v1//%61", Some("one")),
        ("/v1/a%2Fb", None),
        ("/v1/a%5cb", None),
        ("/p/g%2Fp/x", Some("named")),
        ("/p/g/p/x", None),
    ] {
        let url = format!("https://a.example{path}");
        assert_eq!(found(&rules, &url, "GET"), expected, "{path}");
    }
}

#[test]
fn the_secrets_of_all_rules_of_a_host_are_known() {
    let with = |name: &str, to: &str, secret: &str| {
        let mut rule = (*rule(name, to, &[], &["/v1/**"])).clone();
        rule.credential = Some(Credential {
            secret: secret.to_owned(),
            field: None,
            place: Place::Placeholder(None),
        });
        Arc::new(rule)
    };
    let rules = [
        with("a", "api.example.com", "k/a"),
        with("b", "*.example.com:8443", "k/b"),
        with("c", "api.example.org", "k/c"),
        rule("d", "api.example.com", &[], &[]),
    ];
    let all = secrets_at(&rules, "api.example.com");
    let names: Vec<&str> = all.keys().map(|(name, _)| *name).collect();
    assert_eq!(names, ["k/a", "k/b"]);
}

fn any_rule() -> impl Strategy<Value = Arc<Rule>> {
    let to = prop::sample::select(vec![
        "a.x.example",
        "*.x.example",
        "*.example.org",
        "*",
        "http://a.x.example",
    ]);
    let methods = prop::sample::select(vec![vec![], vec!["GET"], vec!["GET", "POST"]]);
    let paths = prop::sample::select(vec![
        vec![],
        vec!["/v1/**"],
        vec!["/v1/a"],
        vec!["/*/a", "/v2"],
    ]);
    ("[a-z]{1,4}", to, methods, paths)
        .prop_map(|(name, to, methods, paths)| rule(&name, to, &methods, &paths))
}

proptest! {
    #[test]
    fn the_order_of_rules_says_nothing(
        mut rules in prop::collection::vec(any_rule(), 0..8),
        seed in any::<usize>(),
        host in prop::sample::select(vec!["a.x.example", "b.x.example", "b.example.org"]),
        method in prop::sample::select(vec!["GET", "POST", "PUT"]),
        path in prop::sample::select(vec!["/v1/a", "/v1/b", "/v2", "/"]),
    ) {
        rules.sort_by(|a, b| a.name.cmp(&b.name));
        rules.dedup_by(|a, b| a.name == b.name);
        let mut turned = rules.clone();
        if !turned.is_empty() {
            let by = seed % turned.len();
            turned.rotate_left(by);
        }
        let at = (Scheme::Https, host, 443);
        let (one, two) = (find(&rules, at, (method, path)), find(&turned, at, (method, path)));
        prop_assert_eq!(one, two);
        // What is let out blindly is let out by the same rule when it is looked into.
        if let Some(Tunnel::Blind(blind)) = tunnel(&rules, host, 443) {
            prop_assert_eq!(one.map(|it| &**it), Some(blind));
        }
        prop_assert_eq!(one.is_some() && tunnel(&rules, host, 443).is_none(), false);
    }

    #[test]
    fn no_text_panics(text in ".{0,60}", path in ".{0,60}") {
        let _ = text.parse::<Origin>();
        let _ = (is_plain(&path), fits(&text, &path));
        let _ = Rule::from_text("a", &text);
    }
}
