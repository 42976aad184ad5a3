//! People come by invitation, are known by sessions, and a workspace keeps an owner.

use std::net::IpAddr;
use std::time::Duration;

use skep_core::{UserId, Workspace as Name, Workspaces};
use skep_store::{By, Db, Options};
use tempfile::TempDir;

use super::*;
use crate::keys;
use crate::policy::{Principal, PrincipalKind, Role, Scopes};

pub(super) const PASSWORD: &str = "correct horse battery";

pub(super) struct House {
    _folder: TempDir,
    pub(super) db: Db,
    pub(super) users: Users,
    pub(super) sessions: Sessions,
    tenants: Tenants,
}

impl House {
    pub(super) async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let sets = [MIGRATIONS, keys::MIGRATIONS];
        let db = Db::open(Options::new(folder.path()), &sets).unwrap();
        let users = Users::new(db.clone());
        let options = SessionOptions {
            idle: Duration::from_secs(3600),
            lifetime: Duration::from_secs(24 * 3600),
        };
        Self {
            _folder: folder,
            sessions: Sessions::new(users.clone(), options).unwrap(),
            tenants: Tenants::open(db.clone()).await.unwrap(),
            users,
            db,
        }
    }

    pub(super) fn all(&self) -> std::sync::Arc<[Name]> {
        self.tenants.all().all()
    }

    pub(super) async fn join(&self, asker: &Principal, email: &str, role: Role) -> User {
        let by = By::nobody();
        let made = self.users.invite(&by, asker, email, role, INVITED_FOR);
        let (_, text) = made.await.unwrap();
        let offer = self.users.offer(&text, &self.all()).await.unwrap();
        let accepted = Accepted {
            name: "Ada".to_owned(),
            password: PASSWORD.to_owned(),
            remote: IpAddr::from([192, 0, 2, 9]),
        };
        let user = self.users.accept(&by, offer, accepted).await.unwrap();
        // It counts once.
        let again = self.users.offer(&text, &self.all()).await;
        assert!(matches!(again, Err(IdentityError::NoInvitation)));
        user
    }

    pub(super) async fn login<'a>(
        &self,
        email: &'a str,
        password: &str,
        how: impl FnOnce(&mut Login<'a>),
    ) -> Result<LoggedIn, IdentityError> {
        let mut login = Login {
            email,
            password: password.to_owned(),
            code: None,
            workspace: None,
            remote: IpAddr::from([192, 0, 2, 1]),
            agent: "test",
            device: None,
            before: None,
        };
        how(&mut login);
        self.sessions
            .login(login, &self.all(), |_, _| By::nobody())
            .await
    }

    pub(super) async fn find(&self, text: &str, wanted: Option<&Name>) -> Option<Known> {
        let found = self.sessions.find(text, wanted, &self.all()).await;
        found.unwrap()
    }
}

pub(super) fn owner(workspace: &Name) -> Principal {
    Principal {
        kind: PrincipalKind::ApiKey,
        id: "key".into(),
        workspace: workspace.clone(),
        role: Some(Role::Owner),
        scopes: Scopes::all(),
    }
}

#[tokio::test]
async fn who_is_invited_comes_in_and_is_known_by_the_session() {
    let house = House::new().await;
    let home = Name::default();
    let user = house
        .join(&owner(&home), " Ada@Example.COM ", Role::Member)
        .await;
    assert_eq!(user.email, "ada@example.com");
    let wrong = house
        .login("ada@example.com", "wrong horse battery", |_| ())
        .await;
    assert!(matches!(wrong, Err(IdentityError::WrongLogin)));
    let nobody = house.login("bob@example.com", PASSWORD, |_| ()).await;
    assert!(matches!(nobody, Err(IdentityError::WrongLogin)));
    let short = house.login("ada@example.com", "short", |_| ()).await;
    assert!(matches!(short, Err(IdentityError::WrongLogin)));
    let first = house
        .login("ADA@example.com", PASSWORD, |_| ())
        .await
        .unwrap();
    let known = house.find(&first.secret, None).await.unwrap();
    assert_eq!(
        (known.user, known.principal.role),
        (user.id, Some(Role::Member))
    );
    assert_eq!(known.principal.workspace, home);
    // Another login gives another session and ends the one that was shown.
    let before = first.secret.clone();
    let second = house
        .login("ada@example.com", PASSWORD, |login| {
            login.before = Some(&before);
        })
        .await
        .unwrap();
    assert_ne!(second.secret, first.secret);
    assert!(house.find(&first.secret, None).await.is_none());
    // Somebody else's session is not ended by showing it.
    house
        .join(&owner(&home), "eve@example.com", Role::Owner)
        .await;
    let of_ada = second.secret.clone();
    let eve = house
        .login("eve@example.com", PASSWORD, |login| {
            login.before = Some(&of_ada);
        })
        .await
        .unwrap();
    assert!(house.find(&second.secret, None).await.is_some());
    let by = By::nobody();
    let not_hers = house
        .sessions
        .end((&by, &home), eve.user.id, Some(known.session))
        .await;
    assert!(matches!(not_hers, Err(IdentityError::NoSession(_))));
    let ended = house.sessions.end((&by, &home), user.id, None).await;
    ended.unwrap();
    assert!(house.find(&second.secret, None).await.is_none());
    assert!(house.find("skep_session_", None).await.is_none());
    assert!(house.find("", None).await.is_none());
}

#[tokio::test]
async fn roles_are_given_by_who_has_them_and_an_owner_stays() {
    let house = House::new().await;
    let (home, by) = (Name::default(), By::nobody());
    let boss = house
        .join(&owner(&home), "boss@x.example", Role::Owner)
        .await;
    let admin = house
        .join(&owner(&home), "admin@x.example", Role::Admin)
        .await;
    let as_admin = Principal {
        id: admin.id.to_string().into(),
        role: Some(Role::Admin),
        ..owner(&home)
    };
    let users = &house.users;
    let too_much = users.invite(&by, &as_admin, "c@x.example", Role::Owner, INVITED_FOR);
    assert!(matches!(too_much.await, Err(IdentityError::TooMuch { .. })));
    for wish in [
        users.set_role(&by, &as_admin, admin.id, Role::Owner).await,
        users.set_role(&by, &as_admin, boss.id, Role::Viewer).await,
        users.remove(&by, &as_admin, boss.id).await,
    ] {
        assert!(
            matches!(wish, Err(IdentityError::TooMuch { .. })),
            "{wish:?}"
        );
    }
    let last = users.remove(&by, &owner(&home), boss.id).await;
    assert!(matches!(last, Err(IdentityError::LastOwner)));
    let last = users
        .set_role(&by, &owner(&home), boss.id, Role::Admin)
        .await;
    assert!(matches!(last, Err(IdentityError::LastOwner)));
    let made = users
        .set_role(&by, &owner(&home), admin.id, Role::Owner)
        .await;
    made.unwrap();
    users.remove(&by, &owner(&home), boss.id).await.unwrap();
    assert_eq!(users.role(&home, boss.id).await.unwrap(), None);
    // Who belongs nowhere is forgotten, and may come again.
    assert!(
        users
            .forget_if_homeless(boss.id, &house.all())
            .await
            .unwrap()
    );
    assert!(
        !users
            .forget_if_homeless(admin.id, &house.all())
            .await
            .unwrap()
    );
    let again = house
        .join(&owner(&home), "boss@x.example", Role::Viewer)
        .await;
    assert_ne!(again.id, boss.id);
    let missing = users.remove(&by, &owner(&home), UserId::new()).await;
    assert!(matches!(missing, Err(IdentityError::NoUser(_))));
}

#[tokio::test]
async fn workspaces_are_apart() {
    let house = House::new().await;
    let (home, by) = (Name::default(), By::nobody());
    let other = Name::new("other").unwrap();
    let user = house.join(&owner(&home), "a@x.example", Role::Owner).await;
    let made = house
        .tenants
        .create(&by, &other, "a", FirstOwner::User(user.id))
        .await;
    made.unwrap();
    let twice = house
        .tenants
        .create(&by, &other, "a", FirstOwner::User(user.id))
        .await;
    assert!(matches!(twice, Err(IdentityError::WorkspaceExists(_))));
    let taken = house
        .tenants
        .create(&by, &home, "a", FirstOwner::User(user.id))
        .await;
    assert!(matches!(taken, Err(IdentityError::WorkspaceExists(_))));
    let stranger = house
        .join(&owner(&other), "b@x.example", Role::Member)
        .await;
    let of_home = house.users.members(&home).await.unwrap();
    assert_eq!(of_home.len(), 1);
    assert_eq!(house.users.members(&other).await.unwrap().len(), 2);
    // Somebody of another workspace is nobody here.
    let unknown = house.users.remove(&by, &owner(&home), stranger.id).await;
    assert!(matches!(unknown, Err(IdentityError::NoUser(_))));
    let session = house.login("b@x.example", PASSWORD, |_| ()).await.unwrap();
    assert_eq!(session.workspace, other);
    assert!(house.find(&session.secret, Some(&home)).await.is_none());
    assert!(house.find(&session.secret, Some(&other)).await.is_some());
    let elsewhere = house
        .login("b@x.example", PASSWORD, |login| {
            login.workspace = Some(&home);
        })
        .await;
    assert!(matches!(elsewhere, Err(IdentityError::NoWorkspace(_))));
    // An invitation of one workspace is none of another.
    let (invitation, _) = house
        .users
        .invite(&by, &owner(&home), "c@x.example", Role::Viewer, INVITED_FOR)
        .await
        .unwrap();
    let not_here = house.users.withdraw(&by, &other, invitation.id).await;
    assert!(matches!(not_here, Err(IdentityError::NoInvitation)));
    // What is removed is gone, and its name stays taken.
    house.tenants.remove(&by, &other).await.unwrap();
    assert!(house.find(&session.secret, Some(&other)).await.is_none());
    assert_eq!(
        house.tenants.purge().await.unwrap(),
        std::slice::from_ref(&other)
    );
    assert_eq!(house.tenants.purge().await.unwrap(), []);
    assert_eq!(house.users.members(&other).await.unwrap(), []);
    let again = house
        .tenants
        .create(&by, &other, "a", FirstOwner::User(user.id))
        .await;
    assert!(matches!(again, Err(IdentityError::WorkspaceExists(_))));
    let stays = house.tenants.remove(&by, &home).await;
    assert!(matches!(stays, Err(IdentityError::WorkspaceInUse(_))));
    let elsewhere = Tenants::open(house.db.clone()).await.unwrap();
    assert_eq!(*elsewhere.all().all(), [home]);
}

#[tokio::test]
async fn a_second_factor_is_wanted_and_counts_once() {
    let house = House::new().await;
    let (home, by) = (Name::default(), By::nobody());
    let user = house.join(&owner(&home), "a@x.example", Role::Member).await;
    let factor = house.users.second_factor(user.id).await.unwrap();
    let seed = totp::from_base32(&factor.secret).unwrap();
    // Each counts for half a minute at least from when it is made.
    let code = |later: i64| {
        let now = house.db.clock().now().as_micros() / 1_000_000;
        format!("{:06}", totp::code(&seed, now / totp::STEP + later))
    };
    let before = code(0);
    let wrong = house.users.confirm(
        (&by, &home),
        user.id,
        "not the password",
        (&factor.secret, &before),
    );
    assert!(matches!(wrong.await, Err(IdentityError::WrongLogin)));
    let confirmed = house
        .users
        .confirm((&by, &home), user.id, PASSWORD, (&factor.secret, &before));
    let recovery = confirmed.await.unwrap();
    let asked = house.login("a@x.example", PASSWORD, |_| ()).await;
    assert!(matches!(asked, Err(IdentityError::SecondFactor)));
    let used = house
        .login("a@x.example", PASSWORD, |login| login.code = Some(&before))
        .await;
    assert!(
        matches!(used, Err(IdentityError::WrongLogin)),
        "it counted once"
    );
    let fresh = code(1);
    let fine = house
        .login("a@x.example", PASSWORD, |login| login.code = Some(&fresh))
        .await;
    fine.unwrap();
    let once = house
        .login("a@x.example", PASSWORD, |login| {
            login.code = Some(&recovery[3]);
        })
        .await;
    once.unwrap();
    let twice = house
        .login("a@x.example", PASSWORD, |login| {
            login.code = Some(&recovery[3]);
        })
        .await;
    assert!(matches!(twice, Err(IdentityError::WrongLogin)));
    the_seed_lives_on_with_another_password(&house, user.id, &seed, &recovery[4]).await;
}

/// It is not in the store as it is.
async fn the_seed_lives_on_with_another_password(
    house: &House,
    id: UserId,
    seed: &[u8],
    code: &str,
) {
    let (home, by) = (Name::default(), By::nobody());
    let stored = house.users.stored("a@x.example").await.unwrap().unwrap();
    let sealed = stored.seed.unwrap();
    assert!(!sealed.windows(seed.len()).any(|part| part == seed));
    let changed =
        house
            .users
            .change_password((&by, &home), id, (PASSWORD, "another horse battery"), None);
    changed.await.unwrap();
    let old = house
        .login("a@x.example", PASSWORD, |login| {
            login.code = Some(code);
        })
        .await;
    assert!(matches!(old, Err(IdentityError::WrongLogin)));
    let later = house
        .login("a@x.example", "another horse battery", |login| {
            login.code = Some(code);
        })
        .await;
    later.unwrap();
}

#[tokio::test]
async fn who_guesses_waits_and_who_knows_does_not() {
    let house = House::new().await;
    let home = Name::default();
    house.join(&owner(&home), "a@x.example", Role::Member).await;
    let here = IpAddr::from([198, 51, 100, 7]);
    let device = house
        .login("a@x.example", PASSWORD, |login| login.remote = here)
        .await
        .unwrap()
        .device;
    let mut waits = 0;
    for _ in 0..8 {
        match house.login("a@x.example", "a wrong password", |_| ()).await {
            Err(IdentityError::Wait(wait)) => {
                waits += 1;
                assert!(!wait.is_zero());
            }
            other => assert!(matches!(other, Err(IdentityError::WrongLogin))),
        }
    }
    assert!(waits >= 1, "{waits}");
    // From there the right one waits too; from elsewhere it does not.
    let there = house.login("a@x.example", PASSWORD, |_| ()).await;
    assert!(matches!(there, Err(IdentityError::Wait(_))));
    let fine = house
        .login("a@x.example", PASSWORD, |login| {
            login.remote = here;
            login.device = Some(&device);
        })
        .await;
    fine.unwrap();
}

#[tokio::test]
async fn a_password_is_guessed_nowhere_else_either() {
    let house = House::new().await;
    let (home, by) = (Name::default(), By::nobody());
    let other = Name::new("other").unwrap();
    let user = house.join(&owner(&home), "a@x.example", Role::Member).await;
    let (first, _) = FirstOwner::new_key(&other, "eve", house.db.clock().now()).unwrap();
    let made = house.tenants.create(&by, &other, "eve", first).await;
    made.unwrap();
    // By an invitation to a workspace of the one who guesses.
    let mut waits = 0;
    for _ in 0..8 {
        let asker = owner(&other);
        let made = house
            .users
            .invite(&by, &asker, "a@x.example", Role::Viewer, INVITED_FOR);
        let text = made.await.unwrap().1;
        let offer = house.users.offer(&text, &house.all()).await;
        let accepted = Accepted {
            name: String::new(),
            password: "a wrong password".to_owned(),
            remote: IpAddr::from([198, 51, 100, 9]),
        };
        let joined = house.users.accept(&by, offer.unwrap(), accepted).await;
        waits += usize::from(matches!(joined, Err(IdentityError::Wait(_))));
        assert!(joined.is_err());
    }
    assert!(waits >= 1);
    // By a session that was stolen.
    let mut waits = 0;
    for _ in 0..8 {
        let wish = ("a wrong password", "another horse battery");
        let of = (&by, &home);
        let changed = house.users.change_password(of, user.id, wish, None);
        let changed = changed.await;
        waits += usize::from(matches!(changed, Err(IdentityError::Wait(_))));
        assert!(changed.is_err());
    }
    assert!(waits >= 1);
}

#[test]
fn addresses_have_one_form() {
    for (text, form) in [
        ("ada@example.com", Some("ada@example.com")),
        (" Ada+x@EXAMPLE.com\n", Some("ada+x@example.com")),
        ("ädä@bücher.example", Some("ädä@bücher.example")),
        ("ada", None),
        ("@example.com", None),
        ("ada@", None),
        ("a b@example.com", None),
        ("a@b@example.com", None),
        ("ada@-example.com", None),
        ("<ada@example.com>", None),
        ("ada@example.com\r\nBcc: x", None),
    ] {
        assert_eq!(normal_email(text).ok().as_deref(), form, "{text}");
    }
    assert!(normal_email(&format!("{}@x.example", "a".repeat(300))).is_err());
}

#[tokio::test]
async fn keys_see_the_workspaces_that_there_are() {
    let house = House::new().await;
    let other = Name::new("other").unwrap();
    let keys = keys::Keys::open(house.db.clone(), house.tenants.all().clone(), Vec::new());
    let keys = keys.await.unwrap();
    let (first, text) = FirstOwner::new_key(&other, "me", house.db.clock().now()).unwrap();
    house
        .tenants
        .create(&By::nobody(), &other, "me", first)
        .await
        .unwrap();
    keys.read().await.unwrap();
    let (found, _) = keys.find(&text).unwrap();
    assert_eq!(
        (found.workspace, found.role),
        (other.clone(), Some(Role::Owner))
    );
    house.tenants.remove(&By::nobody(), &other).await.unwrap();
    keys.read().await.unwrap();
    assert_eq!(keys.find(&text), None);
    let _: Workspaces = house.tenants.all().clone();
}
