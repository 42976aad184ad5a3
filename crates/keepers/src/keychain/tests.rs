//! Names of entries, and, where it is built, a keychain itself (GNOME Keyring) on a bus of its own.

use super::*;

#[tokio::test]
async fn a_name_is_one() {
    for wrong in ["", " ", "a\nb", &"x".repeat(201)] {
        let said = get(wrong, Attended::No).await;
        assert!(matches!(said, Err(KeychainError::Name(_))), "{wrong:?}");
    }
}

#[cfg(feature = "keychain")]
mod service {
    use std::process::{Command, Output};

    use tempfile::TempDir;

    use super::*;

    const NAME: &str = "keychain::tests::service::entries_are_made_and_read_on_a_bus";
    const INSIDE: &str = "SKEP_TEST_KEYCHAIN";

    /// This program again, in a session of its own, after this script.
    fn in_session(home: &TempDir, script: &str, inside: &str) -> Output {
        let own = std::env::current_exe().unwrap();
        let script = format!("{script}\nexec \"$0\" --exact {NAME} --nocapture");
        Command::new("dbus-run-session")
            .args(["--", "sh", "-ec", &script])
            .arg(own)
            .env("HOME", home.path())
            .env("XDG_RUNTIME_DIR", home.path())
            .env_remove("DISPLAY")
            .env(INSIDE, inside)
            .output()
            .expect("install it first: cargo xtask set-up test")
    }

    #[tokio::test]
    async fn entries_are_made_and_read_on_a_bus() {
        match std::env::var(INSIDE).as_deref() {
            Ok("unlocked") => return unlocked().await,
            Ok("nobody") => return nobody().await,
            _ => {}
        }
        let home = TempDir::new().unwrap();
        let unlock = "printf password | gnome-keyring-daemon --unlock --components=secrets";
        for (script, inside) in [(unlock, "unlocked"), ("", "nobody")] {
            let done = in_session(&home, script, inside);
            let out = String::from_utf8_lossy(&done.stdout);
            assert!(out.contains("1 passed"), "{inside}: {done:?}");
        }
    }

    async fn unlocked() {
        let get = |name: &'static str| get(name, Attended::No);
        let none = Err(KeychainError::NoEntry("vault".to_owned()));
        assert_eq!(get("vault").await, none);
        put("vault", "the key", Attended::No).await.unwrap();
        put("other", "another", Attended::No).await.unwrap();
        assert_eq!(get("vault").await.unwrap().as_str(), "the key");
        let twice = put("vault", "again", Attended::No).await;
        assert_eq!(twice, Err(KeychainError::Taken("vault".to_owned())));
        assert_eq!(get("vault").await.unwrap().as_str(), "the key");
        let service = "--dest=org.freedesktop.secrets";
        let done = Command::new("dbus-send")
            .args(["--session", "--print-reply", service])
            .args([
                "/org/freedesktop/secrets",
                "org.freedesktop.Secret.Service.Lock",
                "array:objpath:/org/freedesktop/secrets/collection/login",
            ])
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        // Nobody is there to unlock it, and nobody is asked.
        for said in [
            get("vault").await.err(),
            put("new", "x", Attended::No).await.err(),
        ] {
            let said = said.map(|it| (it.is_passing(), it.to_string()));
            let locked = "the keychain: it is locked: log in, or unlock it".to_owned();
            assert_eq!(said, Some((true, locked)));
        }
    }

    /// A keychain that nobody has begun to use has no place for an entry that lasts.
    async fn nobody() {
        let said = put("new", "x", Attended::No).await;
        assert!(matches!(said, Err(KeychainError::Away(_))), "{said:?}");
    }
}
