//! Whom an account at a provider lets in, and who is never let in by one.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use skep_core::{UserId, Workspace as Name};
use skep_crypto::passphrase::Passphrase;
use skep_store::{By, Unit};

use super::identity_tests::{House, PASSWORD, owner};
use super::password::Kept;
use super::users::{hash, still_opens};
use super::*;
use crate::policy::Role;

const REMOTE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn proof(subject: &str, email: Option<&str>) -> Proof {
    Proof {
        provider: "corp".to_owned(),
        issuer: "https://id.example.com".to_owned(),
        subject: subject.to_owned(),
        email: email.map(str::to_owned),
        name: "Ada".to_owned(),
        second_factor: false,
    }
}

fn trusted() -> Admits {
    Admits {
        by_email: true,
        join: None,
    }
}

async fn come(house: &House, proof: &Proof, admits: &Admits) -> Result<LoggedIn, IdentityError> {
    let visit = Visit {
        workspace: None,
        remote: REMOTE,
        agent: "test",
        device: None,
        before: None,
    };
    let proven = (proof.clone(), admits.clone());
    house
        .sessions
        .login_proven(proven, visit, &house.all(), |_, _| By::nobody())
        .await
}

/// A session of somebody who has a password.
async fn session(house: &House, id: UserId, email: &str) -> (UserId, [u8; 32]) {
    let begun = house.login(email, PASSWORD, |_| ()).await.unwrap();
    (id, hash(&begun.secret))
}

/// Relies on a password that was right before it was taken away.
async fn late_password(house: &House, id: UserId) -> Result<(), IdentityError> {
    let was = Kept::of(&Passphrase::new(PASSWORD).unwrap()).unwrap().0;
    let rely = move |unit: &mut Unit<'_>| still_opens(unit, id, Some(&was));
    house.db.write(rely).await
}

#[tokio::test]
async fn an_account_is_somebody_by_issuer_and_subject() {
    let house = House::new().await;
    let (home, by) = (Name::default(), By::nobody());
    let ada = house
        .join(&owner(&home), "ada@example.com", Role::Member)
        .await;
    let hers = proof("ada", Some("ada@example.com"));
    for admits in [
        Admits::default(),
        Admits {
            join: Some((home.clone(), Role::Viewer)),
            ..Admits::default()
        },
    ] {
        let refused = come(&house, &hers, &admits).await;
        assert!(matches!(refused, Err(IdentityError::NotInvited)));
    }
    let silent = come(&house, &proof("ada", None), &trusted()).await;
    assert!(matches!(silent, Err(IdentityError::NotInvited)));
    assert_eq!(
        come(&house, &hers, &trusted()).await.unwrap().user.id,
        ada.id
    );
    // Linked is linked, whatever the address is now; another subject with the address is another account.
    let moved = proof("ada", Some("other@example.com"));
    assert_eq!(
        come(&house, &moved, &Admits::default())
            .await
            .unwrap()
            .user
            .id,
        ada.id
    );
    let other = proof("eve", Some("ada@example.com"));
    assert!(matches!(
        come(&house, &other, &Admits::default()).await,
        Err(IdentityError::NotInvited)
    ));
    let elsewhere = Proof {
        issuer: "https://evil.example".to_owned(),
        ..hers.clone()
    };
    assert!(matches!(
        come(&house, &elsewhere, &Admits::default()).await,
        Err(IdentityError::NotInvited)
    ));
    // It is nobody else's.
    let eve = house
        .join(&owner(&home), "eve@example.com", Role::Owner)
        .await;
    let taken = house
        .users
        .link(
            (&by, &home),
            session(&house, eve.id, "eve@example.com").await,
            hers.clone(),
        )
        .await;
    assert!(matches!(taken, Err(IdentityError::LinkTaken)));
}

#[tokio::test]
async fn without_a_link_its_sessions_end_and_those_with_a_password_do_not() {
    let house = House::new().await;
    let (home, by) = (Name::default(), By::nobody());
    let eve = house
        .join(&owner(&home), "eve@example.com", Role::Owner)
        .await;
    let hers = proof("eve at work", None);
    let own = session(&house, eve.id, "eve@example.com").await;
    let link = house.users.link((&by, &home), own, hers.clone());
    link.await.unwrap();
    let (by_link, by_password) = (
        come(&house, &hers, &Admits::default()).await.unwrap(),
        house
            .login("eve@example.com", PASSWORD, |_| ())
            .await
            .unwrap(),
    );
    let link = house.users.links(eve.id).await.unwrap()[0].id;
    let stolen = house.users.unlink((&by, &home), UserId::new(), link).await;
    assert!(matches!(stolen, Err(IdentityError::NoLink(_))));
    let dropped = house.users.unlink((&by, &home), eve.id, link).await;
    dropped.unwrap();
    assert!(house.find(&by_link.secret, None).await.is_none());
    assert!(house.find(&by_password.secret, None).await.is_some());
    assert!(matches!(
        come(&house, &hers, &Admits::default()).await,
        Err(IdentityError::NotInvited)
    ));
}

#[tokio::test]
async fn who_has_no_password_keeps_the_last_way_in() {
    let house = House::new().await;
    let (home, by) = (Name::default(), By::nobody());
    let admits = Admits {
        by_email: false,
        join: Some((home.clone(), Role::Viewer)),
    };
    let new = proof("new", Some("new@example.com"));
    let nameless = come(&house, &proof("new", None), &admits).await;
    assert!(matches!(nameless, Err(IdentityError::NotInvited)));
    let begun = come(&house, &new, &admits).await.unwrap();
    let role = house.users.role(&home, begun.user.id).await.unwrap();
    assert_eq!(role, Some(Role::Viewer));
    // There is no password that is right, the empty one included.
    for password in [PASSWORD, "", "            "] {
        let wrong = house.login("new@example.com", password, |_| ()).await;
        assert!(matches!(wrong, Err(IdentityError::WrongLogin)));
    }
    let id = begun.user.id;
    let asked = house
        .users
        .ask_again(id, Some(PASSWORD), begun.session.created_at)
        .await;
    assert!(matches!(asked, Err(IdentityError::WrongLogin)));
    house
        .users
        .ask_again(id, None, begun.session.created_at)
        .await
        .unwrap();
    let old = begun.session.created_at.minus(Duration::from_secs(601));
    let stale = house.users.ask_again(id, None, old).await;
    assert!(matches!(stale, Err(IdentityError::NotFresh)));
    let first = house.users.links(id).await.unwrap()[0].id;
    let last = house.users.unlink((&by, &home), id, first).await;
    assert!(matches!(last, Err(IdentityError::LastWayIn)));
    assert!(
        house.find(&begun.secret, None).await.is_some(),
        "nothing has happened"
    );
    let second = proof("second", None);
    house
        .users
        .link((&by, &home), (id, hash(&begun.secret)), second.clone())
        .await
        .unwrap();
    house.users.unlink((&by, &home), id, first).await.unwrap();
    assert_eq!(
        come(&house, &second, &Admits::default())
            .await
            .unwrap()
            .user
            .id,
        id
    );
    // Who is removed has no links left.
    house.users.remove(&by, &owner(&home), id).await.unwrap();
    assert!(
        house
            .users
            .forget_if_homeless(id, &house.all())
            .await
            .unwrap()
    );
    assert!(matches!(
        come(&house, &second, &Admits::default()).await,
        Err(IdentityError::NotInvited)
    ));
}

#[tokio::test]
async fn whoever_took_the_address_before_its_owner_came_has_nothing_after() {
    let house = House::new().await;
    let (home, by) = (Name::default(), By::nobody());
    // Eve takes an invitation for Ada's address, logs in, and links an account of hers.
    let eve = house
        .join(&owner(&home), "ada@example.com", Role::Member)
        .await;
    let session = house
        .login("ada@example.com", PASSWORD, |_| ())
        .await
        .unwrap();
    let eves = proof("eve", Some("eve@example.com"));
    let own = (eve.id, hash(&session.secret));
    let link = house.users.link((&by, &home), own, eves.clone());
    link.await.unwrap();
    // The provider that is trusted for Ada's address says who she is.
    let hers = proof("ada", Some("ada@example.com"));
    let ada = come(&house, &hers, &trusted()).await.unwrap();
    assert_eq!(ada.user.id, eve.id);
    assert!(house.find(&session.secret, None).await.is_none());
    let wrong = house.login("ada@example.com", PASSWORD, |_| ()).await;
    assert!(matches!(wrong, Err(IdentityError::WrongLogin)));
    let gone = come(&house, &eves, &trusted()).await;
    assert!(matches!(gone, Err(IdentityError::NotInvited)));
    assert_eq!(house.users.links(ada.user.id).await.unwrap().len(), 1);
    // What was on its way then comes too late.
    let late = house.users.link(
        (&by, &home),
        (eve.id, hash(&session.secret)),
        proof("late", None),
    );
    assert!(matches!(late.await, Err(IdentityError::NotFresh)));
    let read = late_password(&house, eve.id);
    assert!(matches!(read.await, Err(IdentityError::WrongLogin)));
    // From then on the account is hers: what she adds stays when she comes by another trusted one.
    let private = proof("ada at home", None);
    let own = (ada.user.id, hash(&ada.secret));
    let link = house.users.link((&by, &home), own, private);
    link.await.unwrap();
    let other = Proof {
        issuer: "https://other.example.com".to_owned(),
        ..hers
    };
    come(&house, &other, &trusted()).await.unwrap();
    assert!(house.find(&ada.secret, None).await.is_some());
    assert_eq!(house.users.links(ada.user.id).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_second_factor_here_wants_one_there() {
    let house = House::new().await;
    let (home, by) = (Name::default(), By::nobody());
    let ada = house
        .join(&owner(&home), "ada@example.com", Role::Member)
        .await;
    let factor = house.users.second_factor(ada.id).await.unwrap();
    let seed = totp::from_base32(&factor.secret).unwrap();
    let now = house.db.clock().now().as_micros() / 1_000_000;
    let code = format!("{:06}", totp::code(&seed, now / totp::STEP));
    let confirmed = house
        .users
        .confirm((&by, &home), ada.id, PASSWORD, (&factor.secret, &code));
    confirmed.await.unwrap();
    let one = proof("ada", Some("ada@example.com"));
    let refused = come(&house, &one, &trusted()).await;
    assert!(matches!(refused, Err(IdentityError::ProviderFactor)));
    assert!(
        house.users.links(ada.id).await.unwrap().is_empty(),
        "nothing was linked"
    );
    let two = Proof {
        second_factor: true,
        ..one.clone()
    };
    come(&house, &two, &trusted()).await.unwrap();
    let refused = come(&house, &one, &Admits::default()).await;
    assert!(matches!(refused, Err(IdentityError::ProviderFactor)));
}

#[tokio::test]
async fn an_invitation_is_taken_by_the_account_with_its_address() {
    let house = House::new().await;
    let (home, by) = (Name::default(), By::nobody());
    let invite = async |email: &str| {
        let made = house
            .users
            .invite(&by, &owner(&home), email, Role::Admin, INVITED_FOR)
            .await;
        made.unwrap().1
    };
    let text = invite("ada@example.com").await;
    let take = async |text: &str, proof: Proof, admits: Admits| {
        let offer = house.users.offer(text, &house.all()).await?;
        house
            .users
            .accept_proven(&by, offer, (proof, admits), "")
            .await
    };
    for wrong in [proof("eve", Some("eve@example.com")), proof("ada", None)] {
        let refused = take(&text, wrong, trusted()).await;
        assert!(matches!(refused, Err(IdentityError::NotInvited)));
    }
    let hers = proof("ada", Some("ada@example.com"));
    let ada = take(&text, hers.clone(), Admits::default()).await.unwrap();
    assert_eq!(
        come(&house, &hers, &Admits::default())
            .await
            .unwrap()
            .user
            .id,
        ada.id
    );
    let again = take(&text, hers.clone(), Admits::default()).await;
    assert!(matches!(again, Err(IdentityError::NoInvitation)));
    // Somebody who is here with a password is not taken over by an invitation and an address.
    house
        .join(&owner(&home), "bob@example.com", Role::Owner)
        .await;
    let text = invite("bob@example.com").await;
    let bobs = proof("bob", Some("bob@example.com"));
    let refused = take(&text, bobs.clone(), Admits::default()).await;
    assert!(matches!(refused, Err(IdentityError::NotInvited)));
    take(&text, bobs, trusted()).await.unwrap();
}

#[tokio::test]
async fn a_login_and_a_proof_count_once() {
    let house = House::new().await;
    let begun = Begun {
        provider: "corp".to_owned(),
        back: Some("/x".to_owned()),
        workspace: Some(Name::default()),
        challenge: None,
    };
    house
        .users
        .begin_login([7; 32], begun.clone(), REMOTE)
        .await
        .unwrap();
    assert_eq!(house.users.take_login([8; 32]).await.unwrap(), None);
    assert_eq!(
        house.users.take_login([7; 32]).await.unwrap(),
        Some(begun.clone())
    );
    assert_eq!(house.users.take_login([7; 32]).await.unwrap(), None);
    // From one network so many at once, from another more.
    let mut last = Ok(());
    for number in 0..60_u8 {
        last = house
            .users
            .begin_login([number; 32], begun.clone(), REMOTE)
            .await;
    }
    assert!(matches!(last, Err(IdentityError::Wait(_))));
    let elsewhere = IpAddr::from([198, 51, 100, 1]);
    house
        .users
        .begin_login([99; 32], begun, elsewhere)
        .await
        .unwrap();

    let verifier = "v".repeat(43);
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
    let of = proof("ada", None);
    let keep = async || {
        house
            .users
            .keep_proof(challenge.clone(), of.clone())
            .await
            .unwrap()
    };
    let code = keep().await;
    let other = house.users.take_proof(&"w".repeat(43), &code).await;
    assert!(matches!(other, Err(IdentityError::NoProof)));
    let mine = house
        .users
        .take_proof(&verifier, &code.to_lowercase())
        .await;
    assert_eq!(mine.unwrap(), of);
    assert!(
        house.users.take_proof(&verifier, &code).await.is_err(),
        "once"
    );
    // Nobody tries codes for long.
    let code = keep().await;
    for _ in 0..5 {
        assert!(
            house
                .users
                .take_proof(&verifier, "ABCD-EFGH")
                .await
                .is_err()
        );
    }
    assert!(house.users.take_proof(&verifier, &code).await.is_err());
    // The last of several that are kept for one program counts.
    let (first, second) = (keep().await, keep().await);
    assert!(house.users.take_proof(&verifier, &first).await.is_err());
    house.users.take_proof(&verifier, &second).await.unwrap();
}
