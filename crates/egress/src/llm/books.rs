//! Budgets while money is spent: what each exchange may cost at most is set aside before it begins, and what it did
//! cost counts when it has ended. No I/O; time is given.

use std::time::Duration;

use skep_core::Timestamp;

use super::alerts::MOST_ALERTS;
use super::prices::undated;
use super::provider::check_name;
use crate::EgressError;
use crate::money::Money;

const MOST_SUBJECT: usize = 200;

/// What an exchange costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// In money.
    pub money: Money,
    /// In tokens, in and out.
    pub tokens: u64,
    /// In uses of tools.
    pub calls: u64,
    /// In requests to the web.
    pub requests: u64,
}

/// A time over which a budget counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    /// A minute of the clock.
    Minute,
    /// A day (UTC).
    Day,
    /// A month (UTC).
    Month,
    /// For ever.
    Total,
}

/// Whose costs count.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The whole workspace's.
    Workspace,
    /// Those of one agent.
    Agent(String),
    /// Those of an API key, by its id.
    Key(String),
    /// Those of a person, by their id.
    User(String),
    /// Those of a model: `provider/model`.
    Model(String),
    /// Those of all tools of a server.
    Server(String),
    /// Those of a tool: `server/tool`.
    Tool(String),
    /// Those of what falls under a rule of the web.
    Rule(String),
}

/// How much may be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Most {
    /// So much money.
    Money(Money),
    /// So many tokens.
    Tokens(u64),
    /// So many uses of tools.
    Calls(u64),
    /// So many requests to the web.
    Requests(u64),
}

/// A budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Its name, of which there is one in a workspace.
    pub name: String,
    /// Whose costs count.
    pub subject: Subject,
    /// Over which time.
    pub window: Window,
    /// How much there may be of them.
    pub most: Most,
    /// At how many of a hundred of it somebody is told, once in each window.
    pub alerts: Vec<u8>,
}

/// Who spends, and on what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spender<'a> {
    /// What kind of principal: `agent`, `key`, `user`.
    pub kind: &'a str,
    /// Its id.
    pub id: &'a str,
    /// On what.
    pub on: On<'a>,
}

/// On what is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On<'a> {
    /// A model: `provider/model`.
    Model(&'a str),
    /// A tool: `server/tool`.
    Tool(&'a str),
    /// What falls under a rule of the web.
    Rule(&'a str),
}

impl<'a> On<'a> {
    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'a str {
        match self {
            Self::Model(name) | Self::Tool(name) | Self::Rule(name) => name,
        }
    }
}

/// Days from 1970-01-01 to the first of the month that a day is in.
fn month(day: i64) -> i64 {
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days: the days since the month began.
    let shifted = day + 719_468;
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    day - (of_year - (153 * march + 2) / 5)
}

const MINUTE: i64 = 60_000_000;

impl Window {
    /// When the one that holds a time began.
    #[must_use]
    pub fn start(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Minute => {
                let now = now.as_micros();
                Timestamp::from_micros(now - now.rem_euclid(MINUTE))
            }
            Self::Day => Timestamp::of_day(now.day()),
            Self::Month => Timestamp::of_day(month(now.day())),
            Self::Total => Timestamp::default(),
        }
    }

    /// How long until the next one begins; a total has none.
    #[must_use]
    pub fn rest(self, now: Timestamp) -> Option<Duration> {
        const LONGEST_MONTH: i64 = 31;
        let start = self.start(now);
        let next = match self {
            Self::Minute => Timestamp::from_micros(start.as_micros() + MINUTE),
            Self::Day => Timestamp::of_day(start.day() + 1),
            Self::Month => Timestamp::of_day(month(start.day() + LONGEST_MONTH)),
            Self::Total => return None,
        };
        Some(next.since(now))
    }

    /// All of them.
    pub const ALL: [Self; 4] = [Self::Minute, Self::Day, Self::Month, Self::Total];

    /// The window of a word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == word)
    }

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Day => "day",
            Self::Month => "month",
            Self::Total => "total",
        }
    }
}

impl Subject {
    /// The word for its kind, and whose it is; nothing for the workspace.
    #[must_use]
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Workspace => ("workspace", ""),
            Self::Agent(name) => ("agent", name),
            Self::Key(name) => ("key", name),
            Self::User(id) => ("user", id),
            Self::Model(model) => ("model", model),
            Self::Server(server) => ("server", server),
            Self::Tool(tool) => ("tool", tool),
            Self::Rule(rule) => ("rule", rule),
        }
    }

    /// The subject of a word and whose it is.
    #[must_use]
    pub fn of(kind: &str, whose: &str) -> Option<Self> {
        let whose = whose.to_owned();
        match kind {
            "workspace" => Some(Self::Workspace),
            "agent" => Some(Self::Agent(whose)),
            "key" => Some(Self::Key(whose)),
            "user" => Some(Self::User(whose)),
            "model" => Some(Self::Model(whose)),
            "server" => Some(Self::Server(whose)),
            "tool" => Some(Self::Tool(whose)),
            "rule" => Some(Self::Rule(whose)),
            _ => None,
        }
    }

    /// Whether what somebody spends counts.
    #[must_use]
    pub fn counts(&self, spender: &Spender<'_>) -> bool {
        match (self, spender.on) {
            (Self::Workspace, _) => true,
            (Self::Agent(_) | Self::Key(_) | Self::User(_), _) => {
                self.parts() == (spender.kind, spender.id)
            }
            // The same model, whatever its date.
            (Self::Model(model), On::Model(on)) => on == model || undated(on) == Some(model),
            (Self::Server(server), On::Tool(on)) => {
                let own = on.split_once('/');
                own.is_some_and(|(its, _)| its == server)
            }
            (Self::Tool(name), On::Tool(on)) | (Self::Rule(name), On::Rule(on)) => name == on,
            _ => false,
        }
    }
}

impl Budget {
    /// Whether all is as it may be.
    ///
    /// # Errors
    /// [`EgressError::Invalid`], with the field.
    pub fn check(&self) -> Result<(), EgressError> {
        let wrong = |field: &str, why: &str| Err(EgressError::Invalid(format!("`{field}`: {why}")));
        check_name(&self.name)?;
        let of_hundred = self.alerts.iter().all(|it| (1..=100).contains(it));
        let grow = self.alerts.windows(2).all(|pair| pair[0] < pair[1]);
        if self.alerts.len() > MOST_ALERTS || !of_hundred || !grow {
            return wrong("alerts", "10 at most, from 1 to 100, the least first");
        }
        if let Some((field, why)) = self.odd_unit() {
            return wrong(field, why);
        }
        let subject = match &self.subject {
            Subject::Workspace => return Ok(()),
            Subject::Agent(text)
            | Subject::Key(text)
            | Subject::User(text)
            | Subject::Model(text)
            | Subject::Server(text)
            | Subject::Tool(text)
            | Subject::Rule(text) => text,
        };
        match subject.is_empty()
            || subject.len() > MOST_SUBJECT
            || subject.chars().any(char::is_control)
        {
            true => wrong("of", "a name of 1 to 200 characters"),
            false => Ok(()),
        }
    }

    /// Which field says what its subject has none of, and why.
    const fn odd_unit(&self) -> Option<(&'static str, &'static str)> {
        let fits = match (&self.subject, self.most) {
            (Subject::Model(_), Most::Money(_) | Most::Tokens(_))
            | (Subject::Server(_) | Subject::Tool(_), Most::Money(_) | Most::Calls(_))
            | (Subject::Rule(_), Most::Requests(_)) => true,
            (Subject::Model(_) | Subject::Server(_) | Subject::Tool(_) | Subject::Rule(_), _) => {
                false
            }
            _ => true,
        };
        match self.most {
            _ if fits => None,
            Most::Money(_) => Some(("money", "the web costs none: a rule has `requests`")),
            Most::Tokens(_) => Some(("tokens", "they are of models")),
            Most::Calls(_) => Some(("calls", "they are of tools")),
            Most::Requests(_) => Some(("requests", "they are of the web")),
        }
    }

    /// Whether an exchange counts: what spends nothing that a budget counts is not held up by it.
    fn counts(&self, spender: &Spender<'_>, amount: &Amount) -> bool {
        let unit = match (self.most, spender.on) {
            (Most::Money(_) | Most::Tokens(_), On::Model(_))
            | (Most::Calls(_), On::Tool(_))
            | (Most::Requests(_), On::Rule(_)) => true,
            (Most::Money(_), _) => amount.money > Money::ZERO,
            _ => false,
        };
        unit && self.subject.counts(spender)
    }
}

impl Most {
    /// How much of an amount counts, and how much there may be.
    const fn measure(self, amount: &Amount) -> (i128, i128) {
        match self {
            Self::Money(most) => (amount.money.nanos() as i128, most.nanos() as i128),
            Self::Tokens(most) => (amount.tokens as i128, most as i128),
            Self::Calls(most) => (amount.calls as i128, most as i128),
            Self::Requests(most) => (amount.requests as i128, most as i128),
        }
    }
}

/// A budget, with what was spent of it in its window.
#[derive(Debug, Clone)]
struct Book {
    /// Of one that takes its place after it was removed, another.
    id: u64,
    budget: Budget,
    start: Timestamp,
    spent: i128,
    reserved: i128,
    /// What was settled here in its window, in all; and how much of that is in what was spent as the store had it.
    settled: i128,
    known: i128,
    /// What may be open of it here, when other servers hold it, too.
    share: Option<i128>,
    /// What others may have open, as the store said last.
    others: i128,
    /// So much was refused, until when that holds.
    refused: Option<(i128, Timestamp)>,
    /// A share was wanted, and what became of that is not known: the store may have a larger one.
    wanted: bool,
}

impl Book {
    /// What the store does not have yet as spent: what is set aside, and what was settled since it was asked.
    const fn open(&self) -> i128 {
        self.reserved + self.settled - self.known
    }

    fn turn(&mut self, now: Timestamp) {
        let start = self.budget.window.start(now);
        // A clock that is set back begins no new window.
        if start > self.start {
            (self.start, self.spent, self.reserved) = (start, 0, 0);
            (self.settled, self.known, self.others) = (0, 0, 0);
            self.refused = None;
            self.share = self.share.map(|_| 0);
        }
    }
}

/// The budgets of one workspace.
#[derive(Debug, Clone, Default)]
pub struct Books {
    all: Vec<Book>,
    last: u64,
    /// Other servers hold these budgets, too.
    shared: bool,
}

/// What is set aside. It must be settled.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Reservation {
    amount: Amount,
    /// Of which budgets, in which of their windows.
    parts: Vec<(u64, Timestamp)>,
}

/// There is not enough left of a budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Over {
    /// Its name.
    pub budget: String,
    /// When there is more.
    pub rest: Option<Duration>,
}

/// A share is by so much of what is left more than what is needed, and by so many times what is wanted at most.
const PART: i128 = 16;
const TIMES: i128 = 8;

/// For how long a refusal holds.
const REFUSED: Duration = Duration::from_millis(500);

/// Why nothing is set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Short {
    /// There is not enough left.
    Over(Over),
    /// This server's share is too small: a larger one may be had.
    Share,
}

/// A share of a budget that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    id: u64,
    /// Of which budget.
    pub budget: Budget,
    /// In which of its windows.
    pub start: Timestamp,
    /// What is open of it here, once the store has all that was settled.
    pub open: i128,
    /// What is wanted besides.
    pub wanted: i128,
    /// What was settled here.
    settled: i128,
}

impl Want {
    /// What all servers call the budget: one that counts something else is another, whatever its name is.
    #[must_use]
    pub fn key(&self) -> String {
        let (of, whose) = self.budget.subject.parts();
        let unit = match self.budget.most {
            Most::Money(_) => "money",
            Most::Tokens(_) => "tokens",
            Most::Calls(_) => "calls",
            Most::Requests(_) => "requests",
        };
        let window = self.budget.window.as_str();
        format!("{} {unit} {window} {of} {whose}", self.budget.name)
    }

    /// What may be granted, when so much was spent and others may have so much open: a little more than is needed, so that
    /// not each exchange asks. Nothing, when there is not enough left.
    #[must_use]
    pub fn grant(&self, spent: Amount, others: i128) -> Option<Granted> {
        let (spent, most) = self.budget.most.measure(&spent);
        let needed = self.open + self.wanted;
        let left = most - spent - others - needed;
        if left < 0 && self.wanted > 0 {
            return None;
        }
        let more = (left / PART).clamp(0, self.wanted * TIMES);
        Some(Granted {
            spent,
            others,
            share: needed + more,
        })
    }
}

/// A share that was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// What was spent as the store has it.
    pub spent: i128,
    /// What others may have open.
    pub others: i128,
    /// What may be open here.
    pub share: i128,
}

/// How a budget stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Which.
    pub budget: Budget,
    /// What was spent in its window: billionths of a dollar, tokens, uses of tools, or requests.
    pub spent: i128,
    /// What is set aside.
    pub reserved: i128,
    /// When its window began.
    pub start: Timestamp,
}

impl Books {
    /// Of a server that is alone, or of one of several.
    #[must_use]
    pub fn new(shared: bool) -> Self {
        Self {
            shared,
            ..Self::default()
        }
    }

    /// Takes a budget in, with what was spent of it in the window that holds `now`. One of its name is replaced; what
    /// is set aside of that stays so.
    pub fn put(&mut self, budget: Budget, spent: Amount, now: Timestamp) {
        let start = budget.window.start(now);
        let spent = budget.most.measure(&spent).0;
        let same = |it: &&mut Book| {
            it.budget.name == budget.name
                && it.budget.window == budget.window
                && it.budget.subject == budget.subject
        };
        if let Some(book) = self.all.iter_mut().find(same)
            && std::mem::discriminant(&book.budget.most) == std::mem::discriminant(&budget.most)
        {
            book.budget = budget;
            book.refused = None;
            return;
        }
        self.keep(|name| name != budget.name);
        self.last += 1;
        self.all.push(Book {
            id: self.last,
            budget,
            start,
            spent,
            reserved: 0,
            settled: 0,
            known: 0,
            share: self.shared.then_some(0),
            others: 0,
            refused: None,
            wanted: false,
        });
    }

    /// Takes away those whose names are not kept.
    pub fn keep(&mut self, kept: impl Fn(&str) -> bool) {
        self.all.retain(|it| kept(&it.budget.name));
    }

    /// The first budget that counts money, and counts for this.
    #[must_use]
    pub fn counts_money(&self, spender: &Spender<'_>) -> Option<&str> {
        let counts = |it: &&Book| {
            matches!(it.budget.most, Most::Money(_)) && it.budget.subject.counts(spender)
        };
        self.all
            .iter()
            .find(counts)
            .map(|it| it.budget.name.as_str())
    }

    /// Sets aside what an exchange may cost at most, in all budgets that it counts for, or in none.
    ///
    /// # Errors
    /// [`Short`], of the first that has not enough left, or not enough of a share.
    pub fn reserve(
        &mut self,
        spender: &Spender<'_>,
        amount: Amount,
        now: Timestamp,
    ) -> Result<Reservation, Short> {
        let counting = |it: &&mut Book| it.budget.counts(spender, &amount);
        for book in self.all.iter_mut().filter(counting) {
            book.turn(now);
            let (wanted, most) = book.budget.most.measure(&amount);
            let refused = |(least, until): (i128, Timestamp)| wanted >= least && now < until;
            match book.share {
                Some(_) if book.refused.is_some_and(refused) => {
                    return Err(Short::Over(Over {
                        budget: book.budget.name.clone(),
                        rest: book.budget.window.rest(now),
                    }));
                }
                Some(share) if book.open() + wanted > share => return Err(Short::Share),
                None if book.spent + book.reserved + wanted > most => {
                    return Err(Short::Over(Over {
                        budget: book.budget.name.clone(),
                        rest: book.budget.window.rest(now),
                    }));
                }
                _ => {}
            }
        }
        let mut parts = Vec::new();
        for book in self.all.iter_mut().filter(counting) {
            book.reserved += book.budget.most.measure(&amount).0;
            parts.push((book.id, book.start));
        }
        Ok(Reservation { amount, parts })
    }

    /// What was set aside is free again, and what the exchange did cost counts: in the windows in which it began.
    pub fn settle(&mut self, reservation: &Reservation, actual: Amount) {
        for (id, start) in &reservation.parts {
            let same = |it: &&mut Book| it.id == *id && it.start == *start;
            if let Some(book) = self.all.iter_mut().find(same) {
                let reserved = book.budget.most.measure(&reservation.amount).0;
                book.reserved -= reserved;
                // Something is free again.
                book.refused = None;
                let actual = book.budget.most.measure(&actual).0;
                book.spent += actual;
                book.settled += actual;
            }
        }
    }

    /// The shares that are wanted for what an exchange may cost; or none more than what is open. Until they are granted,
    /// nothing more is set aside.
    pub fn wants(&mut self, exchange: Option<(&Spender<'_>, Amount)>, now: Timestamp) -> Vec<Want> {
        let mut wants = Vec::new();
        for book in &mut self.all {
            book.turn(now);
            let (share, wanted) = match (book.share, exchange) {
                (None, _) => continue,
                (Some(share), None) => (share, 0),
                (Some(_), Some((spender, amount))) if !book.budget.counts(spender, &amount) => {
                    continue;
                }
                (Some(share), Some((_, amount))) => (share, book.budget.most.measure(&amount).0),
            };
            book.share = Some(share.min(book.open()));
            book.wanted = true;
            wants.push(Want {
                id: book.id,
                budget: book.budget.clone(),
                start: book.start,
                open: book.reserved,
                wanted,
                settled: book.settled,
            });
        }
        wants
    }

    /// There was not enough left of a budget: who wants as much is not let ask again at once.
    pub fn is_over(&mut self, budget: &str, amount: Amount, now: Timestamp) {
        if let Some(book) = self.all.iter_mut().find(|it| it.budget.name == budget) {
            let wanted = book.budget.most.measure(&amount).0;
            book.refused = Some((wanted, now.plus(REFUSED)));
        }
    }

    /// A share was granted.
    pub fn grant(&mut self, want: &Want, granted: &Granted) {
        let same = |it: &&mut Book| it.id == want.id && it.start == want.start;
        if let Some(book) = self.all.iter_mut().find(same) {
            book.known = want.settled;
            book.spent = granted.spent + book.settled - book.known;
            book.share = Some(granted.share);
            book.others = granted.others;
            book.wanted = false;
        }
    }

    /// Whether a share is larger than what is open, or may be.
    pub fn has_unused(&mut self, now: Timestamp) -> bool {
        let mut all = self.all.iter_mut();
        all.any(|book| {
            book.turn(now);
            let larger = |share| share > book.open() || book.wanted;
            book.share.is_some_and(larger)
        })
    }

    /// How all of them stand.
    #[must_use]
    pub fn standing(&mut self, now: Timestamp) -> Vec<Standing> {
        let all = self.all.iter_mut().map(|book| {
            book.turn(now);
            Standing {
                budget: book.budget.clone(),
                spent: book.spent,
                reserved: book.reserved + book.others,
                start: book.start,
            }
        });
        all.collect()
    }
}

#[cfg(test)]
#[path = "books_tests.rs"]
mod tests;
