//! Budgets: what they let in, their windows, and that none is overspent.

use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn budget(name: &str, subject: Subject, window: Window, dollars: i64) -> Budget {
    Budget {
        name: name.to_owned(),
        subject,
        window,
        most: Most::Money(Money::dollars(dollars)),
    }
}

fn dollars(dollars: i64) -> Amount {
    Amount {
        money: Money::dollars(dollars),
        tokens: 0,
    }
}

const ADA: Spender<'static> = Spender {
    kind: "agent",
    id: "ada",
    model: "openai/gpt",
};

#[test]
fn windows_begin_where_the_calendar_says() {
    // 2024-02-29 12:34:56 UTC, a leap day.
    let now = at(1_709_210_096);
    for (window, start, rest) in [
        (Window::Minute, 1_709_210_040, Some(4)),
        (Window::Day, 1_709_164_800, Some(41_104)),
        (Window::Month, 1_706_745_600, Some(41_104)),
        (Window::Total, 0, None),
    ] {
        assert_eq!(window.start(now), at(start), "{window:?}");
        assert_eq!(
            window.rest(now),
            rest.map(Duration::from_secs),
            "{window:?}"
        );
    }
    // 2025-12-31 23:59:59 and the second after it.
    assert_eq!(Window::Month.start(at(1_767_225_599)), at(1_764_547_200));
    assert_eq!(Window::Month.start(at(1_767_225_600)), at(1_767_225_600));
    assert_eq!(
        Window::Month.rest(at(1_767_225_599)),
        Some(Duration::from_secs(1))
    );
}

#[test]
fn an_exchange_is_let_in_by_all_of_its_budgets_or_by_none() {
    let mut books = Books::default();
    let now = at(1_000_000);
    books.put(
        budget("all", Subject::Workspace, Window::Day, 10),
        dollars(4),
        now,
    );
    books.put(
        budget("ada", Subject::Agent("ada".to_owned()), Window::Total, 3),
        Amount::default(),
        now,
    );
    let over = books.reserve(&ADA, dollars(4), now).unwrap_err();
    assert_eq!((over.budget.as_str(), over.rest), ("ada", None));
    assert!(books.standing(now).iter().all(|it| it.reserved == 0));
    let first = books.reserve(&ADA, dollars(3), now).unwrap();
    assert_eq!(
        books.reserve(&ADA, dollars(1), now).unwrap_err().budget,
        "ada"
    );
    let bob = Spender { id: "bob", ..ADA };
    assert_eq!(
        books.reserve(&bob, dollars(4), now).unwrap_err().budget,
        "all"
    );
    books.settle(&first, dollars(1));
    let spent: Vec<i128> = books.standing(now).iter().map(|it| it.spent).collect();
    assert_eq!(spent, [5_000_000_000, 1_000_000_000]);
    let _ = books.reserve(&bob, dollars(5), now).unwrap();
}

#[test]
fn a_window_that_is_over_takes_what_it_was_with_it() {
    let mut books = Books::default();
    books.put(
        budget("all", Subject::Workspace, Window::Minute, 2),
        Amount::default(),
        at(0),
    );
    let old = books.reserve(&ADA, dollars(2), at(59)).unwrap();
    assert_eq!(
        books.reserve(&ADA, dollars(1), at(59)).unwrap_err().rest,
        Some(Duration::from_secs(1))
    );
    let new = books.reserve(&ADA, dollars(2), at(60)).unwrap();
    books.settle(&old, dollars(2));
    assert_eq!(books.standing(at(60))[0].spent, 0);
    books.settle(&new, dollars(1));
    assert_eq!(books.standing(at(61))[0].spent, 1_000_000_000);
    // A clock that goes back opens no new window.
    assert_eq!(books.standing(at(10))[0].spent, 1_000_000_000);
}

#[test]
fn tokens_and_models_count_by_themselves() {
    let mut books = Books::default();
    let of_model = Subject::Model("openai/gpt".to_owned());
    let tokens = Budget {
        most: Most::Tokens(100),
        ..budget("gpt", of_model, Window::Total, 0)
    };
    books.put(tokens, Amount::default(), at(0));
    let amount = |tokens| Amount {
        money: Money::dollars(1_000),
        tokens,
    };
    let held = books.reserve(&ADA, amount(100), at(0)).unwrap();
    assert!(books.reserve(&ADA, amount(1), at(0)).is_err());
    let other = Spender {
        model: "openai/other",
        ..ADA
    };
    let _ = books.reserve(&other, amount(1_000), at(0)).unwrap();
    books.settle(&held, amount(40));
    let _ = books.reserve(&ADA, amount(60), at(0)).unwrap();
}

#[derive(Debug, Clone)]
enum Step {
    Begin(i64),
    End(usize, i64),
}

proptest! {
    /// Whatever begins and ends in whatever order: while nothing costs more than was set aside for it, a budget is
    /// never overspent, and nothing stays set aside.
    #[test]
    fn a_budget_is_never_overspent(steps in proptest::collection::vec(
        prop_oneof![
            (1..50_i64).prop_map(Step::Begin),
            (0..8_usize, 0..100_i64).prop_map(|(which, percent)| Step::End(which, percent)),
        ],
        1..200,
    )) {
        let mut books = Books::default();
        books.put(budget("all", Subject::Workspace, Window::Total, 100), Amount::default(), at(0));
        let (mut open, mut spent) = (Vec::new(), Money::ZERO);
        for step in steps {
            match step {
                Step::Begin(cost) => {
                    if let Ok(held) = books.reserve(&ADA, dollars(cost), at(0)) {
                        open.push((held, cost));
                    }
                }
                Step::End(which, percent) if !open.is_empty() => {
                    let (held, cost) = open.swap_remove(which % open.len());
                    let actual = Money::from_nanos(Money::dollars(cost).nanos() / 100 * percent);
                    books.settle(&held, Amount { money: actual, tokens: 0 });
                    spent += actual;
                }
                Step::End(..) => {}
            }
            let now = &books.standing(at(0))[0];
            let reserved: i64 = open.iter().map(|(_, cost)| cost).sum();
            prop_assert_eq!(now.spent, i128::from(spent.nanos()));
            prop_assert_eq!(now.reserved, i128::from(Money::dollars(reserved).nanos()));
            prop_assert!(now.spent + now.reserved <= i128::from(Money::dollars(100).nanos()));
        }
    }
}
