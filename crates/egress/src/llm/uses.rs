//! Uses of tools, which count for the same budgets as models: one is set aside before it begins, and counts when it has
//! ended.

use skep_core::Workspace;

use super::books::{Amount, Reservation, Spender};
use super::service::{Models, Who};
use crate::EgressError;
use crate::money::Money;

/// One use, which costs this.
const fn one(cost: Money) -> Amount {
    Amount {
        money: cost,
        tokens: 0,
        calls: 1,
    }
}

impl Models {
    /// Sets aside one use of a tool, `server/tool`, in all budgets that it counts for, or in none.
    pub(crate) async fn take_use(
        &self,
        who: &Who,
        tool: &str,
        price: Money,
    ) -> Result<Reservation, EgressError> {
        // The budgets are read with it.
        self.known(&who.workspace).await?;
        let spender = Spender {
            kind: who.kind,
            id: &who.id,
            model: "",
            tool,
        };
        self.take(&who.workspace, &spender, one(price)).await
    }

    /// A use has ended, and did cost this. The ledger has it before.
    pub(crate) fn settle_use(&self, workspace: &Workspace, held: &Reservation, cost: Money) {
        self.0.settle(workspace, held, one(cost));
    }

    /// A use did not begin.
    pub(crate) fn give_back_use(&self, workspace: &Workspace, held: &Reservation) {
        self.0.settle(workspace, held, Amount::default());
    }
}
