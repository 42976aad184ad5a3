//! What it costs to look at a request: `cargo xtask bench patterns`.

#![expect(clippy::print_stdout, reason = "it tells what it measured")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use skep_guard::threats::patterns::{Head, look};

/// How long each is looked at.
const FOR: Duration = Duration::from_millis(500);
/// Rounds, of which the best and the middle one are told.
const ROUNDS: usize = 9;

fn measure(name: &str, head: &Head<'_>) {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let (begun, mut count) = (Instant::now(), 0_u32);
            while begun.elapsed() < FOR / u32::try_from(ROUNDS).unwrap_or(1) {
                for _ in 0..100 {
                    black_box(look(black_box(head)));
                }
                count += 100;
            }
            begun.elapsed().as_secs_f64() * 1e9 / f64::from(count)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!(
        "{name}: {:.0} ns (best {:.0})",
        rounds[ROUNDS / 2],
        rounds[0]
    );
}

fn main() {
    let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
    let plain = Head {
        path: "/v1/chat/completions",
        query: None,
        host: Some(b"skep.example.com:7537"),
        agent: Some(b"python-requests/2.32.5"),
        headers: 9,
    };
    measure("a call of a program", &plain);
    let browser = Head {
        path: "/api/v1/agents/billing/logs",
        query: Some("follow=true&since=10m&q=caf%C3%A9+and+more"),
        agent: Some(agent.as_bytes()),
        headers: 18,
        ..plain
    };
    measure("a browser's request with a query", &browser);
    let (path, query) = (
        "/%252e%252e%252f".repeat(4_096),
        "%0d%0aset-cookie".repeat(4_096),
    );
    let worst = Head {
        path: &path,
        query: Some(&query),
        agent: Some(&[b'a'; 4_096]),
        ..plain
    };
    measure("the longest and oddest that there is", &worst);
}
