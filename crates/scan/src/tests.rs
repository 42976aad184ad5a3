//! What is found, what is not, and that nothing that is told holds a value.

use proptest::prelude::*;

use super::*;

/// Values are put together here, so that no scanner finds them in this file.
fn samples() -> Vec<(&'static str, String)> {
    let letters = |count: usize| {
        "Ab3dE5gH7jK9mN1pQ2sT4vW6yZ8"
            .chars()
            .cycle()
            .take(count)
            .collect::<String>()
    };
    let hex = |count: usize| {
        "0123456789abcdef"
            .chars()
            .cycle()
            .take(count)
            .collect::<String>()
    };
    let upper = |count: usize| {
        "QWERTYUIOPASDFGH2345"
            .chars()
            .cycle()
            .take(count)
            .collect::<String>()
    };
    vec![
        ("skep-key", format!("skep{}{}", "_", letters(46))),
        ("aws-access-key", format!("AK{}{}", "IA", upper(16))),
        ("anthropic-key", format!("sk-{}-{}", "ant", letters(40))),
        (
            "openai-key",
            format!("sk-{}{}T3Blbk{}{}", "proj-", letters(24), "FJ", letters(24)),
        ),
        ("github-token", format!("gh{}_{}", "p", letters(36))),
        ("gitlab-token", format!("gl{}-{}", "pat", letters(20))),
        ("slack-token", format!("xo{}-{}", "xb", letters(24))),
        ("stripe-key", format!("sk_{}_{}", "live", letters(24))),
        ("google-api-key", format!("AI{}{}", "za", letters(35))),
        ("npm-token", format!("np{}_{}", "m", letters(36))),
        (
            "sendgrid-key",
            format!("S{}.{}.{}", "G", letters(22), letters(43)),
        ),
        ("digitalocean-token", format!("do{}_v1_{}", "p", hex(64))),
        (
            "huggingface-token",
            format!("h{}_{}", "f", "abcdefghijklmnopqrABCDEFGHIJKLMNOP"),
        ),
        ("vault-token", format!("hv{}.{}", "s", letters(30))),
        ("shopify-token", format!("shp{}_{}", "at", hex(32))),
        (
            "jwt",
            format!(
                "ey{}{}.eyJ{}.{}",
                "J",
                letters(20),
                letters(20),
                letters(30)
            ),
        ),
        (
            "age-identity",
            format!(
                "AGE-{}-KEY-1{}",
                "SECRET",
                "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"
                    .chars()
                    .cycle()
                    .take(58)
                    .collect::<String>()
            ),
        ),
    ]
}

fn scan_with(text: &str, is_own: &dyn Fn(&str) -> bool) -> Vec<Finding> {
    let mut scanner = Scanner::new(is_own);
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        scanner.line(at + 1, line, &mut found);
    }
    scanner.finish(&mut found);
    found
}

fn scan(text: &str) -> Vec<Finding> {
    scan_with(text, &|_| true)
}

fn rules(text: &str) -> Vec<&'static str> {
    scan(text).iter().map(|it| it.rule).collect()
}

#[test]
fn every_pattern_is_one() {
    let (quick, each, rules) = Patterns::all().count();
    assert_eq!((quick, each), (rules, rules));
    assert!(needs::all_are_made());
}

#[test]
fn known_values_are_found_wherever_they_stand_and_never_told() {
    for (rule, value) in samples() {
        for text in [
            value.clone(),
            format!("x = \"{value}\";"),
            format!("see {value}, and more"),
            format!("{{\"a\":\"{value}\"}}"),
            format!("https://example.com/?k={value}&x=1"),
            format!("line\n  API_TOKEN={value}\n"),
        ] {
            let found = scan(&text);
            assert_eq!(found.len(), 1, "{rule} in {text}: {found:?}");
            assert_eq!(found[0].rule, rule, "{text}");
            let told = format!("{found:?}");
            assert!(!told.contains(&value), "{told}");
            // What is shown of it is its sort and no more.
            let shown = found[0].masked.split('…').next().unwrap_or_default();
            assert!(shown.len() * 4 <= value.len(), "{shown}");
        }
    }
}

#[test]
fn keys_of_skep_are_told_by_their_checksum() {
    let text = format!("key: skep{}{}", "_", "x".repeat(46));
    assert_eq!(scan_with(&text, &|_| false), []);
    let asked = std::cell::RefCell::new(String::new());
    let found = scan_with(&format!("{text}."), &|it| {
        *asked.borrow_mut() = it.to_owned();
        true
    });
    assert_eq!(found.len(), 1);
    assert_eq!(asked.borrow().len(), 51);
}

#[test]
fn what_is_given_to_a_secret_is_found_when_it_is_a_value() {
    for text in [
        "password = \"hunter2-is-Weak9\"",
        "DB_PASSWORD=s3cr3tPassphrase!",
        "  apiKey: 'a8f5f167f44f4964e6c998dee827110c'",
        "config[\"client_secret\"] = \"Zm9vYmFyYmF6cXV4MTIzNDU2\"",
        "auth-token: 9f86d081884c7d659a2feaa0c55ad015",
    ] {
        assert_eq!(rules(text), ["secret-assignment"], "{text}");
    }
    for text in [
        "password = get_password(user1)",
        "password = os.environ[\"DB_PASSWORD1\"]",
        "password: ${DB_PASSWORD_1}",
        "password = \"changeme123\"",
        "API_KEY=<your-key-123>",
        "token = settings.auth.token1",
        "max_tokens = 4096",
        "PUBLIC_KEY=\"a8f5f167f44f4964e6c998dee827110c\"",
        "secret_name = \"billing/stripe-v2-prod\"",
        "password_file: /run/secrets/db1",
        "commit: a8f5f167f44f4964e6c998dee827110c",
        "let token = self.next_token2;",
        "key: value",
        "keyboard = \"qwertz-1234567\"",
        "password: {{ vault_password_1 }}",
        "token: xxxxxxxxxxxxxxxx1",
    ] {
        assert_eq!(rules(text), Vec::<&str>::new(), "{text}");
    }
}

#[test]
fn addresses_with_a_password_are_found() {
    let text = format!("DATABASE_URL=postgres://app:{}@db.internal/x", "pa55-w0rd");
    let found = scan(&text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].rule, found[0].column), ("url-with-password", 29));
    assert_eq!(found[0].masked, "…(9)");
    for text in [
        "postgres://app:${PASSWORD}@db/x",
        "postgres://app@db/x",
        "http://localhost:8080/@x",
        "postgres://user:<password>@host",
    ] {
        assert_eq!(rules(text), Vec::<&str>::new(), "{text}");
    }
}

#[test]
fn private_keys_are_told_apart_by_what_is_in_them() {
    let key = |body: &str| format!("-----BEGIN {} KEY-----\n{body}\n-----END", "RSA PRIVATE");
    let (one, other) = (scan(&key("MIIEone")), scan(&key("MIIEother")));
    assert_eq!((one.len(), one[0].rule, one[0].line), (1, "private-key", 1));
    assert_ne!(one[0].fingerprint, other[0].fingerprint);
    let inline = scan(&key("MIIEone").replace('\n', "\\n"));
    assert_eq!((inline.len(), inline[0].line), (1, 1));
    assert_eq!(scan(&key("")[..31]).len(), 1);
    assert_eq!(rules("-----BEGIN PUBLIC KEY-----"), Vec::<&str>::new());
}

#[test]
fn a_long_line_is_looked_at_in_pieces_and_nothing_is_told_twice() {
    let (_, value) = samples().remove(4);
    for at in [
        0,
        10,
        PIECE - OVERLAP - 20,
        PIECE - 20,
        PIECE - 1,
        PIECE,
        2 * PIECE,
        3 * PIECE - 50,
    ] {
        let text = format!("{} {value} {}", "ä".repeat(at / 2), "-".repeat(PIECE));
        let found = scan(&text);
        assert_eq!(found.len(), 1, "at {at}: {found:?}");
        assert_eq!(found[0].column, at / 2 * 2 + 2, "at {at}");
    }
}

#[test]
fn names_tell_secrets() {
    for name in [
        "STRIPE_KEY",
        "OPENAI_API_KEY",
        "dbPassword",
        "db-password",
        "GH_TOKEN",
        "DATABASE_URL",
        "REDIS_URI",
        "SENTRY_DSN",
        "SECRET",
        "JWT_SECRET",
        "SLACK_WEBHOOK",
        "AWS_SECRET_ACCESS_KEY",
        "PG_CONNECTION_STRING",
    ] {
        assert!(is_secret_name(name), "{name}");
    }
    for name in [
        "PORT",
        "LOG_LEVEL",
        "MAX_TOKENS",
        "TOKEN_LIMIT",
        "PUBLIC_KEY",
        "AWS_ACCESS_KEY_ID",
        "KEYBOARD",
        "API_URL",
        "KEY_FILE",
        "TOKENIZER",
        "SECRET_NAME",
        "SORT_KEY",
    ] {
        assert!(!is_secret_name(name), "{name}");
    }
}

#[test]
fn what_a_project_asks_for_is_seen_in_every_language() {
    let told = |kind: Kind, text: &str| -> Vec<(String, usize, bool, bool)> {
        let all = needs(kind, text).into_iter();
        all.map(|it| (it.variable, it.line, it.secret, it.plain))
            .collect()
    };
    for text in [
        "os.environ[\"A_KEY\"]",
        "os.environ.get('A_KEY', '')",
        "os.getenv(\"A_KEY\")",
        "process.env.A_KEY",
        "process.env['A_KEY']",
        "Deno.env.get(\"A_KEY\")",
        "std::env::var(\"A_KEY\")",
        "option_env!(\"A_KEY\")",
        "os.Getenv(\"A_KEY\")",
        "os.LookupEnv(\"A_KEY\")",
        "System.getenv(\"A_KEY\")",
        "ENV.fetch(\"A_KEY\")",
        "Environment.GetEnvironmentVariable(\"A_KEY\")",
    ] {
        assert_eq!(
            told(Kind::Code, &format!("\n{text}")),
            [("A_KEY".to_owned(), 2, true, false)],
            "{text}"
        );
    }
    let env = "# A_KEY=x\nA_KEY=real-value\nB_KEY=\nC_KEY=changeme\nPORT=80\nexport D_KEY='x y'\nE_KEY=${secret:a/b#c}";
    let row = |name: &str, line, secret, plain| (name.to_owned(), line, secret, plain);
    let expected = [
        row("A_KEY", 2, true, true),
        row("B_KEY", 3, true, false),
        row("C_KEY", 4, true, false),
        row("PORT", 5, false, false),
        row("D_KEY", 6, true, true),
        row("E_KEY", 7, true, false),
    ];
    assert_eq!(told(Kind::Env, env), expected);
    let examples: Vec<_> = told(Kind::Example, env)
        .into_iter()
        .map(|it| it.3)
        .collect();
    assert_eq!(examples, [false; 6]);
    let references = needs(Kind::Env, env)
        .into_iter()
        .filter_map(|it| it.reference);
    assert_eq!(references.collect::<Vec<_>>(), ["a/b"]);
    let yaml = "services:\n  a:\n    environment:\n      A_KEY: 'plain value'\n      B_KEY: ${B_KEY}\n      - C_TOKEN=abc def\n    image: x\n";
    let expected = [
        row("A_KEY", 4, true, true),
        row("B_KEY", 5, true, false),
        row("C_TOKEN", 6, true, true),
    ];
    assert_eq!(told(Kind::Yaml, yaml), expected);
    let shell = "FROM x\nENV A_KEY=abc\nRUN curl -H \"$B_TOKEN\" ${C_KEY:-} $x\n";
    let expected = [
        row("A_KEY", 2, true, true),
        row("B_TOKEN", 3, true, false),
        row("C_KEY", 3, true, false),
    ];
    assert_eq!(told(Kind::Shell, shell), expected);
    for (name, kind) in [
        (".env", Some(Kind::Env)),
        (".env.example", Some(Kind::Example)),
        ("compose.yaml", Some(Kind::Yaml)),
        ("Dockerfile.dev", Some(Kind::Shell)),
        ("main.go", Some(Kind::Code)),
        ("README.md", None),
    ] {
        assert_eq!(Kind::of_name(name), kind, "{name}");
    }
}

proptest! {
    #[test]
    fn any_line_is_looked_at_without_harm(text in "\\PC{0,300}", at in 0_usize..300) {
        let found = scan(&text);
        for it in found {
            prop_assert!(text.is_char_boundary(it.column - 1));
        }
        for kind in [Kind::Env, Kind::Example, Kind::Yaml, Kind::Code, Kind::Shell] {
            let _ = needs(kind, &text);
        }
        let cut = text.char_indices().nth(at).map_or(text.len(), |(at, _)| at);
        let _ = scan(&text[..cut]);
    }
}
