//! Commands that are run in the box of an instance that runs already.

use std::collections::BTreeSet;

use async_trait::async_trait;
use bytes::Bytes;
use skep_core::{InstanceId, Workspace};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;

use crate::RuntimeError;
use crate::driver::{DriverError, Exit, LogStream};
use crate::service::Runtime;
use crate::slot::Live;
use crate::spec::Named;
use crate::supervise::Charge;

/// What is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOrder {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The terminal that it gets.
    pub terminal: Option<Terminal>,
}

/// The terminal of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminal {
    /// Characters of a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
    /// What kind it is, for `TERM`.
    pub kind: String,
}

/// A command that runs.
pub struct Execution {
    /// Its standard input; dropped, it has ended.
    pub input: Box<dyn AsyncWrite + Send + Unpin>,
    /// What it writes, until both of its streams have ended. With a terminal all is standard output.
    pub output: mpsc::Receiver<(LogStream, Bytes)>,
    /// What can be done with it. Dropped, the command ends, with all that it started.
    pub control: Box<dyn Executing>,
}

/// What can be done with a command that runs.
#[async_trait]
pub trait Executing: Send + Sync {
    /// Waits for its end.
    async fn wait(&mut self) -> Exit;

    /// Sends it a signal. Well when it has ended.
    ///
    /// # Errors
    /// [`DriverError`] when it could not be sent.
    async fn signal(&mut self, signal: i32) -> Result<(), DriverError>;

    /// Tells it the new size of its terminal. Well when it has none.
    ///
    /// # Errors
    /// [`DriverError`] when it could not be told.
    async fn resize(&mut self, columns: u16, rows: u16) -> Result<(), DriverError>;
}

/// An instance in which a command can be run.
pub struct Room {
    pub(crate) charge: Charge,
    pub(crate) live: Live,
}

impl Room {
    /// The instance.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        self.live.instance
    }

    /// The secrets that its specification names: a command in it has them, too.
    #[must_use]
    pub fn named(&self) -> &BTreeSet<Named> {
        &self.charge.spec.secrets
    }

    /// Runs a command in it.
    ///
    /// # Errors
    /// [`DriverError`]; then nothing of it runs.
    pub async fn exec(&self, order: &ExecOrder) -> Result<Execution, DriverError> {
        let Self { charge, live } = self;
        let place = charge.place(live.instance);
        let given = charge.borrow_again(&place).await;
        let given = given.map_err(|error| DriverError::Refused(error.reason))?;
        let request = charge.request(place, live.running.address().port(), given);
        let handle = live.running.handle();
        charge.driver.exec(&request, &handle, order).await
    }
}

impl Runtime {
    /// The box of an instance that runs: of this one, else of one that is ready, else of any.
    /// `None`: there is none.
    ///
    /// # Errors
    /// [`RuntimeError::AgentNotFound`].
    pub fn room(
        &self,
        workspace: &Workspace,
        agent: &str,
        instance: Option<InstanceId>,
    ) -> Result<Option<Room>, RuntimeError> {
        Ok(self.slot(workspace, agent)?.room(instance))
    }
}
