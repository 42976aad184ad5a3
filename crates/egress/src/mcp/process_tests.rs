//! What holds of programs, whatever they write and whoever leaves.

use tokio::sync::Notify;

use super::*;

/// Starts programs when it is told to.
struct Slow {
    asked: Notify,
    may: Notify,
    ended: Arc<Notify>,
}

struct Life(Arc<Notify>);

impl Drop for Life {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[async_trait]
impl Boxes for Slow {
    async fn run(&self, _: Order) -> Result<Program, String> {
        self.asked.notify_one();
        self.may.notified().await;
        Ok(Program {
            input: Box::new(tokio::io::sink()),
            output: mpsc::channel(1).1,
            life: Box::new(Life(self.ended.clone())),
        })
    }
}

fn order() -> Order {
    Order {
        workspace: Workspace::default(),
        server: "slow".to_owned(),
        command: Vec::new(),
        env: BTreeMap::new(),
        folders: Vec::new(),
        hosts: Vec::new(),
    }
}

fn process(input: impl AsyncWrite + Send + Unpin + 'static) -> Arc<Process> {
    let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    Arc::new(Process {
        input: tokio::sync::Mutex::new(Box::new(input)),
        state: Mutex::default(),
        server: "mine".to_owned(),
        timeout: Duration::from_millis(50),
        _life: Box::new(()),
        _place: place,
    })
}

#[tokio::test]
async fn a_program_that_nobody_waits_for_is_ended() {
    let (programs, ended) = (Arc::new(Semaphore::new(1)), Arc::new(Notify::new()));
    let boxes = Arc::new(Slow {
        asked: Notify::new(),
        may: Notify::new(),
        ended: ended.clone(),
    });
    let place = programs.clone().try_acquire_owned().unwrap();
    let waits = started(boxes.clone(), order(), place, Duration::from_secs(60));
    let waits = tokio::spawn(waits);
    boxes.asked.notified().await;
    waits.abort();
    assert!(waits.await.is_err());
    assert_eq!(programs.available_permits(), 0, "it starts still");
    boxes.may.notify_one();
    ended.notified().await;
    let _free = programs.acquire().await.unwrap();
}

#[tokio::test]
async fn what_a_program_writes_is_bounded_in_bytes() {
    let mut state = State::default();
    for _ in 0..8 {
        state.keep(Bytes::from(vec![b'x'; 300 << 10]));
    }
    assert_eq!(state.kept.len(), 3);
    state.keep(Bytes::from(vec![b'x'; 2 << 20]));
    assert!(state.kept.is_empty());
    let room = Arc::new(Semaphore::new(MOST_WAITING_BYTES));
    let (to, mut coming) = mpsc::channel(MOST_WAITING);
    let one = Bytes::from(vec![b'x'; 1 << 20]);
    hand(&room, to, one).await.unwrap();
    assert_eq!(room.available_permits(), MOST_WAITING_BYTES - (1 << 20));
    drop(coming.recv().await.unwrap());
    assert_eq!(room.available_permits(), MOST_WAITING_BYTES);
    let process = process(tokio::io::sink());
    let (to, output) = mpsc::channel(1);
    let reading = tokio::spawn(read(Arc::downgrade(&process), output));
    let piece = Bytes::from(vec![b'x'; 1 << 20]);
    while to.send(piece.clone()).await.is_ok() {}
    reading.await.unwrap();
    assert!(process.is_over());
}

#[tokio::test]
async fn a_program_that_reads_nothing_ends() {
    let (input, _output) = tokio::io::duplex(16);
    let process = process(input);
    assert!(process.tell(&"x".repeat(64)).await.is_err());
    assert!(process.is_over());
}
