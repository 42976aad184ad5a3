//! The single writer: takes every unit that waits, runs each in a savepoint, commits them as one
//! transaction and answers them when the commit is on disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use skep_core::{Clock, Timestamp, Workspace};
use tokio::sync::{mpsc, oneshot};

use crate::blobs::Blobs;
use crate::engine::Engine;
use crate::lock::FolderLock;
use crate::unit::{Deltas, Recorder, Rules, ServerScope, Session, Unit};
use crate::{Param, StoreError};

/// Units that may wait for the writer; one more waits at the door.
pub(crate) const QUEUE: usize = 4096;
/// Units in one transaction.
const BATCH: usize = 512;
/// After a failed commit, units are refused for this long before one is let through to try again.
const BREAK: Duration = Duration::from_millis(500);
/// How often the current time is saved, as the floor of the next start's clock.
const SAVE_TIME_EVERY: Duration = Duration::from_secs(10);

/// What one commit did.
#[derive(Debug, Clone, Copy)]
pub struct CommitStats {
    /// Units in the transaction.
    pub units: usize,
    /// Time that the whole batch took: statements and the wait for the disk.
    pub batch: Duration,
    /// Time that the commit itself took.
    pub commit: Duration,
    /// Whether it is on disk.
    pub ok: bool,
}

/// Told of every commit.
pub(crate) type Observer = Arc<dyn Fn(CommitStats) + Send + Sync>;

/// A unit that waits, with the way back to who sent it.
pub(crate) trait Job: Send {
    /// Runs the statements; an error is the writer's to see whether the whole batch is lost.
    fn run(&mut self, unit: &mut Unit<'_>) -> Result<(), JobError>;
    /// Answers with the outcome of the commit.
    fn finish(self: Box<Self>, committed: Result<(), StoreError>);
}

/// How a job's own statements ended.
pub(crate) enum JobError {
    /// The job gave an error of its own: its savepoint is rolled back and it keeps the answer.
    Own,
    /// The engine failed: nothing of the batch can be trusted.
    Engine(StoreError),
}

/// A job made of a closure.
pub(crate) struct Work<F, T, E, R> {
    pub(crate) work: Option<F>,
    pub(crate) outcome: Option<Result<T, E>>,
    /// Told how it ended, on the writer's thread.
    pub(crate) reply: R,
}

impl<F, T, E, R> Job for Work<F, T, E, R>
where
    F: FnOnce(&mut Unit<'_>) -> Result<T, E> + Send,
    T: Send,
    E: From<StoreError> + Send,
    R: FnOnce(Result<T, E>) + Send,
{
    fn run(&mut self, unit: &mut Unit<'_>) -> Result<(), JobError> {
        let Some(work) = self.work.take() else {
            return Ok(());
        };
        let outcome = match catch_unwind(AssertUnwindSafe(|| work(unit))) {
            Ok(outcome) => outcome,
            Err(_) => Err(StoreError::Statement("a unit of work panicked".to_owned()).into()),
        };
        let failed = outcome.is_err();
        self.outcome = Some(outcome);
        match unit.session.failure() {
            Some(error) => Err(JobError::Engine(error)),
            None if failed => Err(JobError::Own),
            None => Ok(()),
        }
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        let outcome = match (committed, self.outcome) {
            (Ok(()), Some(outcome)) => outcome,
            // Also for a unit that refused by itself: what it saw may be gone with the batch.
            (Err(error), _) => Err(error.into()),
            (Ok(()), None) => Err(StoreError::Closed.into()),
        };
        let reply = self.reply;
        if catch_unwind(AssertUnwindSafe(|| reply(outcome))).is_err() {
            tracing::error!("what was to follow a unit of work panicked");
        }
    }
}

pub(crate) enum Message {
    Job(Box<dyn Job>),
    /// Wants to know whether everything is in the database's own file.
    Settle(oneshot::Sender<bool>),
    Close(oneshot::Sender<()>),
}

pub(crate) struct Writer {
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) blobs: Blobs,
    pub(crate) clock: Clock,
    pub(crate) writable: Arc<AtomicBool>,
    /// Counts the commits that are in doubt.
    pub(crate) doubts: Arc<AtomicU64>,
    pub(crate) observer: Option<Observer>,
    pub(crate) recorder: Option<Arc<dyn Recorder>>,
    /// Held until the last statement has run.
    pub(crate) lock: FolderLock,
}

/// A session that remembers the first failure of the engine itself.
struct Watched<'a> {
    engine: &'a mut dyn Engine,
    failure: Option<StoreError>,
}

impl Watched<'_> {
    fn note<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error @ (StoreError::Unavailable(_) | StoreError::Corrupt { .. })) = &result {
            self.failure.get_or_insert_with(|| error.clone());
        }
        result
    }
}

impl Session for Watched<'_> {
    fn execute(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<usize, StoreError> {
        let result = self.engine.execute(sql, params);
        self.note(result)
    }

    fn query(
        &mut self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Vec<crate::Row>, StoreError> {
        let result = self.engine.query(sql, params);
        self.note(result)
    }

    fn wipe(&mut self, table: &'static str) -> Result<(), StoreError> {
        let result = self.engine.wipe(table);
        self.note(result)
    }

    fn fence_off(&mut self, epoch: i64) -> Result<bool, StoreError> {
        let result = self.engine.fence_off(epoch);
        self.note(result)
    }

    fn in_turn(&mut self) -> Result<(), StoreError> {
        let result = self.engine.in_turn();
        self.note(result)
    }

    fn failure(&self) -> Option<StoreError> {
        self.failure.clone()
    }
}

impl Writer {
    pub(crate) fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        let mut jobs = Vec::with_capacity(BATCH);
        let mut broken_until: Option<(Instant, StoreError)> = None;
        let mut time_saved = Instant::now();
        let mut closing = None;
        let mut settling = Vec::new();
        while closing.is_none() {
            let Some(first) = queue.blocking_recv() else {
                break;
            };
            let mut next = Some(first);
            while let Some(message) = next.take() {
                match message {
                    Message::Job(job) => jobs.push(job),
                    Message::Settle(done) => settling.push(done),
                    Message::Close(done) => {
                        queue.close();
                        closing = Some(done);
                    }
                }
                if jobs.len() < BATCH {
                    next = queue.try_recv().ok();
                }
            }
            self.handle(&mut jobs, &mut broken_until, &mut time_saved);
            // Who asked was told of the commits before it asked.
            if !settling.is_empty() {
                let settled = self.engine.settle();
                for done in settling.drain(..) {
                    let _ = done.send(settled);
                }
            }
        }
        loop {
            match queue.try_recv() {
                Ok(Message::Job(job)) => job.finish(Err(StoreError::Closed)),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        self.close(closing);
    }

    /// Commits what came, unless the store could not write just now.
    fn handle(
        &mut self,
        jobs: &mut Vec<Box<dyn Job>>,
        broken_until: &mut Option<(Instant, StoreError)>,
        time_saved: &mut Instant,
    ) {
        if jobs.is_empty() {
            return;
        }
        match broken_until {
            Some((until, error)) if Instant::now() < *until => {
                for job in jobs.drain(..) {
                    job.finish(Err(error.clone()));
                }
            }
            _ => {
                let save_time = time_saved.elapsed() >= SAVE_TIME_EVERY;
                match self.commit(jobs, save_time) {
                    Ok(()) => {
                        self.recovered(broken_until.take().is_some());
                        if save_time {
                            *time_saved = Instant::now();
                        }
                    }
                    Err(error) => {
                        self.broke(&error);
                        // Those that are refused meanwhile are not in doubt.
                        let error = match error {
                            StoreError::Doubtful(why) => StoreError::Unavailable(why),
                            other => other,
                        };
                        *broken_until = Some((Instant::now() + BREAK, error));
                    }
                }
            }
        }
    }

    fn recovered(&self, was_broken: bool) {
        self.writable.store(true, Ordering::Release);
        if was_broken {
            tracing::info!("the store writes again");
        }
    }

    fn broke(&self, error: &StoreError) {
        if self.writable.swap(false, Ordering::AcqRel) {
            tracing::error!(%error, "the store cannot write: refusing until it can");
        }
    }

    fn commit(&mut self, jobs: &mut Vec<Box<dyn Job>>, save_time: bool) -> Result<(), StoreError> {
        let started = Instant::now();
        let mut answers = Vec::with_capacity(jobs.len());
        let mut result = self.run_batch(jobs, &mut answers, save_time);
        let committing = Instant::now();
        if result.is_ok() {
            result = self.engine.commit();
        }
        if result.is_err() {
            self.engine.roll_back();
        }
        if let Some(observer) = &self.observer {
            observer(CommitStats {
                units: answers.len(),
                batch: started.elapsed(),
                commit: committing.elapsed(),
                ok: result.is_ok(),
            });
        }
        for job in answers.into_iter().chain(jobs.drain(..)) {
            job.finish(result.clone());
        }
        // When who sent them knows: who looks for what is lost leaves those alone that they look after.
        if result.as_ref().is_err_and(StoreError::is_doubtful) {
            self.doubts.fetch_add(1, Ordering::AcqRel);
        }
        result
    }

    /// Runs the jobs; those that ran move to `answers` in order.
    fn run_batch(
        &mut self,
        jobs: &mut Vec<Box<dyn Job>>,
        answers: &mut Vec<Box<dyn Job>>,
        save_time: bool,
    ) -> Result<(), StoreError> {
        self.engine.begin_write()?;
        let mut deltas = Deltas::default();
        let now = self.clock.now();
        for mut job in jobs.drain(..) {
            let before = deltas.mark();
            let outcome = self.run_job(job.as_mut(), &mut deltas, now);
            answers.push(job);
            match outcome {
                Ok(()) => {}
                Err(JobError::Own) => {
                    deltas.back_to(before);
                    self.step("ROLLBACK TO unit")?;
                }
                Err(JobError::Engine(error)) => return Err(error),
            }
            self.step("RELEASE unit")?;
        }
        self.record(std::mem::take(&mut deltas.entries), now)?;
        for ((workspace, name), delta) in deltas.sums() {
            self.add(&workspace, &name, delta)?;
        }
        if save_time {
            self.engine.execute(
                "UPDATE server_state SET value = ?1 WHERE name = 'last_time' AND value < ?1",
                &[now.into()],
            )?;
        }
        Ok(())
    }

    /// Hands over what the units of the batch recorded.
    fn record(&mut self, entries: Vec<Vec<u8>>, now: Timestamp) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        let Some(recorder) = &self.recorder else {
            let why = "a unit recorded something and nobody writes it down";
            return Err(StoreError::Statement(why.to_owned()));
        };
        let mut session = Watched {
            engine: self.engine.as_mut(),
            failure: None,
        };
        recorder.record(
            &mut ServerScope::new(&mut session, &self.rules),
            entries,
            now,
        )
    }

    fn step(&mut self, sql: &'static str) -> Result<(), StoreError> {
        self.engine.execute(sql, &[]).map(|_| ())
    }

    fn run_job(
        &mut self,
        job: &mut dyn Job,
        deltas: &mut Deltas,
        now: Timestamp,
    ) -> Result<(), JobError> {
        self.step("SAVEPOINT unit").map_err(JobError::Engine)?;
        let mut session = Watched {
            engine: self.engine.as_mut(),
            failure: None,
        };
        let mut unit = Unit {
            session: &mut session,
            rules: &self.rules,
            deltas,
            blobs: &self.blobs,
            now,
        };
        job.run(&mut unit)
    }

    fn add(&mut self, workspace: &Workspace, name: &str, delta: i64) -> Result<(), StoreError> {
        if delta == 0 {
            return Ok(());
        }
        self.engine.execute(
            "INSERT INTO counters (workspace, name, value) VALUES (?1, ?2, ?3) \
             ON CONFLICT (workspace, name) DO UPDATE SET value = counters.value + excluded.value",
            &[workspace.as_str().into(), name.into(), delta.into()],
        )?;
        Ok(())
    }

    fn close(mut self, closing: Option<oneshot::Sender<()>>) {
        let now = self.clock.now();
        let _ = self.engine.execute(
            "UPDATE server_state SET value = ?1 WHERE name = 'last_time' AND value < ?1",
            &[now.into()],
        );
        self.engine.finish();
        drop(self.engine);
        drop(self.lock);
        if let Some(done) = closing {
            let _ = done.send(());
        }
    }
}
