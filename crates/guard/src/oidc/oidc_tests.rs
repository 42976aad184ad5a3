//! What a login is made of, where it leads, and what of a provider's words counts.

use serde_json::{Map, Value, json};

use super::*;
use crate::jwt::IdToken;

const FILE: &str = r#"
url = "https://skep.example/"
[[provider]]
name = "corp"
issuer = "https://id.example.com"
client_id = "skep app"
client_secret_file = "secret"
domains = ["Example.com"]
trusted_for = ["example.com"]
join = { workspace = "red", role = "member" }
second_factor = { amr = ["mfa"], acr = ["urn:two"] }
"#;

fn read(text: &str) -> Result<Providers, String> {
    read_file(text, |secret| match secret {
        Secret::File(path) if path.ends_with("secret") => Ok(b"s+cret:/\n".to_vec()),
        _ => Err("it is not there".to_owned()),
    })
}

fn provider() -> Provider {
    read(FILE).unwrap().all.remove(0)
}

fn doors(more: &Value) -> Result<Discovery, String> {
    let mut said = json!({
        "issuer": "https://id.example.com",
        "authorization_endpoint": "https://id.example.com/auth?x=1",
        "token_endpoint": "https://id.example.com/token",
        "jwks_uri": "https://keys.example.com/",
    });
    for (name, value) in more.as_object().unwrap() {
        said[name] = value.clone();
    }
    Discovery::read(said.to_string().as_bytes(), "https://id.example.com")
}

fn token(claims: Value) -> IdToken {
    let Value::Object(claims) = claims else {
        panic!("{claims} is no object");
    };
    IdToken {
        subject: "ada".to_owned(),
        algorithm: "RS256".to_owned(),
        claims,
    }
}

#[test]
fn everything_of_a_login_comes_of_what_the_browser_keeps() {
    let flow = Flow::new().unwrap();
    let again = Flow::shown(flow.text()).unwrap();
    assert_eq!(flow.state(), again.state());
    assert_eq!(flow.key(), again.key());
    let parts = [flow.state(), flow.nonce(), flow.verifier()];
    assert!(parts.iter().all(|it| it.len() == 43));
    assert!(parts[0] != parts[1] && parts[1] != parts[2] && parts[0] != parts[2]);
    assert!(flow.has_state(&parts[0]) && !flow.has_state(&parts[1]) && !flow.has_state(""));
    assert_ne!(Flow::new().unwrap().state(), flow.state());
    assert!(Flow::shown("skep_session_x").is_none());
    assert!(Flow::shown(&format!("{FLOW_PREFIX}{}", "x".repeat(200))).is_none());
}

#[test]
fn the_browser_takes_no_secret_along() {
    let (flow, provider) = (Flow::new().unwrap(), provider());
    let url = flow.url(
        &provider,
        &doors(&json!({})).unwrap(),
        "https://skep.example/back",
    );
    assert!(
        url.starts_with("https://id.example.com/auth?x=1&response_type=code&client_id=skep%20app&")
    );
    assert!(url.contains("redirect_uri=https%3A%2F%2Fskep.example%2Fback"));
    assert!(url.contains("&acr_values=urn%3Atwo"));
    assert!(!url.contains(flow.text()) && !url.contains(&flow.verifier()) && !url.contains("cret"));
}

#[test]
fn the_secret_goes_as_the_provider_takes_it() {
    use base64::Engine as _;
    let (flow, provider) = (Flow::new().unwrap(), provider());
    let exchange = |more: Value| flow.exchange(&provider, &doors(&more).unwrap(), ("c&d", "r"));
    let (form, header) = exchange(json!({}));
    assert!(form.contains("code=c%26d&") && form.contains(&flow.verifier()));
    assert!(!form.contains("secret"));
    let pair = header.unwrap().strip_prefix("Basic ").unwrap().to_owned();
    let pair = base64::engine::general_purpose::STANDARD
        .decode(pair)
        .unwrap();
    assert_eq!(pair, b"skep%20app:s%2Bcret%3A%2F");
    let post = json!({ "token_endpoint_auth_methods_supported": ["client_secret_post"] });
    let (form, header) = exchange(post);
    assert!(header.is_none() && form.contains("client_secret=s%2Bcret%3A%2F"));
}

#[test]
fn only_paths_of_ours_are_gone_back_to() {
    for fine in ["/", "/a", "/a/b?c=d&e=//f", "/a//b", "/%2F%2Fx"] {
        assert!(is_back(fine), "{fine}");
    }
    let long = format!("/{}", "a".repeat(2000));
    for wrong in [
        "",
        "a",
        "//",
        "//evil",
        "/\\evil",
        "\\\\evil",
        "https://evil",
        "/a\\b",
        "/a b",
        "/\t/evil",
        "/a\n",
        "/é",
        &long,
    ] {
        assert!(!is_back(wrong), "{wrong}");
    }
}

#[test]
fn a_provider_is_who_it_says_and_its_doors_are_shut_to_others() {
    assert!(doors(&json!({})).is_ok());
    for wrong in [
        json!({ "issuer": "https://id.example.com/" }),
        json!({ "issuer": null }),
        json!({ "authorization_endpoint": "javascript:alert(1)" }),
        json!({ "authorization_endpoint": null }),
        json!({ "token_endpoint": "http://id.example.com/token" }),
        json!({ "token_endpoint": "http://127.0.0.1/token" }),
        json!({ "token_endpoint": "https://id.example.com@evil/" }),
        json!({ "userinfo_endpoint": 1 }),
        json!({ "jwks_uri": "" }),
        json!({ "response_types_supported": ["id_token"] }),
        json!({ "code_challenge_methods_supported": ["plain"] }),
    ] {
        assert!(doors(&wrong).is_err(), "{wrong}");
    }
    assert!(Discovery::read(b"{\"issuer\":\"a\",\"issuer\":\"a\"}", "a").is_err());
    assert_eq!(
        Discovery::url("https://id.example.com/realm/"),
        "https://id.example.com/realm/.well-known/openid-configuration"
    );
}

#[test]
fn an_address_counts_when_it_is_verified() {
    let provider = provider();
    let judge = |claims: Value| provider.judge(&token(claims), None);
    let ada = json!({ "email": "Ada@Example.com", "email_verified": true, "name": "Ada" });
    let proof = judge(ada.clone()).unwrap();
    assert_eq!(proof.email.as_deref(), Some("ada@example.com"));
    assert_eq!((proof.name.as_str(), proof.second_factor), ("Ada", false));
    let admits = provider.admits(&proof);
    assert!(admits.by_email && admits.join.is_some());
    for (name, value) in [
        ("email_verified", json!(false)),
        ("email_verified", json!("yes")),
        ("email_verified", json!(1)),
        ("email_verified", Value::Null),
        ("email", json!("ada@evil.example")),
        ("email", json!("ada@sub.example.com")),
        ("email", json!("ada@example.com.evil.example")),
        ("email", json!(["ada@example.com"])),
        ("email", json!("ada@evil.example\n@example.com")),
        ("email", Value::Null),
    ] {
        let mut claims = ada.clone();
        claims[name] = value.clone();
        assert_eq!(
            judge(claims).unwrap_err(),
            Refusal::Domain,
            "{name} {value}"
        );
    }
}

#[test]
fn a_second_factor_is_what_the_file_says() {
    let text = FILE.replace("acr = [", "needed = true, acr = [");
    let provider = read(&text).unwrap().all.remove(0);
    let judge = |more: Value| {
        let mut claims = json!({ "email": "a@example.com", "email_verified": true });
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        provider
            .judge(&token(claims), None)
            .map(|proof| proof.second_factor)
    };
    for fine in [
        json!({ "amr": ["pwd", "mfa"] }),
        json!({ "acr": "urn:two" }),
    ] {
        assert_eq!(judge(fine), Ok(true));
    }
    for wrong in [
        json!({}),
        json!({ "amr": ["pwd"] }),
        json!({ "amr": "mfa" }),
        json!({ "acr": "urn:one" }),
    ] {
        assert_eq!(judge(wrong), Err(Refusal::SecondFactor));
    }
}

#[test]
fn what_is_asked_for_besides_is_of_the_same_person() {
    let provider = provider();
    let asked = |said: Value| -> Result<_, Refusal> {
        let Value::Object(said) = said else {
            return Err(Refusal::Answer);
        };
        provider.judge(&token(json!({})), Some(&said))
    };
    let email = json!({ "sub": "ada", "email": "a@example.com", "email_verified": true });
    assert!(asked(email.clone()).is_ok());
    for other in [json!("eve"), Value::Null] {
        let mut said = email.clone();
        said["sub"] = other;
        assert_eq!(asked(said).unwrap_err(), Refusal::Person);
    }
    // An address in the ID token is verified there or not at all.
    let unverified = token(json!({ "email": "a@example.com" }));
    let said: Map<String, Value> = email.as_object().unwrap().clone();
    assert_eq!(
        provider.judge(&unverified, Some(&said)).unwrap_err(),
        Refusal::Domain
    );
}

#[test]
fn an_id_token_is_of_this_login_and_of_its_access_token() {
    let flow = Flow::new().unwrap();
    let with = |more: Value| {
        let mut claims = json!({ "nonce": flow.nonce() });
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        token(claims)
    };
    assert_eq!(flow.fits(&with(json!({})), None), Ok(()));
    assert_eq!(
        flow.fits(&with(json!({ "nonce": "x" })), None),
        Err(Refusal::Nonce)
    );
    assert_eq!(flow.fits(&token(json!({})), None), Err(Refusal::Nonce));
    // The example of OpenID Connect Core 1.0, A.3.
    let of = json!({ "at_hash": "77QmUPtjPfzWtF2AnpK9RQ" });
    let access = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y";
    assert_eq!(flow.fits(&with(of.clone()), Some(access)), Ok(()));
    for wrong in [Some("another"), None] {
        assert_eq!(
            flow.fits(&with(of.clone()), wrong),
            Err(Refusal::AccessToken)
        );
    }
}

#[test]
fn a_file_that_is_wrong_is_told_with_its_place() {
    assert_eq!(
        read(FILE).unwrap().url.as_deref(),
        Some("https://skep.example")
    );
    for (from, to, said) in [
        ("client_id", "client_name", "unknown field `client_name`"),
        ("https://skep.example/", "https://skep.example/x", "`url`"),
        ("https://skep.example/", "http://skep.example", "`url`"),
        (
            "https://id.example.com",
            "http://id.example.com",
            "`issuer`",
        ),
        ("\"secret\"", "\"gone\"", "it is not there"),
        ("\"member\"", "\"owner\"", "owner"),
        ("\"member\"", "\"king\"", "king"),
        ("[\"example.com\"]", "[\"@example.com\"]", "`trusted_for`"),
        (
            "amr = [\"mfa\"], acr = [\"urn:two\"]",
            "needed = true",
            "`second_factor`",
        ),
        ("domains", "scopes = [\"email\"]\ndomains", "`openid`"),
        ("domains", "algorithms = [\"HS256\"]\ndomains", "HS256"),
        ("domains", "algorithms = [\"none\"]\ndomains", "none"),
        (
            "domains",
            "client_secret_variable = \"X\"\ndomains",
            "client_secret_variable",
        ),
    ] {
        let error = read(&FILE.replacen(from, to, 1)).err().unwrap_or_default();
        assert!(error.contains(said), "{from} → {to}: {error}");
        assert!(!error.contains("s+cret"), "{error}");
    }
    let twice = format!("{FILE}{}", &FILE[FILE.find("[[").unwrap()..]);
    assert!(read(&twice).err().unwrap().contains("there is one"));
}
