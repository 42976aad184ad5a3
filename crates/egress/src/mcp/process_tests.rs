//! What holds of programs, whatever they write and whoever leaves.

use tokio::io::AsyncReadExt as _;
use tokio::sync::Notify;

use super::*;

/// What a program is given, and must not say.
const KEY: &str = "key-0123456789";

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
    let place = Places::default().take(&Workspace::default()).unwrap();
    Arc::new(Process {
        input: tokio::sync::Mutex::new(Box::new(input)),
        state: Mutex::default(),
        server: "mine".to_owned(),
        timeout: Duration::from_millis(50),
        forms: Forms::of(&[KEY.as_bytes()]),
        _life: Box::new(()),
        _place: place,
    })
}

#[tokio::test]
async fn a_program_that_nobody_waits_for_is_ended() {
    let (programs, ended) = (Places::default(), Arc::new(Notify::new()));
    let workspace = Workspace::default();
    let own = programs.of(&workspace);
    let boxes = Arc::new(Slow {
        asked: Notify::new(),
        may: Notify::new(),
        ended: ended.clone(),
    });
    let place = programs.take(&workspace).unwrap();
    let waits = started(boxes.clone(), order(), place, Duration::from_secs(60));
    let waits = tokio::spawn(waits);
    boxes.asked.notified().await;
    waits.abort();
    assert!(waits.await.is_err());
    let free = || (programs.all.available_permits(), own.available_permits());
    let one_less = (MOST_PROGRAMS - 1, MOST_OF_WORKSPACE - 1);
    assert_eq!(free(), one_less, "it starts still");
    boxes.may.notify_one();
    ended.notified().await;
    let count = u32::try_from(MOST_PROGRAMS).unwrap();
    let _all = programs.all.acquire_many(count).await.unwrap();
    assert_eq!(own.available_permits(), MOST_OF_WORKSPACE);
}

#[test]
fn one_workspace_leaves_places_for_another() {
    let programs = Places::default();
    let (mine, other) = (Workspace::default(), "other".parse().unwrap());
    let mut held: Vec<Held> = Vec::new();
    while let Ok(place) = programs.take(&mine) {
        held.push(place);
    }
    assert_eq!(held.len(), MOST_OF_WORKSPACE);
    assert!(
        programs
            .take(&mine)
            .err()
            .unwrap()
            .contains("this workspace")
    );
    let own = programs.take(&other).unwrap();
    held.pop();
    held.push(programs.take(&mine).unwrap());
    // Nothing is kept of who has none.
    drop((own, held));
    drop(programs.of(&mine));
    assert_eq!(programs.by_workspace.lock().len(), 1);
}

#[tokio::test]
async fn a_line_is_whole_though_its_client_leaves() {
    let (input, mut output) = tokio::io::duplex(16);
    let mut process = process(input);
    Arc::get_mut(&mut process).unwrap().timeout = Duration::from_secs(60);
    let text = "x".repeat(64);
    let telling = tokio::spawn({
        let (process, text) = (process.clone(), text.clone());
        async move { process.tell(&text).await }
    });
    let mut read = vec![0; 16];
    output.read_exact(&mut read).await.unwrap();
    telling.abort();
    assert!(telling.await.unwrap_err().is_cancelled());
    let next = tokio::spawn(async move { process.tell("next").await });
    let mut rest = vec![0; 64 + 1 - 16 + 5];
    output.read_exact(&mut rest).await.unwrap();
    next.await.unwrap().unwrap();
    read.extend(rest);
    assert_eq!(String::from_utf8(read).unwrap(), format!("{text}\nnext\n"));
}

#[tokio::test]
async fn a_program_does_not_say_its_key() {
    let process = process(tokio::io::sink());
    let mut coming = process.listen();
    let (to, output) = mpsc::channel(4);
    tokio::spawn(read(Arc::downgrade(&process), output));
    let spelled = KEY.replace('k', "\\u006B");
    for key in [KEY, &spelled] {
        let line = format!(
            "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{{\"data\":\"<{key}>\"}}}}\n"
        );
        let (first, second) = line.split_at(line.len() / 2);
        for piece in [first, second] {
            to.send(Bytes::copy_from_slice(piece.as_bytes()))
                .await
                .unwrap();
        }
        let said = coming.recv().await.unwrap();
        let said = String::from_utf8_lossy(&said).into_owned();
        let stars = format!("<{}>", "*".repeat(key.len()));
        assert!(said.contains(&stars), "{said}");
    }
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
