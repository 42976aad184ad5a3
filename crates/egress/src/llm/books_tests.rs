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
        alerts: Vec::new(),
    }
}

fn dollars(dollars: i64) -> Amount {
    Amount {
        money: Money::dollars(dollars),
        ..Amount::default()
    }
}

const ADA: Spender<'static> = Spender {
    kind: "agent",
    id: "ada",
    on: On::Model("openai/gpt"),
};

fn over(short: Result<Reservation, Short>) -> Over {
    match short {
        Err(Short::Over(over)) => over,
        other => panic!("{other:?}"),
    }
}

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
    let short = over(books.reserve(&ADA, dollars(4), now));
    assert_eq!((short.budget.as_str(), short.rest), ("ada", None));
    assert!(books.standing(now).iter().all(|it| it.reserved == 0));
    let first = books.reserve(&ADA, dollars(3), now).unwrap();
    assert_eq!(over(books.reserve(&ADA, dollars(1), now)).budget, "ada");
    let bob = Spender { id: "bob", ..ADA };
    assert_eq!(over(books.reserve(&bob, dollars(4), now)).budget, "all");
    books.settle(&first, dollars(1));
    let spent: Vec<i128> = books.standing(now).iter().map(|it| it.spent).collect();
    assert_eq!(spent, [5_000_000_000, 1_000_000_000]);
    let _ = books.reserve(&bob, dollars(5), now).unwrap();
}

#[test]
fn uses_of_tools_count_by_server_and_tool_and_cost_what_they_cost() {
    let mut books = Books::default();
    let now = at(1_000_000);
    let calls = |name: &str, subject: Subject, most: u64| Budget {
        most: Most::Calls(most),
        ..budget(name, subject, Window::Day, 0)
    };
    for budget in [
        calls("all", Subject::Workspace, 4),
        calls("docs", Subject::Server("docs".to_owned()), 3),
        calls("search", Subject::Tool("docs/search".to_owned()), 1),
        budget("money", Subject::Workspace, Window::Day, 2),
    ] {
        budget.check().unwrap();
        books.put(budget, Amount::default(), now);
    }
    let one = |dollars: i64| Amount {
        money: Money::dollars(dollars),
        calls: 1,
        ..Amount::default()
    };
    let uses = |tool: &'static str| Spender {
        on: On::Tool(tool),
        ..ADA
    };
    let first = books.reserve(&uses("docs/search"), one(0), now).unwrap();
    assert_eq!(
        over(books.reserve(&uses("docs/search"), one(0), now)).budget,
        "search"
    );
    let _ = books.reserve(&uses("docs/read"), one(2), now).unwrap();
    assert_eq!(
        over(books.reserve(&uses("docs/read"), one(1), now)).budget,
        "money"
    );
    let _ = books.reserve(&uses("docs/read"), one(0), now).unwrap();
    assert_eq!(
        over(books.reserve(&uses("docs/read"), one(0), now)).budget,
        "docs"
    );
    // One that has another name in front is another server.
    let _ = books.reserve(&uses("docs-2/read"), one(0), now).unwrap();
    assert_eq!(
        over(books.reserve(&uses("web/read"), one(0), now)).budget,
        "all"
    );
    books.settle(&first, one(0));
    assert_eq!(
        over(books.reserve(&uses("docs/search"), one(0), now)).budget,
        "all"
    );
    // A model is no tool, and no tool has tokens.
    let _ = books.reserve(&ADA, dollars(0), now).unwrap();
    for (subject, most) in [
        (Subject::Model("a/b".to_owned()), Most::Calls(1)),
        (Subject::Tool("a/b".to_owned()), Most::Tokens(1)),
        (Subject::Server("a".to_owned()), Most::Tokens(1)),
        (Subject::Server("a".to_owned()), Most::Requests(1)),
        (Subject::Rule("a".to_owned()), Most::Calls(1)),
        (
            Subject::Rule("a".to_owned()),
            Most::Money(Money::dollars(1)),
        ),
    ] {
        let odd = Budget {
            most,
            ..budget("odd", subject, Window::Day, 0)
        };
        assert!(odd.check().is_err(), "{odd:?}");
    }
}

#[test]
fn what_spends_nothing_of_a_budget_is_not_held_up_by_it() {
    let mut books = Books::default();
    let now = at(1_000_000);
    let tokens = Budget {
        most: Most::Tokens(10),
        ..budget("tokens", Subject::Workspace, Window::Day, 0)
    };
    let spent = Amount {
        money: Money::dollars(9),
        tokens: 11,
        ..Amount::default()
    };
    books.put(tokens, spent, now);
    books.put(
        budget("money", Subject::Workspace, Window::Day, 2),
        spent,
        now,
    );
    let tool = Spender {
        on: On::Tool("docs/search"),
        ..ADA
    };
    let free = Amount {
        calls: 1,
        ..Amount::default()
    };
    let _ = books.reserve(&tool, free, now).unwrap();
    assert_eq!(over(books.reserve(&ADA, dollars(0), now)).budget, "tokens");
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
        over(books.reserve(&ADA, dollars(1), at(59))).rest,
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
        ..Amount::default()
    };
    let held = books.reserve(&ADA, amount(100), at(0)).unwrap();
    assert!(books.reserve(&ADA, amount(1), at(0)).is_err());
    let other = Spender {
        on: On::Model("openai/other"),
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
                    books.settle(&held, Amount { money: actual, ..Amount::default() });
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

/// What several servers do: one of them begins an exchange, ends one, or gives back what it does not need.
#[derive(Debug, Clone)]
enum Deed {
    Begin(usize, i64),
    End(usize, usize, i64),
    Back(usize),
    /// It wanted a share, and never learned what became of that.
    Lost(usize, i64),
}

/// The database: what was settled and came there, and the share of each server.
struct Shared {
    spent: Money,
    shares: Vec<i128>,
}

/// A server: its books, what is open, and what was settled and is not in the database yet.
struct One {
    books: Books,
    open: Vec<(Reservation, i64)>,
    late: Money,
}

impl One {
    /// Asks for shares, as `shares.rs` does.
    fn ask(&mut self, me: usize, wants: Vec<Want>, db: &mut Shared, hears: bool) {
        db.spent += std::mem::take(&mut self.late);
        let others: i128 = (0..db.shares.len())
            .filter(|it| *it != me)
            .map(|it| db.shares[it])
            .sum();
        for want in wants {
            let spent = Amount {
                money: db.spent,
                ..Amount::default()
            };
            if let Some(granted) = want.grant(spent, others) {
                db.shares[me] = granted.share;
                if hears {
                    self.books.grant(&want, &granted);
                }
            }
        }
    }
}

fn servers(count: usize) -> (Vec<One>, Shared) {
    let one = || {
        let mut books = Books::new(true);
        books.put(
            budget("all", Subject::Workspace, Window::Total, 100),
            Amount::default(),
            at(0),
        );
        One {
            books,
            open: Vec::new(),
            late: Money::ZERO,
        }
    };
    let db = Shared {
        spent: Money::ZERO,
        shares: vec![0; count],
    };
    ((0..count).map(|_| one()).collect(), db)
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    proptest::collection::vec(
        prop_oneof![
            4 => (0..3_usize, 1..30_i64).prop_map(|(who, cost)| Deed::Begin(who, cost)),
            4 => (0..3_usize, 0..8_usize, 0..100_i64).prop_map(|(who, which, percent)| Deed::End(who, which, percent)),
            1 => (0..3_usize).prop_map(Deed::Back),
            1 => (0..3_usize, 1..30_i64).prop_map(|(who, cost)| Deed::Lost(who, cost)),
        ],
        1..200,
    )
}

proptest! {
    /// Whatever three servers do: together they never overspend a budget, and when nothing is open any more, what is left
    /// of it can be had by any of them.
    #[test]
    fn servers_do_not_overspend_a_budget_together(deeds in deeds()) {
        let (mut all, mut db) = servers(3);
        let nanos = |dollars: i64| i128::from(Money::dollars(dollars).nanos());
        for deed in deeds {
            match deed {
                Deed::Begin(who, cost) => {
                    let one = &mut all[who];
                    let mut held = one.books.reserve(&ADA, dollars(cost), at(0));
                    if held == Err(Short::Share) {
                        let wants = one.books.wants(Some((&ADA, dollars(cost))), at(0));
                        one.ask(who, wants, &mut db, true);
                        held = one.books.reserve(&ADA, dollars(cost), at(0));
                    }
                    if let Ok(held) = held {
                        one.open.push((held, cost));
                    }
                }
                Deed::End(who, which, percent) if !all[who].open.is_empty() => {
                    let one = &mut all[who];
                    let (held, cost) = one.open.swap_remove(which % one.open.len());
                    let actual = Money::from_nanos(Money::dollars(cost).nanos() / 100 * percent);
                    one.books.settle(&held, Amount { money: actual, ..Amount::default() });
                    one.late += actual;
                }
                Deed::End(..) => {}
                Deed::Back(who) => {
                    let wants = all[who].books.wants(None, at(0));
                    all[who].ask(who, wants, &mut db, true);
                }
                Deed::Lost(who, cost) => {
                    let wants = all[who].books.wants(Some((&ADA, dollars(cost))), at(0));
                    all[who].ask(who, wants, &mut db, false);
                }
            }
            let open: i64 = all.iter().flat_map(|it| &it.open).map(|(_, cost)| cost).sum();
            let late: i128 = all.iter().map(|it| i128::from(it.late.nanos())).sum();
            prop_assert!(i128::from(db.spent.nanos()) + late + nanos(open) <= nanos(100));
        }
        for (who, one) in all.iter_mut().enumerate() {
            for (held, _) in std::mem::take(&mut one.open) {
                one.books.settle(&held, Amount::default());
            }
            let wants = one.books.wants(None, at(0));
            one.ask(who, wants, &mut db, true);
            prop_assert!(!one.books.has_unused(at(0)));
        }
        prop_assert!(db.shares.iter().all(|it| *it == 0), "{:?}", db.shares);
        let rest = Amount { money: Money::from_nanos(Money::dollars(100).nanos() - db.spent.nanos()), ..Amount::default() };
        if rest.money > Money::ZERO {
            let one = &mut all[0];
            let wants = one.books.wants(Some((&ADA, rest)), at(0));
            one.ask(0, wants, &mut db, true);
            let held = one.books.reserve(&ADA, rest, at(0));
            prop_assert!(held.is_ok(), "{held:?}");
        }
    }
}
