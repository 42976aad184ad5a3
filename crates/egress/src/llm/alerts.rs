//! Budgets of which so much is spent that somebody wants to know.

use skep_core::Workspace;

use super::books::{Most, Standing};
use super::service::Models;
use crate::EgressError;

/// Parts of a budget that are told of.
pub(super) const MOST_ALERTS: usize = 10;

impl Standing {
    /// The parts, of a hundred, that are told of and reached.
    #[must_use]
    pub fn reached(&self) -> Vec<u8> {
        let most = match self.budget.most {
            Most::Money(money) => i128::from(money.nanos()),
            Most::Tokens(most) | Most::Calls(most) | Most::Requests(most) => i128::from(most),
        };
        let is_reached = |part: &u8| self.spent * 100 >= most * i128::from(*part);
        let all = self.budget.alerts.iter().copied();
        all.filter(is_reached).collect()
    }
}

impl Models {
    /// Budgets of a workspace that have parts to be told of, as they stand.
    ///
    /// # Errors
    /// The store's own.
    pub async fn watched_budgets(
        &self,
        workspace: &Workspace,
    ) -> Result<Vec<Standing>, EgressError> {
        let now = self.0.db.clock().now();
        let has = |all: Vec<Standing>| all.iter().any(|it| !it.budget.alerts.is_empty());
        if !has(self.books(workspace, |books| books.standing(now))) {
            return Ok(Vec::new());
        }
        let mut all = self.budgets(workspace).await?;
        all.retain(|it| !it.budget.alerts.is_empty());
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use skep_core::Timestamp;

    use super::*;
    use crate::Money;
    use crate::llm::{Budget, Subject, Window};

    fn standing(most: Most, spent: i128, alerts: &[u8]) -> Standing {
        let budget = Budget {
            name: "all".to_owned(),
            subject: Subject::Workspace,
            window: Window::Day,
            most,
            alerts: alerts.to_vec(),
        };
        Standing {
            budget,
            spent,
            reserved: 0,
            start: Timestamp::default(),
        }
    }

    #[test]
    fn a_part_is_reached_when_so_much_is_spent() {
        let reached = |spent| standing(Most::Tokens(1_000), spent, &[50, 80, 100]).reached();
        assert_eq!(reached(499), Vec::<u8>::new());
        assert_eq!(reached(500), [50]);
        assert_eq!(reached(999), [50, 80]);
        assert_eq!(reached(5_000), [50, 80, 100]);
        let money = standing(Most::Money(Money::dollars(2)), 1_000_000_000, &[50]);
        assert_eq!(money.reached(), [50]);
    }

    proptest! {
        #[test]
        fn what_is_reached_stays_so(most in 0_u64..u64::MAX, spent in 0..i128::from(u64::MAX), more in 0..i128::from(u64::MAX)) {
            let all = [1, 50, 80, 100];
            let first = standing(Most::Tokens(most), spent, &all).reached();
            let then = standing(Most::Tokens(most), spent + more, &all).reached();
            prop_assert!(first.iter().all(|it| then.contains(it)));
        }
    }
}
