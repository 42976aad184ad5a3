//! A disk that does not confirm: as long as it does not, nobody sees a final answer whole, however
//! the answer is asked for.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use skep_tests::{Server, Setup, Wire, eventually};
use tempfile::TempDir;

/// Bytes of an answer that is shown as it comes, as it says its length.
const LARGE: usize = 1 << 20;
/// Requests in which something that must not come has its time to come.
const ROUNDS: usize = 20;

/// The files that a result is in.
const RESULT: [&str; 2] = ["/blobs/", "/skep.db"];

/// The disk of a server, which a test holds.
struct Disk {
    folder: TempDir,
}

impl Disk {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let disk = Self { folder };
        let source = disk.file("hold_sync.c");
        fs::write(&source, include_str!("../../src/hold_sync.c")).expect("a file");
        let built = Command::new("gcc")
            .args(["-Wall", "-Werror", "-shared", "-fPIC", "-o"])
            .arg(disk.file("hold_sync.so"))
            .arg(&source)
            .arg("-ldl")
            .status();
        assert!(built.expect("gcc runs").success());
        disk
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// With the server on it. It is the disk that goes first, so that the server can end.
    async fn with_server(self, durability: &str) -> (Server, Self) {
        let library = self.file("hold_sync.so").display().to_string();
        let folder = self.folder.path().display().to_string();
        let env = [("LD_PRELOAD", library), ("HOLD_SYNC", folder)];
        let server = Server::start_with(Setup {
            env: env.map(|(name, value)| (name.to_owned(), value)).to_vec(),
            ..Setup::default()
        })
        .await;
        let calls = json!({ "durability": durability, "backoff": "1ms", "max_backoff": "50ms" });
        server.deploy_raw("a", calls).await;
        (server, self)
    }

    /// `hold` or `fail` for files whose names have this part.
    fn order(&self, order: &str, part: &str) {
        fs::write(self.file("new"), part).expect("a file");
        fs::rename(self.file("new"), self.file(order)).expect("a file");
    }

    /// Waits until such a file is met.
    async fn met(&self, word: &str) {
        let path = self.file(word);
        eventually("the disk", async || path.exists().then_some(())).await;
    }

    fn release(&self, order: &str) {
        fs::remove_file(self.file(order)).expect("there was an order");
    }
}

/// A call whose agent answers as soon as it may go, and who looks at its answer: the client that
/// made it, and one that attached to it.
struct Watched {
    id: String,
    clients: [Wire; 2],
    length: usize,
}

impl Watched {
    async fn begin(server: &Server, length: usize) -> Self {
        // The agent waits before it says anything.
        let answer = format!(
            "\0HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{}",
            "x".repeat(length)
        );
        let key = &server.client.key;
        let own = format!("HTTP/1.1\r\nhost: x\r\nskep-api-key: {key}\r\ncontent-length");
        let mut caller = Wire::open(server).await;
        let request = format!("POST /agents/a/say {own}: {}\r\n\r\n{answer}", answer.len());
        caller.say(request.as_bytes()).await;
        eventually("the call", async || {
            (!server.heard("a").is_empty()).then_some(())
        })
        .await;
        let calls = server.client.get("/api/v1/calls").await.json();
        let id = calls["items"][0]["id"].as_str().expect("a call").to_owned();
        let mut reader = Wire::open(server).await;
        let attach = format!("GET /api/v1/calls/{id}/response?wait=true {own}: 0\r\n\r\n");
        reader.say(attach.as_bytes()).await;
        reader.heard().await;
        let clients = [caller, reader];
        Self {
            id,
            clients,
            length,
        }
    }

    /// Lets the agent answer.
    fn go(server: &Server) {
        fs::write(server.home("a").join("go"), "").expect("a file");
    }

    /// Reads what a large answer shows before its end.
    async fn read_all_but_the_end(&mut self) {
        for client in &mut self.clients {
            let head = client.head().await.expect("a head");
            assert_eq!(head.header("content-length"), self.length.to_string());
            client.take(self.length - 1).await.expect("a body");
        }
    }

    /// Gives what must not come time to come.
    async fn must_not_end(&mut self, server: &Server) {
        for _ in 0..ROUNDS {
            assert_eq!(server.call(&self.id).await["state"], "running");
            for client in &mut self.clients {
                assert!(
                    client.is_quiet().await,
                    "more than what is on disk was seen"
                );
            }
        }
    }

    /// The rest that is still to come.
    async fn must_end(&mut self, server: &Server) {
        for client in &mut self.clients {
            assert_eq!(client.take(1).await.expect("the end"), "x");
        }
        server.wait_call(&self.id, "succeeded").await;
    }

    async fn must_be_cut_off(&mut self) {
        for client in &mut self.clients {
            let rest = client.rest().await;
            assert_eq!(
                rest.len(),
                0,
                "an answer that was not on disk was seen whole"
            );
        }
    }
}

#[tokio::test]
async fn the_end_of_a_large_answer_waits_for_the_disk() {
    for part in RESULT {
        let (server, disk) = Disk::new().with_server("strict").await;
        let mut call = Watched::begin(&server, LARGE).await;
        disk.order("hold", part);
        Watched::go(&server);
        call.read_all_but_the_end().await;
        disk.met("held").await;
        call.must_not_end(&server).await;
        disk.release("hold");
        call.must_end(&server).await;
    }
}

#[tokio::test]
async fn a_small_answer_waits_for_the_disk() {
    let (server, disk) = Disk::new().with_server("strict").await;
    let mut call = Watched::begin(&server, 5).await;
    disk.order("hold", "/skep.db");
    Watched::go(&server);
    disk.met("held").await;
    call.must_not_end(&server).await;
    disk.release("hold");
    for client in &mut call.clients {
        let answer = client.answer().await.expect("an answer");
        assert_eq!((answer.status, answer.body.as_str()), (200, "xxxxx"));
    }
}

#[tokio::test]
async fn the_end_of_a_relaxed_answer_does_not_wait() {
    let (server, disk) = Disk::new().with_server("relaxed").await;
    let mut call = Watched::begin(&server, LARGE).await;
    disk.order("hold", "/skep.db");
    Watched::go(&server);
    for client in &mut call.clients {
        let answer = client.answer().await.expect("an answer");
        assert_eq!(answer.body.len(), LARGE);
    }
    disk.met("held").await;
    assert_eq!(server.call(&call.id).await["state"], "running");
    disk.release("hold");
    server.wait_call(&call.id, "succeeded").await;
}

#[tokio::test]
async fn an_answer_that_did_not_reach_the_disk_was_never_seen_whole() {
    for part in RESULT {
        let (mut server, disk) = Disk::new().with_server("strict").await;
        let mut call = Watched::begin(&server, LARGE).await;
        disk.order("hold", part);
        Watched::go(&server);
        call.read_all_but_the_end().await;
        disk.met("held").await;
        server.kill();
        call.must_be_cut_off().await;
        // The call is not over, and ends as it should.
        server.restart().await;
        server.wait_call(&call.id, "succeeded").await;
        let path = format!("/api/v1/calls/{}/response", call.id);
        assert_eq!(server.client.get(&path).await.body.len(), LARGE);
    }
}

#[tokio::test]
async fn a_database_that_cannot_be_synced_holds_the_end_back() {
    let (server, disk) = Disk::new().with_server("strict").await;
    let mut call = Watched::begin(&server, LARGE).await;
    disk.order("fail", "/skep.db");
    Watched::go(&server);
    call.read_all_but_the_end().await;
    disk.met("failed").await;
    call.must_not_end(&server).await;
    disk.release("fail");
    call.must_end(&server).await;
}

#[tokio::test]
async fn a_recording_that_cannot_be_synced_is_no_answer() {
    let (server, disk) = Disk::new().with_server("strict").await;
    let mut call = Watched::begin(&server, LARGE).await;
    disk.order("fail", "/blobs/");
    Watched::go(&server);
    for client in &mut call.clients {
        client.head().await.expect("a head");
        let rest = client.rest().await;
        assert!(
            rest.len() < LARGE,
            "an answer that was not on disk was seen whole"
        );
    }
    disk.met("failed").await;
    disk.release("fail");
    let done = server.wait_call(&call.id, "succeeded").await;
    assert!(done["attempts"].as_u64() > Some(1), "{done}");
    let path = format!("/api/v1/calls/{}/response", call.id);
    assert_eq!(server.client.get(&path).await.body.len(), LARGE);
}
