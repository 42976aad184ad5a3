//! Reading an agent's log: what its instances wrote and what Skep says about them, merged by time
//! over instances and rotated files. One line of each source is held at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use skep_core::{InstanceId, Timestamp};
use tokio::sync::mpsc;

use crate::driver::{Driver, DriverError, LogLine, LogSource, Place};
use crate::logfile::LogReader;
use crate::slot::{EVENTS, Slot};

/// Lines that wait for a slow reader.
const QUEUE: usize = 256;
/// Lines that are read at once.
const BATCH: usize = 256;
/// Time between two looks for new lines.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);
/// Lines that a tail may ask for.
const MOST_TAIL: usize = 10_000;
/// Bytes of a tail.
const MOST_TAIL_BYTES: usize = 16 << 20;
/// Newest instances whose logs are always looked at again: they may be about to begin.
const FRESH: usize = 2;

/// Which lines of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Those from this moment on.
    pub since: Option<Timestamp>,
    /// The last so many of those that are there; 10,000 or 16 MiB at most.
    pub tail: Option<usize>,
    /// Those that contain this text.
    pub filter: Option<String>,
    /// And those that are still to come, until the receiver is dropped.
    pub follow: bool,
}

impl LogQuery {
    fn wants(&self, line: &LogLine) -> bool {
        self.filter
            .as_ref()
            .is_none_or(|part| line.text.contains(part))
    }
}

/// What Skep said: a file of ours, with the instance before the text.
struct Events(LogReader);

impl LogSource for Events {
    fn next(&mut self) -> Result<Option<LogLine>, DriverError> {
        loop {
            let line = self
                .0
                .next()
                .map_err(|e| DriverError::Failed(e.to_string()))?;
            let Some(line) = line else { return Ok(None) };
            let parts = line.text.split_once(' ');
            if let Some((Ok(instance), text)) = parts.map(|(id, text)| (id.parse(), text)) {
                return Ok(Some(LogLine {
                    time: line.time,
                    stream: line.stream,
                    instance,
                    partial: line.partial,
                    text: text.to_owned(),
                }));
            }
        }
    }
}

struct Source {
    of: Option<InstanceId>,
    source: Box<dyn LogSource>,
    head: Option<LogLine>,
    /// It had no more lines at this look.
    dry: bool,
}

/// All sources of an agent's log.
struct Merge {
    slot: Arc<Slot>,
    drivers: Vec<Arc<dyn Driver>>,
    since: Option<Timestamp>,
    known: Vec<InstanceId>,
    /// The instances that lived when this look began.
    live: Vec<InstanceId>,
    sources: Vec<Source>,
}

impl Merge {
    fn new(slot: Arc<Slot>, drivers: Vec<Arc<dyn Driver>>, since: Option<Timestamp>) -> Self {
        let events = LogReader::new(slot.events().to_owned(), EVENTS.files, since);
        Self {
            slot,
            drivers,
            since,
            known: Vec::new(),
            live: Vec::new(),
            sources: vec![Source {
                of: None,
                source: Box::new(Events(events)),
                head: None,
                dry: false,
            }],
        }
    }

    /// Begins another look: at what the sources had no more of, and for new instances.
    async fn refresh(&mut self) -> Result<(), DriverError> {
        self.sources
            .iter_mut()
            .for_each(|source| source.dry = false);
        self.live = self.slot.live().0;
        let (workspace, agent) = (&self.slot.workspace, self.slot.name());
        for driver in &self.drivers {
            for instance in driver.kept(workspace, agent).await? {
                if self.known.contains(&instance) {
                    continue;
                }
                let place = Place {
                    workspace: workspace.clone(),
                    agent: agent.to_owned(),
                    instance,
                };
                self.known.push(instance);
                self.sources.push(Source {
                    of: Some(instance),
                    source: driver.logs(&place, self.since).await?,
                    head: None,
                    dry: false,
                });
            }
        }
        Ok(())
    }

    /// The oldest line that is there. Blocks on the disk only.
    fn next(&mut self) -> Result<Option<LogLine>, DriverError> {
        for source in &mut self.sources {
            if source.head.is_none() && !source.dry {
                source.head = source.source.next()?;
                source.dry = source.head.is_none();
            }
        }
        let oldest = self
            .sources
            .iter_mut()
            .filter_map(|source| Some((source.head.as_ref()?.time, source)))
            .min_by_key(|(time, _)| *time);
        Ok(oldest.and_then(|(_, source)| source.head.take()))
    }

    /// Some lines that the query wants. The second value tells whether there may be more now.
    fn batch(&mut self, query: &LogQuery) -> Result<(Vec<LogLine>, bool), DriverError> {
        let mut lines = Vec::new();
        for _ in 0..BATCH {
            let Some(line) = self.next()? else {
                // Read to its end after its instance had ended: nothing more comes of it.
                let newest = self.sources.len().saturating_sub(FRESH);
                let mut at = 0;
                self.sources.retain(|source| {
                    at += 1;
                    at > newest || source.of.is_none_or(|of| self.live.contains(&of))
                });
                return Ok((lines, false));
            };
            if query.wants(&line) {
                lines.push(line);
            }
        }
        Ok((lines, true))
    }

    /// The last lines that are there.
    fn tail(&mut self, query: &LogQuery, most: usize) -> Result<VecDeque<LogLine>, DriverError> {
        let most = most.min(MOST_TAIL);
        let mut kept = VecDeque::new();
        let mut bytes = 0;
        while let Some(line) = self.next()? {
            if !query.wants(&line) {
                continue;
            }
            bytes += line.text.len();
            kept.push_back(line);
            while kept.len() > most || bytes > MOST_TAIL_BYTES {
                bytes -= kept
                    .pop_front()
                    .map_or(bytes, |line: LogLine| line.text.len());
            }
        }
        Ok(kept)
    }
}

/// Runs work on the merge where it may block.
async fn on<T: Send + 'static>(
    mut merge: Merge,
    work: impl FnOnce(&mut Merge) -> Result<T, DriverError> + Send + 'static,
) -> Result<(Merge, T), DriverError> {
    tokio::task::spawn_blocking(move || work(&mut merge).map(|done| (merge, done)))
        .await
        .unwrap_or_else(|error| Err(DriverError::Failed(error.to_string())))
}

/// Reads the log. The channel ends after the last line, and with `follow` when the agent is removed.
pub(crate) fn read(
    slot: Arc<Slot>,
    drivers: Vec<Arc<dyn Driver>>,
    query: LogQuery,
) -> mpsc::Receiver<LogLine> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let name = slot.name().to_owned();
        let merge = Merge::new(slot, drivers, query.since);
        if let Err(error) = pump(merge, query, &sender).await {
            tracing::warn!(agent = name, %error, "the log cannot be read");
        }
    });
    receiver
}

async fn pump(
    mut merge: Merge,
    query: LogQuery,
    sender: &mpsc::Sender<LogLine>,
) -> Result<(), DriverError> {
    let query = Arc::new(query);
    merge.refresh().await?;
    if let Some(most) = query.tail {
        let wanted = query.clone();
        let (back, lines) = on(merge, move |merge| merge.tail(&wanted, most)).await?;
        merge = back;
        for line in lines {
            if sender.send(line).await.is_err() {
                return Ok(());
            }
        }
    }
    let mut looks = tokio::time::interval(FOLLOW_INTERVAL);
    loop {
        let wanted = query.clone();
        let (back, (lines, more)) = on(merge, move |merge| merge.batch(&wanted)).await?;
        merge = back;
        for line in lines {
            if sender.send(line).await.is_err() {
                return Ok(());
            }
        }
        if more {
            continue;
        }
        if !query.follow || merge.slot.is_removed() {
            return Ok(());
        }
        tokio::select! {
            _ = looks.tick() => {}
            () = sender.closed() => return Ok(()),
        }
        merge.refresh().await?;
    }
}
