//! A run as it passes: what its agent sends is put in order and taken over, and what could not be applied is not told.

use super::event::Event;
use super::fold::{Fold, NotFolded};
use super::input::RunAgentInput;
use super::order::{End, Order};

/// A run as it passes.
#[derive(Debug)]
pub struct Run {
    order: Order,
    fold: Fold,
    /// Why a patch was left out, the last time.
    left_out: Option<NotFolded>,
}

impl Run {
    /// A run that is asked for.
    #[must_use]
    pub fn new(input: &RunAgentInput) -> Self {
        Self {
            order: Order::new(input),
            fold: Fold::new(input),
            left_out: None,
        }
    }

    /// Begins it, if it has not begun.
    pub fn start(&mut self) -> Vec<Event> {
        let told = self.order.start();
        self.folded(told)
    }

    /// Takes the next events of its agent, and gives those that are told.
    pub fn push(&mut self, events: Vec<Event>) -> Vec<Event> {
        let mut told = Vec::with_capacity(events.len());
        for event in events {
            let ordered = self.order.push(event);
            told.extend(self.folded(ordered));
        }
        told
    }

    /// Ends it, if its agent has not.
    pub fn end(&mut self, end: End) -> Vec<Event> {
        let told = self.order.end(end);
        self.folded(told)
    }

    /// What was said does not count any more, and another attempt follows ([`Order::again`]).
    pub fn again(&mut self, input: &RunAgentInput) -> Vec<Event> {
        let told = self.order.again(input);
        self.folded(told)
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.order.is_over()
    }

    /// What it has come to.
    #[must_use]
    pub fn fold(&self) -> &Fold {
        &self.fold
    }

    /// Why a patch was left out, the last time that one was.
    #[must_use]
    pub fn left_out(&self) -> Option<&NotFolded> {
        self.left_out.as_ref()
    }

    /// Takes over what is told. A patch that does not apply changes nothing for anybody, and clients would complain of it.
    fn folded(&mut self, mut told: Vec<Event>) -> Vec<Event> {
        told.retain(|event| match self.fold.apply(event) {
            Ok(()) | Err(NotFolded::TooMuch) => true,
            Err(why) => {
                self.left_out = Some(why);
                false
            }
        });
        told
    }
}
