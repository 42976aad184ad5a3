//! What a sandbox costs: the time from the start of an instance's shim until its program runs and
//! until it answers, and that of requests on the way in and out. `cargo xtask bench sandbox` runs it:
//! `costs SKEP AGENT ROUNDS` with the server's and the test agent's programs; it prints JSON.

#![expect(clippy::print_stdout, reason = "its result")]

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use skep_runtime::{Door, Driver, ProcessDriver, ProcessOptions, conformance};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const SANDBOXES: [&str; 3] = ["off", "standard", "strict"];
/// Requests of each kind in one round.
const REQUESTS: usize = 50;
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks whether the agent listens.
const LOOK: Duration = Duration::from_micros(200);
const HEAD: usize = 16 << 10;

/// Microseconds of each thing that was measured, by its name.
type Taken = BTreeMap<&'static str, Vec<u64>>;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(skep), Some(agent), Some(rounds)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("costs SKEP AGENT ROUNDS".into());
    };
    let rounds: usize = rounds.parse()?;
    let folder = tempfile::tempdir()?;
    let driver = ProcessDriver::new(ProcessOptions::new(folder.path().join("agents"), skep));
    let door = TcpListener::bind("127.0.0.1:0").await?;
    let address = door.local_addr()?;
    tokio::spawn(answer(door));
    let mut all: BTreeMap<&str, Taken> = BTreeMap::new();
    // One of each in turn, so that what else the machine does is shared; the first is for nothing.
    for round in 0..=rounds {
        for sandbox in SANDBOXES {
            let mut taken = Taken::new();
            one(&driver, &agent, sandbox, address, &mut taken).await?;
            for (what, times) in taken {
                let of = all.entry(sandbox).or_default().entry(what).or_default();
                if round > 0 {
                    of.extend(times);
                }
            }
        }
    }
    println!("{}", serde_json::to_string(&all)?);
    Ok(())
}

/// What an agent takes for Skep.
async fn answer(door: TcpListener) {
    while let Ok((mut stream, _)) = door.accept().await {
        tokio::spawn(async move {
            let mut head = vec![0; HEAD];
            let _ = stream.read(&mut head).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .await;
        });
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// One instance, from its start to its end.
async fn one(
    driver: &ProcessDriver,
    agent: &str,
    sandbox: &str,
    skep: SocketAddr,
    taken: &mut Taken,
) -> Result<()> {
    let mut request = conformance::request(
        driver,
        &|spec| spec.sandbox = Some(sandbox.to_owned()),
        &[agent],
    );
    request
        .env
        .insert("SKEP_URL".to_owned(), format!("http://{skep}"));
    let began = Instant::now();
    let running = driver.start(&request).await?;
    taken.entry("runs").or_default().push(micros(began));
    let door = running.door();
    let mut stream = loop {
        match door.connect().await {
            Ok(stream) => break stream,
            Err(error) if began.elapsed() > PATIENCE => return Err(error.into()),
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    };
    ask(&mut stream, "/ping").await?;
    taken.entry("ready").or_default().push(micros(began));
    for _ in 0..REQUESTS {
        let began = Instant::now();
        ask(&mut stream, "/ping").await?;
        taken.entry("in, kept").or_default().push(micros(began));
        let began = Instant::now();
        fresh(&door).await?;
        taken.entry("in, new").or_default().push(micros(began));
        let began = Instant::now();
        ask(&mut stream, "/try/skep").await?;
        taken.entry("out").or_default().push(micros(began));
    }
    running.stop(Duration::ZERO).await?;
    driver.discard(&request.place).await?;
    Ok(())
}

/// A request on a connection of its own.
async fn fresh(door: &Door) -> Result<()> {
    let mut stream = door.connect().await?;
    ask(&mut stream, "/ping").await
}

/// One request; its answer comes in one piece.
async fn ask(stream: &mut TcpStream, path: &str) -> Result<()> {
    stream.set_nodelay(true)?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: agent\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut heard = vec![0; HEAD];
    let length = stream.read(&mut heard).await?;
    let text = String::from_utf8_lossy(&heard[..length]);
    if !text.starts_with("HTTP/1.1 200 ") || text.contains("refused") {
        return Err(format!("GET {path}: {text}").into());
    }
    Ok(())
}
