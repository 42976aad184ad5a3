//! Models: providers, what they cost, what may be spent on them, and the exchanges with them.

mod alerts;
mod answer;
mod books;
mod bound;
mod check;
mod exchange;
mod guard;
mod happened;
mod headers;
mod health;
mod history;
mod injection;
mod inputs;
mod keeping;
mod keys;
mod numbers;
mod personal;
mod plan;
mod preferences;
mod prices;
mod prompts;
mod provider;
mod recordings;
mod route;
pub(crate) mod scores;
mod send;
mod service;
mod shares;
mod similar;
mod stored;
mod uses;
mod versions;
mod wishes;

pub use books::{
    Amount, Books, Budget, Granted, Most, On, Over, Reservation, Short, Spender, Standing, Subject,
    Want, Window,
};
pub use bound::{Bound, Record};
pub use check::KeyCheck;
pub use exchange::Body;
pub use happened::{Event, Happened};
pub use health::Condition;
pub use injection::{Injection, Place, Signal};
pub use inputs::{Inputs, Looks};
pub use personal::{Patterns, Personal};
pub use plan::{Plan, Target};
pub use preferences::{EVERYBODY, Injections, Leaks, Preferences, Temperature};
pub use prices::{BadPrices, Price, Prices};
pub use prompts::{
    Listed, Made, Message, Move, Prompt, PromptLeg, Role, Version, VersionUsage,
    Which as WhichVersion,
};
pub use provider::{Door, Kind, Provider, Wish};
pub use route::{Leg, Pick, Route};
pub use scores::Scored;
pub use service::{Keys, Models, Options, Who, Witness};
pub use similar::{Nearness, Similar};
pub(crate) use uses::{one_call, one_request};
pub use versions::{Bad, RouteVersion};
