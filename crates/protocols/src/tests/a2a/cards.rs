//! Cards, canonical JSON, and signatures.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::a2a::card::{
    Binding, Card, Header, Interface, Skill, payload, sign, verify, with_older,
};
use crate::a2a::{Version, canonical};

/// Doubles by their bits, and how ECMAScript writes them: appendix B of RFC 8785.
const NUMBERS: [(u64, &str); 24] = [
    (0x0000_0000_0000_0000, "0"),
    (0x8000_0000_0000_0000, "0"),
    (0x0000_0000_0000_0001, "5e-324"),
    (0x8000_0000_0000_0001, "-5e-324"),
    (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
    (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
    (0x4340_0000_0000_0000, "9007199254740992"),
    (0xc340_0000_0000_0000, "-9007199254740992"),
    (0x4430_0000_0000_0000, "295147905179352830000"),
    (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
    (0x44b5_2d02_c7e1_4af6, "1e+23"),
    (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
    (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
    (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
    (0x444b_1ae4_d6e2_ef50, "1e+21"),
    (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
    (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
    (0x41b3_de43_5555_5553, "333333333.3333332"),
    (0x41b3_de43_5555_5554, "333333333.33333325"),
    (0x41b3_de43_5555_5555, "333333333.3333333"),
    (0x41b3_de43_5555_5556, "333333333.3333334"),
    (0x41b3_de43_5555_5557, "333333333.33333343"),
    (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
    (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
];

#[test]
fn numbers_are_written_as_ecmascript_does() {
    for (bits, text) in NUMBERS {
        assert_eq!(canonical(&json!(f64::from_bits(bits))), text, "{bits:x}");
    }
    for (number, text) in [
        (json!(0), "0"),
        (json!(-1), "-1"),
        (json!(1200), "1200"),
        (json!(9_007_199_254_740_993_i64), "9007199254740992"),
        (json!(0.1), "0.1"),
        (json!(123.456), "123.456"),
    ] {
        assert_eq!(canonical(&number), text);
    }
}

#[test]
fn json_has_one_text() {
    // Section 3.2.2 of RFC 8785.
    let value = json!({
        "numbers": [333_333_333.333_333_3, 1E30, 4.50, 2e-3, 1e-27],
        "string": "\u{20ac}$\u{f}\nA'B\"\\\\\"/",
        "literals": [null, true, false],
    });
    let wanted = "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
        \"string\":\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
    assert_eq!(canonical(&value), wanted);
    // Section 3.2.3: keys by units of UTF-16.
    let keys = [
        "\u{20ac}",
        "\r",
        "\u{fb33}",
        "1",
        "\u{1f600}",
        "\u{80}",
        "\u{f6}",
    ];
    let value: Value = keys.iter().map(|it| ((*it).to_owned(), json!(1))).collect();
    let wanted = "{\"\\r\":1,\"1\":1,\"\u{80}\":1,\"\u{f6}\":1,\"\u{20ac}\":1,\"\u{1f600}\":1,\"\u{fb33}\":1}";
    assert_eq!(canonical(&value), wanted);
}

proptest! {
    #[test]
    fn numbers_come_back(bits in any::<u64>()) {
        let number = f64::from_bits(bits);
        prop_assume!(number.is_finite());
        let text = canonical(&json!(number));
        prop_assert_eq!(text.parse::<f64>().unwrap(), number);
    }
}

fn card() -> Card {
    Card {
        name: "greeter".to_owned(),
        description: "It greets.".to_owned(),
        version: "3".to_owned(),
        interfaces: Interface::at("https://x/agents/greeter/a2a", None),
        streaming: true,
        push_notifications: true,
        extended_agent_card: true,
        input_modes: vec!["text/plain".to_owned()],
        output_modes: vec!["text/plain".to_owned()],
        skills: vec![Skill {
            id: "greet".to_owned(),
            name: "Greeting".to_owned(),
            description: "It greets who greets it.".to_owned(),
            tags: vec!["talk".to_owned()],
            examples: vec!["Hello".to_owned()],
            ..Skill::default()
        }],
        bearer: Some(vec!["runs".to_owned()]),
        ..Card::default()
    }
}

#[test]
fn a_card_serves_both_versions() {
    let url = "https://x/agents/greeter/a2a";
    let newer = card().wire();
    let interface = |binding: &str, version: &str| json!({ "url": url, "protocolBinding": binding, "protocolVersion": version });
    let all = [
        ("JSONRPC", "1.0"),
        ("HTTP+JSON", "1.0"),
        ("JSONRPC", "0.3"),
        ("HTTP+JSON", "0.3"),
    ];
    let wanted = json!({
        "name": "greeter", "description": "It greets.", "version": "3",
        "supportedInterfaces": all.map(|(binding, version)| interface(binding, version)),
        "capabilities": { "streaming": true, "pushNotifications": true, "extendedAgentCard": true },
        "defaultInputModes": ["text/plain"], "defaultOutputModes": ["text/plain"],
        "skills": [{ "id": "greet", "name": "Greeting", "description": "It greets who greets it.",
            "tags": ["talk"], "examples": ["Hello"] }],
        "securitySchemes": { "bearer": { "httpAuthSecurityScheme": { "scheme": "Bearer" } } },
        "securityRequirements": [{ "schemes": { "bearer": { "list": ["runs"] } } }],
    });
    assert_eq!(newer, wanted);
    let both = with_older(newer.clone());
    for (name, value) in [
        ("protocolVersion", json!("0.3.0")),
        ("url", json!(url)),
        ("preferredTransport", json!("JSONRPC")),
        (
            "additionalInterfaces",
            json!([{ "url": url, "transport": "JSONRPC" }, { "url": url, "transport": "HTTP+JSON" }]),
        ),
        ("supportsAuthenticatedExtendedCard", json!(true)),
        ("security", json!([{ "bearer": ["runs"] }])),
        (
            "securitySchemes",
            json!({ "bearer": { "type": "http", "scheme": "Bearer",
                "httpAuthSecurityScheme": { "scheme": "Bearer" } } }),
        ),
    ] {
        assert_eq!(both[name], value, "{name}");
    }
    // Nothing of 1.0 is otherwise, and nothing beside it counts.
    for name in [
        "supportedInterfaces",
        "capabilities",
        "skills",
        "securityRequirements",
    ] {
        assert_eq!(both[name], newer[name], "{name}");
    }
    assert_eq!(payload(&both), payload(&newer));
    let mut other = card();
    other.interfaces = vec![Interface {
        url: "grpc.x:443".to_owned(),
        binding: Binding::Grpc,
        version: Version::V1_0,
        tenant: Some("acme".to_owned()),
    }];
    let other = with_older(other.wire());
    assert_eq!(other["preferredTransport"], "GRPC");
    assert_eq!(other["supportedInterfaces"][0]["tenant"], "acme");
}

#[test]
fn what_counts_of_a_card_is_what_the_schema_says() {
    // Section 8.4.1.
    let card = json!({
        "name": "Example Agent", "description": "",
        "capabilities": { "streaming": false, "pushNotifications": false, "extensions": [] },
        "skills": [],
    });
    let wanted = "{\"capabilities\":{\"pushNotifications\":false,\"streaming\":false},\
        \"description\":\"\",\"name\":\"Example Agent\",\"skills\":[]}";
    assert_eq!(payload(&card), wanted);
    let card = json!({
        "kind": "x", "name": "n", "iconUrl": null, "documentationUrl": "", "signatures": [{}],
        "supportedInterfaces": [{ "url": "u", "protocolBinding": "JSONRPC", "protocolVersion": "1.0", "tenant": "" }],
        "securitySchemes": { "a": { "mtlsSecurityScheme": { "description": "" }, "type": "mutualTLS" } },
        "securityRequirements": [{ "schemes": { "a": { "list": [] } } }],
        "capabilities": { "extensions": [{ "uri": "u", "required": false, "params": { "a": false } }] },
        "skills": [{ "id": "i", "tags": [], "examples": [] }],
    });
    let wanted = json!({
        "name": "n", "documentationUrl": "",
        "supportedInterfaces": [{ "url": "u", "protocolBinding": "JSONRPC", "protocolVersion": "1.0" }],
        "securitySchemes": { "a": { "mtlsSecurityScheme": {} } },
        "securityRequirements": [{ "schemes": { "a": {} } }],
        "capabilities": { "extensions": [{ "uri": "u", "params": { "a": false } }] },
        "skills": [{ "id": "i", "tags": [] }],
    });
    assert_eq!(payload(&card), canonical(&wanted));
}

/// A signature that shows what was signed.
fn mark(key: u8, bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|it| it ^ key).collect()
}

#[test]
fn signatures_are_over_what_counts() {
    let header = |kid: &str| Header {
        alg: "EdDSA".to_owned(),
        kid: kid.to_owned(),
        jku: Some("https://x/keys".to_owned()),
    };
    let signed = |card: Value, kid: &str, key: u8| {
        sign(card, &header(kid), |it| Ok::<_, ()>(mark(key, it))).unwrap()
    };
    let right = |card: &Value| {
        verify(card, |by, bytes, signature| {
            assert_eq!(by, &header("new"));
            signature == mark(7, bytes)
        })
    };
    let newer = card().wire();
    assert!(!right(&newer), "there is none");
    let card = signed(newer.clone(), "new", 7);
    assert!(right(&card));
    assert!(right(&with_older(card.clone())));
    // The text that is signed is what RFC 7515 says.
    let told = &card["signatures"][0];
    let protected = told["protected"].as_str().unwrap();
    let mut seen = String::new();
    let again = sign(newer, &header("new"), |it| {
        seen = String::from_utf8(it.to_vec()).unwrap();
        Ok::<_, ()>(mark(7, it))
    });
    assert_eq!(again.as_ref(), Ok(&card));
    assert!(seen.starts_with(&format!("{protected}.ey")), "{seen}");
    assert!(!seen.contains(['=', '+', '/']), "{seen}");
    for (name, value) in [
        ("name", json!("other")),
        ("skills", json!([])),
        ("iconUrl", json!("u")),
    ] {
        let mut other = card.clone();
        other[name] = value;
        assert!(!right(&other), "{name}");
    }
    let mut other = card.clone();
    other["unknown"] = json!(1);
    assert!(right(&other));
    // Of several, one is enough: keys change.
    let both = signed(signed(card.clone(), "new", 7), "old", 9);
    assert!(verify(&both, |by, bytes, it| by.kid == "old"
        && it == mark(9, bytes)));
    assert!(sign(card.clone(), &header("x"), |_| Err("no key")).is_err());
    for odd in [
        json!({ "alg": "none", "kid": "new" }),
        json!({ "alg": "EdDSA" }),
        json!({ "alg": "EdDSA", "kid": "new", "crit": ["b64"] }),
        json!([]),
    ] {
        use base64::Engine as _;
        let protected = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(odd.to_string());
        let mut other = card.clone();
        other["signatures"] = json!([{ "protected": protected, "signature": "AA" }]);
        assert!(!verify(&other, |_, _, _| true), "{odd}");
    }
}
