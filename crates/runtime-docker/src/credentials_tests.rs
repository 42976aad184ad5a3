//! Which login is found for which registry, and what is said of it.

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

const SECRET: &str = "s3cret~>?";

/// A file of credentials with this text and mode.
fn file(text: &str, mode: u32) -> (TempDir, Credentials) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    (folder, Credentials::new(Some(path)))
}

fn of(user: &str, password: &str) -> Login {
    Login {
        user: user.to_owned(),
        password: password.to_owned(),
        ..Login::default()
    }
}

#[test]
fn knows_the_registry_of_a_reference() {
    for (reference, registry) in [
        ("hello", "docker.io"),
        ("library/hello:1", "docker.io"),
        ("index.docker.io/library/hello", "docker.io"),
        ("localhost/hello", "localhost"),
        ("r.example/hello@sha256:00", "r.example"),
        ("127.0.0.1:5000/a/b:1", "127.0.0.1:5000"),
    ] {
        assert_eq!(registry_of(reference), registry, "{reference}");
    }
}

#[tokio::test]
async fn a_login_is_found_for_its_registry_alone() {
    let auth = STANDARD.encode(format!("bee:{SECRET}"));
    let text = serde_json::json!({
        "auths": {
            "r.example:5000": { "auth": auth },
            "https://other.example/v2/": { "username": "a", "password": "b" },
            "https://index.docker.io/v1/": { "auth": STANDARD.encode("hub:x:y") },
            "token.example": { "auth": STANDARD.encode("u:"), "identitytoken": "t" },
            "empty.example": {},
        },
        "HttpHeaders": { "User-Agent": "Docker-Client" },
    });
    let (_folder, credentials) = file(&text.to_string(), 0o600);
    let get = async |registry: &str| credentials.of(registry).await.unwrap();
    assert_eq!(get("r.example:5000").await, Some(of("bee", SECRET)));
    assert_eq!(get("other.example").await, Some(of("a", "b")));
    assert_eq!(get("docker.io").await, Some(of("hub", "x:y")));
    let token = get("token.example").await.unwrap();
    assert_eq!(
        (token.user.as_str(), token.identity_token.as_str()),
        ("u", "t")
    );
    for nobody in [
        "empty.example",
        "r.example",
        "example:5000",
        "xr.example:5000",
    ] {
        assert_eq!(get(nobody).await, None, "{nobody}");
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_told_without_a_secret() {
    for (text, mode, next) in [
        ("{}", 0o644, "chmod 600"),
        ("{}", 0o620, "chmod 600"),
        (
            r#"{"auths": {"r.example": "s3cret~>?"}}"#,
            0o600,
            "docker login",
        ),
        (
            r#"{"auths": {"r.example": {"auth": "s3cret~>?"}}}"#,
            0o600,
            "docker login r.example",
        ),
        (
            r#"{"auths": {"r.example": {"auth": "czNjcmV0fj4/"}}}"#,
            0o600,
            "docker login r.example",
        ),
        (
            r#"{"credsStore": "../s3cret~>?"}"#,
            0o600,
            "no name of a program",
        ),
        (r#"{"credsStore": "skep-nowhere"}"#, 0o600, "install it"),
    ] {
        let (_folder, credentials) = file(text, mode);
        let error = credentials.of("r.example").await.unwrap_err();
        assert!(matches!(error, DriverError::Unavailable(_)));
        let error = error.to_string();
        assert!(
            error.contains(next) && error.contains("docker.credentials"),
            "{error}"
        );
        assert!(!error.contains(SECRET), "{error}");
    }
    let missing = Credentials::new(Some(PathBuf::from("/nowhere/config.json")));
    let error = missing.of("r.example").await.unwrap_err().to_string();
    assert!(error.contains("docker login"), "{error}");
}

#[test]
fn a_login_is_never_shown_and_the_engine_can_read_it() {
    let login = of("bee", SECRET);
    assert!(!format!("{login:?}").contains(SECRET));
    let value = login.header("r.example").unwrap();
    assert!(value.is_sensitive());
    let document = URL_SAFE.decode(value.as_bytes()).unwrap();
    let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
    assert_eq!(document["password"], SECRET);
    // With the other letters the engine takes it for no login.
    assert!(value.to_str().unwrap().contains(['-', '_']));
}
