//! Keys are made, found, replaced and ended; nobody gives more than they have.

use proptest::prelude::*;
use skep_store::Options;
use tempfile::TempDir;

use super::*;

struct House {
    _folder: TempDir,
    db: Db,
    keys: Keys,
}

impl House {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let db = Db::open(Options::new(folder.path()), &[MIGRATIONS]).unwrap();
        let keys = Keys::open(db.clone(), Workspaces::default(), Vec::new()).await;
        Self {
            _folder: folder,
            keys: keys.unwrap(),
            db,
        }
    }

    async fn owner(&self) -> Principal {
        let (text, workspace, by) = (new_text().unwrap(), Workspace::default(), By::nobody());
        let made = self.keys.first(&by, &workspace, "admin", text.clone());
        made.await.unwrap();
        self.keys.find(&text).unwrap().0
    }

    /// The keys as another server sees them.
    async fn elsewhere(&self) -> Keys {
        let keys = Keys::open(self.db.clone(), Workspaces::default(), Vec::new()).await;
        keys.unwrap()
    }
}

fn new(role: Role, scopes: &[&str]) -> NewKey {
    NewKey {
        name: "ci".to_owned(),
        role,
        scopes: Scopes::new(scopes.iter().map(|it| (*it).to_owned())),
        expires_at: None,
        rate: None,
    }
}

#[tokio::test]
async fn a_key_is_found_by_its_text_alone() {
    let house = House::new().await;
    let owner = house.owner().await;
    assert_eq!(
        (owner.role, owner.kind),
        (Some(Role::Owner), PrincipalKind::ApiKey)
    );
    let made = house
        .keys
        .create(&By::nobody(), &owner, new(Role::Member, &["use"]))
        .await;
    let (key, text) = made.unwrap();
    assert!(is_key(&text) && text.starts_with(PREFIX), "{text}");
    for keys in [house.keys.clone(), house.elsewhere().await] {
        let (found, _) = keys.find(&text).unwrap();
        assert_eq!(
            (&*found.id, found.role),
            (key.id.to_string().as_str(), Some(Role::Member))
        );
        assert_eq!(found.scopes.iter().collect::<Vec<_>>(), ["use"]);
        assert_eq!(keys.find(&text[..text.len() - 1]), None);
        // One character more or other is no key at all, and another key is another's.
        assert_eq!(keys.find(&new_text().unwrap()), None);
    }
    let listed = house.keys.list(&Workspace::default());
    assert_eq!(listed.len(), 2);
    let other = Workspace::new("other").unwrap();
    assert_eq!(house.keys.list(&other), []);
}

#[tokio::test]
async fn nobody_gives_more_than_they_have() {
    let house = House::new().await;
    let owner = house.owner().await;
    let by = By::nobody();
    let made = async |creator: &Principal, wish: NewKey| {
        let made = house.keys.create(&by, creator, wish).await?;
        Ok::<_, KeyError>(house.keys.find(&made.1).unwrap().0)
    };
    let admin = made(&owner, new(Role::Admin, &["read", "administer"]))
        .await
        .unwrap();
    let refused = made(&admin, new(Role::Owner, &["read"])).await;
    assert!(matches!(refused, Err(KeyError::TooMuch(_))), "{refused:?}");
    for scopes in [&["*"][..], &["use"], &["read", "use"]] {
        let refused = made(&admin, new(Role::Viewer, scopes)).await;
        assert!(
            matches!(refused, Err(KeyError::TooMuch(_))),
            "{scopes:?}: {refused:?}"
        );
    }
    made(&admin, new(Role::Viewer, &["read"])).await.unwrap();
    let agent = Principal {
        kind: PrincipalKind::Agent,
        role: None,
        ..owner.clone()
    };
    assert!(made(&agent, new(Role::Viewer, &["read"])).await.is_err());
    for wish in [
        new(Role::Viewer, &["no-such-scope"]),
        NewKey {
            name: " ".to_owned(),
            ..new(Role::Viewer, &["*"])
        },
        NewKey {
            name: "a\nb".to_owned(),
            ..new(Role::Viewer, &["*"])
        },
        NewKey {
            expires_at: Some(Timestamp::from_micros(1)),
            ..new(Role::Viewer, &["*"])
        },
    ] {
        let refused = made(&owner, wish).await;
        assert!(
            matches!(refused, Err(KeyError::Invalid { .. })),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_key_is_replaced_with_an_overlap_and_ended_at_once() {
    let house = House::new().await;
    let owner = house.owner().await;
    let by = By::nobody();
    let (old, first) = house
        .keys
        .create(&by, &owner, new(Role::Member, &["*"]))
        .await
        .unwrap();
    let rotated = house
        .keys
        .rotate(&by, &owner, old.id, Duration::from_secs(3_600), None)
        .await;
    let (second, text) = rotated.unwrap();
    assert_eq!((second.name.as_str(), second.role), ("ci", Role::Member));
    // Both count for a while.
    assert!(house.keys.find(&first).is_some() && house.keys.find(&text).is_some());
    let rotated = house
        .keys
        .rotate(&by, &owner, second.id, Duration::ZERO, None)
        .await;
    let (third, last) = rotated.unwrap();
    assert!(house.keys.find(&text).is_none() && house.keys.find(&last).is_some());
    house
        .keys
        .revoke(&by, &Workspace::default(), third.id)
        .await
        .unwrap();
    assert_eq!(house.keys.find(&last), None);
    assert_eq!(house.elsewhere().await.find(&last), None);
    let gone = house
        .keys
        .revoke(&by, &Workspace::default(), third.id)
        .await;
    assert!(matches!(gone, Err(KeyError::NotFound(_))));
    let other = Workspace::new("other").unwrap();
    let foreign = house.keys.revoke(&by, &other, old.id).await;
    assert!(matches!(foreign, Err(KeyError::NotFound(_))));
    let long = Duration::from_secs(3600 * 24 * 365);
    let refused = house.keys.rotate(&by, &owner, old.id, long, None).await;
    assert!(matches!(refused, Err(KeyError::Invalid { .. })));
    // Somebody must be able to come in.
    let id = owner.id.parse().unwrap();
    let refused = house.keys.revoke(&by, &Workspace::default(), id).await;
    assert!(matches!(refused, Err(KeyError::Last)));
}

#[tokio::test]
async fn the_last_use_is_kept_and_what_another_server_did_is_seen() {
    let house = House::new().await;
    let owner = house.owner().await;
    let (key, text) = house
        .keys
        .create(&By::nobody(), &owner, new(Role::Viewer, &["*"]))
        .await
        .unwrap();
    let used = |keys: &Keys| {
        let all = keys.list(&Workspace::default());
        all.into_iter().find(|it| it.id == key.id).unwrap().used_at
    };
    let other = house.elsewhere().await;
    assert_eq!(used(&other), None);
    other.find(&text).unwrap();
    let at = used(&other).unwrap();
    other.keep_uses().await.unwrap();
    house.keys.read().await.unwrap();
    assert_eq!(used(&house.keys), Some(at));
    other
        .revoke(&By::nobody(), &Workspace::default(), key.id)
        .await
        .unwrap();
    house.keys.read().await.unwrap();
    assert_eq!(house.keys.find(&text), None);
}

#[tokio::test]
async fn keys_of_the_configuration_count_and_are_in_no_store() {
    let house = House::new().await;
    let text = new_text().unwrap();
    let given = vec![(new(Role::Member, &["use"]), text.clone())];
    let keys = Keys::open(house.db.clone(), Workspaces::default(), given)
        .await
        .unwrap();
    assert_eq!(keys.find(&text).unwrap().0.role, Some(Role::Member));
    assert_eq!(keys.list(&Workspace::default()).len(), 1);
    assert!(house.elsewhere().await.is_empty());
}

#[test]
fn a_file_of_keys_is_read_or_its_line_named() {
    let text = new_text().unwrap();
    let read = read_file(&format!("# for CI\n\nci member use,agent:deploy {text}\n")).unwrap();
    let (new, read) = &read[0];
    assert_eq!(
        (new.name.as_str(), new.role, read),
        ("ci", Role::Member, &text)
    );
    for (line, why) in [
        (format!("ci member {text}"), "NAME ROLE SCOPES KEY"),
        (format!("ci king use {text}"), "king"),
        (format!("ci member everything {text}"), "everything"),
        (
            // Another last letter than the one that it has.
            format!(
                "ci member use {}{}",
                &text[..50],
                if text.ends_with('x') { 'y' } else { 'x' }
            ),
            "skep keys generate",
        ),
    ] {
        let refused = read_file(&format!("\n{line}\n")).unwrap_err();
        assert!(
            refused.starts_with("line 2: ") && refused.contains(why),
            "{refused}"
        );
        assert!(!refused.contains(&text[..50]), "{refused}");
    }
}

#[test]
fn the_checksum_is_that_of_the_standard() {
    // "123456789" has the CRC-32 cbf43926.
    let mut rest = 0xcbf4_3926_u32;
    let mut expected = [0; CHECK];
    for slot in expected.iter_mut().rev() {
        *slot = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    assert_eq!(checksum("123456789"), expected);
}

proptest! {
    #[test]
    fn a_mistyped_key_is_none(at in 0_usize..51, to in 0_usize..62) {
        let text = new_text().unwrap();
        prop_assert!(is_key(&text));
        let mut bytes = text.clone().into_bytes();
        bytes[at] = ALPHABET[to];
        let typed = String::from_utf8(bytes).unwrap();
        prop_assert_eq!(is_key(&typed), typed == text);
    }
}

#[tokio::test]
async fn a_canary_is_nothing_and_not_a_way_to_more() {
    let house = House::new().await;
    let owner = house.owner().await;
    let by = By::nobody();
    let made = async |creator: &Principal, wish: NewKey| {
        let made = house.keys.create(&by, creator, wish).await?;
        Ok::<_, KeyError>(house.keys.find(&made.1).unwrap().0)
    };
    let canary = || NewKey {
        scopes: Scopes::canary(),
        ..new(Role::Admin, &[])
    };
    let scoped = made(&owner, new(Role::Admin, &["administer"]))
        .await
        .unwrap();
    // Who may make keys may lay one out, whatever their own scopes are.
    let bait = made(&scoped, canary()).await.unwrap();
    assert!(bait.scopes.is_canary());
    assert_eq!(house.keys.name(&bait), "ci");
    // Beside another scope it is an unknown one.
    for scopes in [&["canary", "*"][..], &["canary", "read"]] {
        let refused = made(&scoped, new(Role::Viewer, scopes)).await;
        assert!(
            matches!(refused, Err(KeyError::Invalid { .. })),
            "{scopes:?}: {refused:?}"
        );
    }
    let id = bait.id.parse().unwrap();
    let next = house
        .keys
        .rotate(&by, &owner, id, Duration::ZERO, None)
        .await;
    let (next, _) = next.unwrap();
    assert!(next.scopes.is_canary());
}

#[test]
fn what_skep_gives_out_is_known_by_its_form() {
    for prefix in [PREFIX, "skep_session_", "skep_invite_"] {
        let text = new_text_of(prefix).unwrap();
        assert!(is_ours(&text), "{text}");
        assert!(!is_ours(&text[1..]) && !is_ours(&text[..text.len() - 1]));
        let other = if text.ends_with('0') { "1" } else { "0" };
        assert!(!is_ours(&format!("{}{other}", &text[..text.len() - 1])));
    }
    let key = crate::tokens::TokenKey::new(&[7; 32]);
    let workspace = "default".parse().unwrap();
    let token = key.of_instance(&workspace, "a", skep_core::InstanceId::new(), "skep");
    assert!(is_ours(&token), "{token}");
    assert!(!is_ours(&token[..token.len() - 4]) && !is_ours("skep_token_x.y"));
    for text in ["", "skep_", "skep_calls_accepted", "skep_ä"] {
        assert!(!is_ours(text), "{text}");
    }
}
