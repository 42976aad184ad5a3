//! The service: runs begin and end in the units of their calls, and are looked at.

use skep_api::RunStatus;
use skep_core::{CallId, RunId, ThreadId, Timestamp, Workspace};
use skep_protocols::Recorder;
use skep_protocols::adapt::Protocol;
use skep_protocols::agui::RunAgentInput;
use skep_store::{By, Change, Db, Scope, StoreError, Unit};

use crate::pushes::Push;
use crate::rows::{self, Kept, Run, Thread};

const RUN: &str = "run";
const THREAD: &str = "thread";
/// Rows that are forgotten in one unit.
const AT_ONCE: u32 = 500;

/// Leaves the entry of a change of a thread.
fn did(
    scope: &mut Scope<'_>,
    by: &By,
    (id, what): (ThreadId, &str),
    now: Timestamp,
) -> Result<(), StoreError> {
    let change = Change {
        action: None,
        resource: ("Thread", &id.to_string()),
        what,
        hash: None,
    };
    by.did(scope, &change, now)
}

/// A run that is to begin.
#[derive(Debug, Clone)]
pub struct New {
    /// Its id.
    pub id: RunId,
    /// Who is asked.
    pub agent: String,
    /// Who asks: a principal. A thread is theirs alone.
    pub whose: String,
    /// The run in which its agent is asked by another.
    pub parent: Option<RunId>,
    /// The first run of the task that this one goes on with.
    pub task: Option<RunId>,
    /// What the agent speaks, by its word.
    pub protocol: &'static str,
    /// What is asked.
    pub input: RunAgentInput,
    /// Where its client is told what becomes of it.
    pub push: Option<Push>,
}

/// How the call of a run has ended.
#[derive(Debug, Clone, Copy)]
pub enum Ended<'a> {
    /// It has not: it is tried once more.
    Anew,
    /// Somebody stopped it.
    Cancelled,
    /// Without an answer.
    Without {
        /// A word for programs.
        code: &'a str,
        /// For people.
        message: &'a str,
    },
    /// By an answer, of which its recorder tells this ([`Recorder::summary`]).
    Said(&'a [u8]),
}

/// Which runs.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this agent.
    pub agent: Option<String>,
    /// Of this thread.
    pub thread: Option<ThreadId>,
    /// That stand so.
    pub status: Option<RunStatus>,
    /// In which an agent was asked by this one's.
    pub parent: Option<RunId>,
}

/// Which tasks: each is one run, or several when it waited for answers.
#[derive(Debug, Clone)]
pub struct Tasks {
    /// With whom.
    pub agent: String,
    /// Whose.
    pub whose: String,
    /// Of the thread that they call so.
    pub thread: Option<String>,
    /// Whose last run stands so; at most two, and any when there are none.
    pub statuses: Vec<RunStatus>,
    /// That changed at this time or after it.
    pub since: Timestamp,
    /// From before one: when it changed, and its last run.
    pub before: Option<(Timestamp, RunId)>,
    /// At most so many.
    pub most: u32,
}

/// A thread that is to begin with what another had come to.
#[derive(Debug, Clone)]
pub struct Fork {
    /// With whom.
    pub agent: String,
    /// Whose it is to be.
    pub whose: String,
    /// What they call it; else it is called by its id.
    pub name: Option<String>,
    /// What was said by then.
    pub kept: Kept,
}

/// What goes wrong with runs.
#[derive(Debug, thiserror::Error)]
pub enum RunsError {
    /// There is no such run or thread in this workspace.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// A thread of that name is there.
    #[error("there is a thread of the name `{0}`")]
    Taken(String),
    /// A run of the thread is under way.
    #[error("a run of the thread is under way: cancel it, or wait for its end")]
    Busy,
    /// The store's own.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Runs and threads. Cheap to clone.
#[derive(Clone)]
pub struct Runs {
    pub(crate) db: Db,
}

impl std::fmt::Debug for Runs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Runs")
    }
}

impl Runs {
    /// Those of a store.
    #[must_use]
    pub const fn new(db: Db) -> Self {
        Self { db }
    }

    /// A run begins, in the unit that accepts its call. Its thread is the one of that name with that agent, or a new one.
    ///
    /// # Errors
    /// The store's own; then the call is not accepted either.
    pub fn begin(
        scope: &mut Scope<'_>,
        new: &New,
        (call, now): (CallId, Timestamp),
    ) -> Result<(), StoreError> {
        rows::insert(scope, new, (call, now))
    }

    /// The call of a run has ended, or begins anew: in that unit.
    ///
    /// # Errors
    /// The store's own; then the call has not ended either.
    pub fn turned(
        scope: &mut Scope<'_>,
        id: RunId,
        ended: &Ended<'_>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        rows::turned(scope, id, ended, now)
    }

    /// What records the answer to an attempt, of such a status and content type.
    ///
    /// # Errors
    /// [`RunsError`].
    pub async fn recorder(
        &self,
        workspace: &Workspace,
        id: RunId,
        (attempt, status, content_type): (u32, u16, &str),
    ) -> Result<Recorder, RunsError> {
        let (input, protocol) = self.asked(workspace, id).await?;
        Ok(Recorder::new(
            protocol,
            &input,
            (attempt, status, content_type),
        ))
    }

    /// What was asked in a run, and what its agent speaks.
    ///
    /// # Errors
    /// [`RunsError`].
    pub async fn asked(
        &self,
        workspace: &Workspace,
        id: RunId,
    ) -> Result<(RunAgentInput, Protocol), RunsError> {
        let of = workspace.clone();
        let read = self
            .db
            .read(move |reader| rows::asked(&mut reader.scope(&of), id));
        let found: Option<(RunAgentInput, String)> = read.await?;
        let (input, word) = found.ok_or(RunsError::NotFound(RUN))?;
        let unknown = || StoreError::Statement(format!("`{word}` is nothing that agents speak"));
        let protocol = Protocol::of(&word).ok_or_else(unknown)?;
        Ok((input, protocol))
    }

    /// One run.
    ///
    /// # Errors
    /// [`RunsError`].
    pub async fn show(&self, workspace: &Workspace, id: RunId) -> Result<Run, RunsError> {
        let of = workspace.clone();
        let read = self
            .db
            .read(move |reader| rows::find(&mut reader.scope(&of), id));
        let found: Option<Run> = read.await?;
        found.ok_or(RunsError::NotFound(RUN))
    }

    /// The run that a call carries.
    ///
    /// # Errors
    /// [`RunsError`].
    pub async fn of_call(&self, workspace: &Workspace, call: CallId) -> Result<Run, RunsError> {
        let of = workspace.clone();
        let read = self
            .db
            .read(move |reader| rows::of_call(&mut reader.scope(&of), call));
        let found: Option<Run> = read.await?;
        found.ok_or(RunsError::NotFound(RUN))
    }

    /// The runs that calls carry, one by one; none for a call that carries none.
    ///
    /// # Errors
    /// The store's own.
    pub async fn of_calls(
        &self,
        workspace: &Workspace,
        calls: Vec<CallId>,
    ) -> Result<Vec<Option<Run>>, StoreError> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let of = workspace.clone();
        let read = self.db.read(move |reader| {
            let mut scope = reader.scope(&of);
            let one = |call: &CallId| rows::of_call(&mut scope, *call);
            calls.iter().map(one).collect()
        });
        read.await
    }

    /// Runs, the newest first, from before one of them.
    ///
    /// # Errors
    /// The store's own.
    pub async fn list(
        &self,
        workspace: &Workspace,
        filter: Filter,
        (before, most): (Option<RunId>, u32),
    ) -> Result<Vec<Run>, StoreError> {
        let of = workspace.clone();
        let read = self
            .db
            .read(move |reader| rows::list(&mut reader.scope(&of), &filter, (before, most)));
        read.await
    }

    /// A run and those that it was begun in, the innermost first; `most` of them.
    ///
    /// # Errors
    /// [`RunsError`].
    pub async fn chain(
        &self,
        workspace: &Workspace,
        id: RunId,
        most: usize,
    ) -> Result<Vec<Run>, RunsError> {
        let of = workspace.clone();
        let read = self.db.read(move |reader| {
            let mut scope = reader.scope(&of);
            let (mut chain, mut next) = (Vec::new(), Some(id));
            while let Some(id) = next.filter(|_| chain.len() < most) {
                let Some(run) = rows::find(&mut scope, id)? else {
                    break;
                };
                next = run.parent;
                chain.push(run);
            }
            Ok::<_, StoreError>(chain)
        });
        let chain: Vec<Run> = read.await?;
        match chain.is_empty() {
            true => Err(RunsError::NotFound(RUN)),
            false => Ok(chain),
        }
    }

    /// The runs of a task, the first one first. None, when there is no such task.
    ///
    /// # Errors
    /// The store's own.
    pub async fn task(&self, workspace: &Workspace, id: RunId) -> Result<Vec<Run>, StoreError> {
        let of = workspace.clone();
        let read = self
            .db
            .read(move |reader| rows::task(&mut reader.scope(&of), id));
        read.await
    }

    /// The last runs of tasks, those that changed last first; and how many there are on all pages.
    ///
    /// # Errors
    /// The store's own.
    pub async fn tasks(
        &self,
        workspace: &Workspace,
        tasks: Tasks,
    ) -> Result<(Vec<Run>, u64), StoreError> {
        let of = workspace.clone();
        let read = self.db.read(move |reader| {
            let mut scope = reader.scope(&of);
            let found = rows::tasks(&mut scope, &tasks)?;
            Ok::<_, StoreError>((found, rows::count_tasks(&mut scope, &tasks)?))
        });
        read.await
    }

    /// The run with an agent that somebody calls so.
    ///
    /// # Errors
    /// The store's own.
    pub async fn run_named(
        &self,
        workspace: &Workspace,
        (agent, whose, name): (&str, &str, &str),
    ) -> Result<Option<Run>, StoreError> {
        let of = workspace.clone();
        let (agent, whose, name) = (agent.to_owned(), whose.to_owned(), name.to_owned());
        let read = self
            .db
            .read(move |reader| rows::run_named(&mut reader.scope(&of), (&agent, &whose, &name)));
        read.await
    }

    /// Gives up what a run waits for: it counts as cancelled. False when it waits for nothing.
    ///
    /// # Errors
    /// The store's own.
    pub async fn give_up(
        &self,
        by: &By,
        workspace: &Workspace,
        id: RunId,
    ) -> Result<bool, StoreError> {
        let (of, by) = (workspace.clone(), by.clone());
        let write = self.db.write(move |unit: &mut Unit<'_>| {
            let now = unit.now();
            let mut scope = unit.scope(&of);
            let changed = rows::give_up(&mut scope, id, now)?;
            if changed {
                let change = Change {
                    action: None,
                    resource: ("Run", &id.to_string()),
                    what: "cancelled",
                    hash: None,
                };
                by.did(&mut scope, &change, now)?;
            }
            Ok::<_, StoreError>(changed)
        });
        write.await
    }

    /// What was said by the end of a run: nothing as long as there is none.
    ///
    /// # Errors
    /// [`RunsError`].
    pub async fn kept(&self, workspace: &Workspace, id: RunId) -> Result<Kept, RunsError> {
        let of = workspace.clone();
        let read = self
            .db
            .read(move |reader| rows::kept(&mut reader.scope(&of), id));
        let found: Option<Kept> = read.await?;
        found.ok_or(RunsError::NotFound(RUN))
    }

    /// Threads, the newest first, from before one of them.
    ///
    /// # Errors
    /// The store's own.
    pub async fn threads(
        &self,
        workspace: &Workspace,
        agent: Option<String>,
        (before, most): (Option<ThreadId>, u32),
    ) -> Result<Vec<Thread>, StoreError> {
        let of = workspace.clone();
        let read = self.db.read(move |reader| {
            rows::threads(&mut reader.scope(&of), agent.as_deref(), (before, most))
        });
        read.await
    }

    /// A thread, and what was said in it.
    ///
    /// # Errors
    /// [`RunsError`].
    pub async fn thread(
        &self,
        workspace: &Workspace,
        id: ThreadId,
    ) -> Result<(Thread, Kept), RunsError> {
        let of = workspace.clone();
        let read = self
            .db
            .read(move |reader| rows::thread_with(&mut reader.scope(&of), id));
        let found: Option<(Thread, Kept)> = read.await?;
        found.ok_or(RunsError::NotFound(THREAD))
    }

    /// The thread with an agent that somebody calls so, and what was said in it.
    ///
    /// # Errors
    /// The store's own.
    pub async fn named(
        &self,
        workspace: &Workspace,
        (agent, whose, name): (&str, &str, &str),
    ) -> Result<Option<(Thread, Kept)>, StoreError> {
        let of = workspace.clone();
        let (agent, whose, name) = (agent.to_owned(), whose.to_owned(), name.to_owned());
        let read = self
            .db
            .read(move |reader| rows::named(&mut reader.scope(&of), (&agent, &whose, &name)));
        read.await
    }

    /// Makes a thread that begins with what another had come to.
    ///
    /// # Errors
    /// [`RunsError::Taken`], and the store's own.
    pub async fn fork(
        &self,
        by: &By,
        workspace: &Workspace,
        fork: Fork,
    ) -> Result<Thread, RunsError> {
        let (of, by) = (workspace.clone(), by.clone());
        let write = self.db.write(move |unit: &mut Unit<'_>| {
            let now = unit.now();
            let mut scope = unit.scope(&of);
            let Some(id) = rows::fork(&mut scope, &fork, now)? else {
                return Err(RunsError::Taken(fork.name.unwrap_or_default()));
            };
            did(&mut scope, &by, (id, "begun"), now)?;
            let made = rows::thread_with(&mut scope, id)?;
            let (thread, _) = made.ok_or(RunsError::NotFound(THREAD))?;
            Ok(thread)
        });
        write.await
    }

    /// Forgets a thread with its runs. What its calls keep stays for as long as calls are kept.
    ///
    /// # Errors
    /// [`RunsError`].
    pub async fn forget(
        &self,
        by: &By,
        workspace: &Workspace,
        id: ThreadId,
    ) -> Result<(), RunsError> {
        let (of, by) = (workspace.clone(), by.clone());
        let write = self.db.write(move |unit: &mut Unit<'_>| {
            let now = unit.now();
            let mut scope = unit.scope(&of);
            if rows::is_busy(&mut scope, id)? {
                return Err(RunsError::Busy);
            }
            if rows::forget(&mut scope, id)? == 0 {
                return Err(RunsError::NotFound(THREAD));
            }
            Ok(did(&mut scope, &by, (id, "gone"), now)?)
        });
        write.await
    }

    /// Forgets what ended before a moment: runs but for what a thread has come to, and threads in which nothing happened since.
    ///
    /// # Errors
    /// The store's own.
    pub async fn sweep(
        &self,
        workspace: &Workspace,
        before: Timestamp,
    ) -> Result<usize, StoreError> {
        let mut all = 0;
        loop {
            let of = workspace.clone();
            let write = self.db.write(move |unit: &mut Unit<'_>| {
                rows::sweep(&mut unit.scope(&of), before, AT_ONCE)
            });
            let gone: usize = write.await?;
            all += gone;
            if gone < AT_ONCE as usize {
                return Ok(all);
            }
        }
    }
}
