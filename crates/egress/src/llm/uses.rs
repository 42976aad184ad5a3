//! Uses of tools and requests to the web, which count for the same budgets as models: one is set aside before it begins,
//! and counts when it has ended.

use skep_core::Workspace;

use super::books::{Amount, On, Reservation, Spender};
use super::service::{Models, Who};
use crate::EgressError;
use crate::money::Money;

/// One use of a tool, which costs this.
pub(crate) fn one_call(cost: Money) -> Amount {
    Amount {
        money: cost,
        calls: 1,
        ..Amount::default()
    }
}

/// One request to the web.
pub(crate) fn one_request() -> Amount {
    Amount {
        requests: 1,
        ..Amount::default()
    }
}

impl Models {
    /// Sets aside one use in all budgets that it counts for, or in none.
    pub(crate) async fn take_use(
        &self,
        who: &Who,
        on: On<'_>,
        one: Amount,
    ) -> Result<Reservation, EgressError> {
        // The budgets are read with it.
        self.known(&who.workspace).await?;
        let spender = Spender {
            kind: who.kind,
            id: &who.id,
            on,
        };
        self.take(&who.workspace, &spender, one).await
    }

    /// A use has ended, and did cost this. The ledger has it before.
    pub(crate) fn settle_use(&self, workspace: &Workspace, held: &Reservation, one: Amount) {
        self.0.settle(workspace, held, one);
    }

    /// A use did not begin.
    pub(crate) fn give_back_use(&self, workspace: &Workspace, held: &Reservation) {
        self.0.settle(workspace, held, Amount::default());
    }
}
