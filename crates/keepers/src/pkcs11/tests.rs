//! Names of keys, and, where it is built, a token in software (SoftHSM).

use super::*;

#[test]
fn a_key_is_named_as_rfc_7512_says() {
    let key: Pkcs11Key = "pkcs11:token=My%20HSM;object=a%3Bb;id=%01%ff;type=secret-key"
        .parse()
        .unwrap();
    assert_eq!(key.token.as_deref(), Some("My HSM"));
    assert_eq!(key.object.as_deref(), Some("a;b"));
    assert_eq!(key.id.as_deref(), Some(&[1, 0xff][..]));
    for (wrong, why) in [
        ("", "no URI"),
        ("pkcs11:", "not known"),
        ("pkcs11:token=a", "names no key"),
        ("pkcs11:object=a", "names no token"),
        ("pkcs11:token=a;object=", "`object` is no text"),
        ("pkcs11:token=a;object=b;object=c", "twice"),
        ("pkcs11:token=a;object=%4", "encoded"),
        ("pkcs11:token=a;object=b?pin-value=1234", "encoded"),
        ("pkcs11:token=a;object=b;type=private", "not known"),
        (
            "pkcs11:token=a;module-path=/tmp/evil.so;object=b",
            "encoded",
        ),
    ] {
        let said = wrong.parse::<Pkcs11Key>().unwrap_err().to_string();
        assert!(said.contains(why), "{wrong}: {said}");
        assert!(!said.contains("1234"), "{said}");
    }
}

#[cfg(feature = "pkcs11")]
mod softhsm {
    use std::process::Command;

    use skep_crypto::Key;
    use skep_vault::keeper::KeeperError;
    use tempfile::TempDir;

    use super::*;

    const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
    const PIN: &str = "marked-7265";
    const KEY: &str = "pkcs11:token=ours;object=seal";

    /// The folder of SoftHSM's tokens. The module reads where it is from the environment, of which there is one.
    fn folder() -> TempDir {
        let folder = TempDir::new().unwrap();
        let config = folder.path().join("softhsm2.conf");
        let text = format!("directories.tokendir = {}\n", folder.path().display());
        std::fs::write(&config, text).unwrap();
        folder
    }

    fn run(folder: &TempDir, program: &str, args: &[&str]) {
        let done = Command::new(program)
            .args(args)
            .env("SOFTHSM2_CONF", folder.path().join("softhsm2.conf"))
            .output()
            .expect("install it first: cargo xtask set-up test");
        assert!(done.status.success(), "{done:?}");
    }

    fn token(folder: &TempDir, label: &str) {
        let args = [
            "--init-token",
            "--free",
            "--label",
            label,
            "--so-pin",
            "87654321",
        ];
        run(
            folder,
            "softhsm2-util",
            &[&args[..], &["--pin", PIN]].concat(),
        );
    }

    fn aes(folder: &TempDir, token: &str, label: &str) {
        let args = [
            "--module",
            MODULE,
            "--token-label",
            token,
            "--login",
            "--pin",
            PIN,
        ];
        let make = ["--keygen", "--key-type", "AES:32", "--label", label];
        run(folder, "pkcs11-tool", &[&args[..], &make].concat());
    }

    fn keeper(key: &str, pin: Option<&str>) -> Arc<dyn Keeper> {
        let pin = pin.map(|pin| Zeroizing::new(pin.to_owned()));
        pkcs11(Path::new(MODULE), key, pin).unwrap()
    }

    /// In a process of its own, which has the variable: those of tests are nobody's to change.
    #[tokio::test]
    async fn a_token_wraps_and_only_it_unwraps() {
        if std::env::var_os("SKEP_TEST_TOKEN").is_none() {
            let folder = folder();
            let own = std::env::current_exe().unwrap();
            let name = "pkcs11::tests::softhsm::a_token_wraps_and_only_it_unwraps";
            let done = Command::new(own)
                .args(["--exact", name, "--nocapture"])
                .env("SOFTHSM2_CONF", folder.path().join("softhsm2.conf"))
                .env("SKEP_TEST_TOKEN", folder.path())
                .output()
                .unwrap();
            assert!(done.status.success(), "{done:?}");
            assert!(String::from_utf8_lossy(&done.stdout).contains("1 passed"));
            return;
        }
        inside().await;
    }

    async fn inside() {
        let folder = TempDir::new().unwrap();
        let config = std::env::var_os("SOFTHSM2_CONF").unwrap();
        std::fs::copy(config, folder.path().join("softhsm2.conf")).unwrap();
        let ours = keeper(KEY, Some(PIN));
        let key = Key::random().unwrap();
        let refused = |said: Result<Vec<u8>, KeeperError>, why: &str| match said {
            Err(KeeperError::Refused(said)) => assert!(said.contains(why), "{said}"),
            other => panic!("{why}: {other:?}"),
        };
        // A token that comes later is found then.
        let said = ours.wrap(&key, "here").await;
        assert!(matches!(said, Err(KeeperError::Away(_))), "{said:?}");
        token(&folder, "ours");
        refused(ours.wrap(&key, "here").await, "no such AES key");
        aes(&folder, "ours", "seal");
        let wrapped = ours.wrap(&key, "here").await.unwrap();
        assert!(ours.unwrap(&wrapped, "here").await.unwrap().is(&key));
        // It is encrypted anew each time, and bound to its place.
        assert_ne!(ours.wrap(&key, "here").await.unwrap(), wrapped);
        let wrong = Err(KeeperError::Wrong(KEY.to_owned()));
        assert_eq!(ours.unwrap(&wrapped, "there").await.map(drop), wrong);
        for at in [0, 12, wrapped.len() - 1] {
            let mut other = wrapped.clone();
            other[at] ^= 1;
            assert_eq!(ours.unwrap(&other, "here").await.map(drop), wrong);
        }
        for short in [0, 11, 12, wrapped.len() - 1] {
            let said = ours.unwrap(&wrapped[..short], "here").await;
            assert_eq!(said.map(drop), wrong, "{short}");
        }
        // Who has no right PIN is told so, and never what it was.
        refused(
            keeper(KEY, None).wrap(&key, "here").await,
            "set seal.pkcs11_pin",
        );
        let other = keeper(KEY, Some("marked-0000"));
        refused(other.wrap(&key, "here").await, "the PIN is wrong");
        assert!(!format!("{ours:?} {other:?}").contains("marked"));
        // Two of a name are no one.
        aes(&folder, "ours", "seal");
        refused(ours.wrap(&key, "here").await, "name its id=");
        token(&folder, "ours");
        refused(ours.wrap(&key, "here").await, "name its serial=");
        let none = pkcs11(Path::new("/none.so"), KEY, None).unwrap();
        refused(none.wrap(&key, "here").await, "cannot be loaded");
    }
}
