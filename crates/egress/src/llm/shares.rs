//! Budgets that several servers of one database hold together. Each may have so much open of a budget as the database says
//! it may: its share, which it takes before it lets anything out. Shares and what was spent never add up to more than the
//! budget; a share is a little more than what is needed, so that not each request asks the database, and goes back when it
//! is not used.

use std::sync::Arc;
use std::time::Duration;

use skep_core::Workspace;
use skep_store::{Scope, Unit};

use super::books::{Amount, Books, Granted, Over, Reservation, Short, Spender, Want};
use super::service::Models;
use crate::EgressError;
use crate::rows;

/// How long what has ended may take to the store.
const SOON: Duration = Duration::from_secs(3);
/// How often a share is taken that is gone when it comes: its window may have ended meanwhile.
const TRIES: u32 = 3;
/// How often shares that are not used go back.
const BACK: Duration = Duration::from_secs(1);

/// What the database says to a share that is wanted.
enum Said {
    Granted(Vec<(Want, Granted)>),
    Over(Over),
}

impl Models {
    /// Sets aside what an exchange may cost, with the other servers.
    pub(super) async fn take(
        &self,
        workspace: &Workspace,
        spender: &Spender<'_>,
        amount: Amount,
    ) -> Result<Reservation, EgressError> {
        let over = |over: Over| EgressError::OverBudget {
            budget: over.budget,
            rest: over.rest,
        };
        for _ in 0..TRIES {
            let now = self.0.db.clock().now();
            let short = self.books(workspace, |books| books.reserve(spender, amount, now));
            match short {
                Ok(reservation) => return Ok(reservation),
                Err(Short::Over(short)) => return Err(over(short)),
                Err(Short::Share) => {}
            }
            // One at a time: what one takes may do for the next.
            let turn = self.turn(workspace);
            let _turn = turn.lock().await;
            let now = self.0.db.clock().now();
            let again = self.books(workspace, |books| {
                let again = books.reserve(spender, amount, now);
                let wants = match again {
                    Err(Short::Share) => books.wants(Some((spender, amount)), now),
                    _ => Vec::new(),
                };
                (again, wants)
            });
            let wants = match again {
                (Ok(reservation), _) => return Ok(reservation),
                (Err(Short::Over(short)), _) => return Err(over(short)),
                (Err(Short::Share), wants) => wants,
            };
            match self.share(workspace, wants).await? {
                Said::Over(short) => {
                    self.books(workspace, |books| books.is_over(&short.budget, amount, now));
                    return Err(over(short));
                }
                Said::Granted(all) => {
                    let now = self.0.db.clock().now();
                    let taken = self.books(workspace, |books| {
                        for (want, granted) in &all {
                            books.grant(want, granted);
                        }
                        books.reserve(spender, amount, now)
                    });
                    if let Ok(reservation) = taken {
                        return Ok(reservation);
                    }
                }
            }
        }
        Err(EgressError::Busy)
    }

    /// Asks the database for shares: all that are wanted, or none.
    async fn share(&self, workspace: &Workspace, wants: Vec<Want>) -> Result<Said, EgressError> {
        // What has ended here is then counted there.
        let there = tokio::time::timeout(SOON, self.0.ledger.on_disk()).await;
        there.map_err(|_| EgressError::Busy)?;
        let (of, server) = (workspace.clone(), self.0.db.server().to_string());
        let write = move |unit: &mut Unit<'_>| {
            let now = unit.now();
            let mut scope = unit.scope(&of);
            scope.in_turn()?;
            let mut all = Vec::with_capacity(wants.len());
            for want in wants {
                match granted(&mut scope, &want, &server)? {
                    Some(granted) => all.push((want, granted)),
                    None => {
                        return Ok(Said::Over(Over {
                            budget: want.budget.name.clone(),
                            rest: want.budget.window.rest(now),
                        }));
                    }
                }
            }
            for (want, granted) in &all {
                let of = (want.key(), want.start);
                rows::put_share(&mut scope, (&of.0, of.1), (&server, granted.share))?;
            }
            Ok::<_, EgressError>(Said::Granted(all))
        };
        self.0.db.write(write).await
    }

    /// What nobody needs goes back, until the end.
    pub(super) async fn give_back(&self, stop: &tokio_util::sync::CancellationToken) {
        if !self.0.db.is_shared() {
            return;
        }
        let mut tick = tokio::time::interval(BACK);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.cancelled() => return,
            }
            let all: Vec<Workspace> = self.0.books.lock().keys().cloned().collect();
            for workspace in all {
                let now = self.0.db.clock().now();
                if self.books(&workspace, |books| books.has_unused(now)) {
                    // What does not go back now goes back later.
                    let _ = self.look(&workspace).await;
                }
            }
        }
    }

    /// Has no more of budgets than what is open, and sees what was spent of them by all.
    pub(super) async fn look(&self, workspace: &Workspace) -> Result<(), EgressError> {
        let turn = self.turn(workspace);
        let _turn = turn.lock().await;
        let now = self.0.db.clock().now();
        let wants = self.books(workspace, |books| books.wants(None, now));
        if wants.is_empty() {
            return Ok(());
        }
        if let Said::Granted(all) = self.share(workspace, wants).await? {
            self.books(workspace, |books| {
                for (want, granted) in &all {
                    books.grant(want, granted);
                }
            });
        }
        Ok(())
    }

    /// All that this server had open is settled: it has no share any more.
    pub(super) async fn begin_shares(&self, all: &[Workspace]) -> Result<(), EgressError> {
        if !self.0.db.is_shared() {
            return Ok(());
        }
        let (all, server) = (all.to_vec(), self.0.db.server().to_string());
        let write = move |unit: &mut Unit<'_>| {
            for workspace in &all {
                rows::drop_shares(&mut unit.scope(workspace), &server)?;
            }
            Ok::<_, EgressError>(())
        };
        self.0.db.write(write).await
    }

    /// This server ends: what it has of budgets goes back, when all that it had open is settled.
    pub(super) async fn end_shares(&self) {
        let all: Vec<Workspace> = self.0.books.lock().keys().cloned().collect();
        if let Err(error) = self.begin_shares(&all).await {
            tracing::warn!(%error, "shares of budgets stay taken until this server is back");
        }
    }

    fn turn(&self, workspace: &Workspace) -> Arc<tokio::sync::Mutex<()>> {
        let mut all = self.0.sharing.lock();
        all.entry(workspace.clone()).or_default().clone()
    }

    /// The budgets of a workspace, as this server holds them.
    pub(super) fn books<T>(&self, workspace: &Workspace, look: impl FnOnce(&mut Books) -> T) -> T {
        let mut all = self.0.books.lock();
        let shared = self.0.db.is_shared();
        let books = all.entry(workspace.clone());
        look(books.or_insert_with(|| Books::new(shared)))
    }
}

/// The share that is granted; nothing, when there is not enough left.
fn granted(
    scope: &mut Scope<'_>,
    want: &Want,
    server: &str,
) -> Result<Option<Granted>, EgressError> {
    let budget = &want.budget;
    let spent = rows::spent(scope, &budget.subject, budget.window, want.start)?;
    let others = rows::others_share(scope, (&want.key(), want.start), server)?;
    Ok(want.grant(spent, others))
}
