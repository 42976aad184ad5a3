//! What happens, line by line: calls as they end, and what the agent writes.

use std::collections::VecDeque;
use std::time::Duration;

use skep_api::{Call, CallState};
use skep_client::{CallsQuery, Client, LogsQuery, PageQuery};
use skep_core::Timestamp;

use crate::failure::Result;
use crate::output::{Format, Output, human_bytes};
use crate::table::clean;

/// How often new calls are looked for.
const LOOK: Duration = Duration::from_millis(200);
/// Calls that are read in one look.
const MOST: u32 = 1_000;
/// Calls that are watched until they end; the oldest are let go.
const MOST_OPEN: usize = 200;
/// Columns of a line on a terminal whose width is not asked for.
const WIDTH: usize = 80;

/// Prints each call of the agent when it has ended.
pub(super) async fn calls(client: &Client, output: &Output, agent: &str) -> Result {
    let mut last = String::new();
    let mut open: VecDeque<String> = VecDeque::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let query = CallsQuery {
            agent: Some(agent.to_owned()),
            state: None,
            page: PageQuery {
                cursor: None,
                limit: Some(MOST),
            },
        };
        // A server that is away is told of by others.
        let Ok(page) = client.calls(&query).await else {
            continue;
        };
        // Ids grow with time; the newest come first.
        let fresh = page.items.iter().take_while(|call| call.id > last);
        let fresh: Vec<_> = fresh.collect();
        if let Some(newest) = fresh.first() {
            last.clone_from(&newest.id);
        }
        for _ in 0..open.len() {
            let Some(id) = open.pop_front() else { break };
            match client.show_call(&id).await {
                Ok(call) if call.state.is_final() => print(output, &call)?,
                Ok(_) => open.push_back(id),
                // It was forgotten.
                Err(_) => {}
            }
        }
        for call in fresh.into_iter().rev() {
            match call.state.is_final() {
                true => print(output, call)?,
                false => open.push_back(call.id.clone()),
            }
        }
        while open.len() > MOST_OPEN {
            open.pop_front();
        }
    }
}

fn print(output: &Output, call: &Call) -> Result {
    if output.format != Format::Table {
        return output.raw((skep_api::to_json(call) + "\n").as_bytes());
    }
    let color = match call.state {
        CallState::Succeeded => "32",
        CallState::Failed => "33",
        _ => "31",
    };
    let (request, rest) = line(call);
    output.raw(format!("{request}{}\n", output.paint(color, &rest)).as_bytes())
}

/// A call in 80 columns: what was asked, and what came of it.
fn line(call: &Call) -> (String, String) {
    let status = match call.status.filter(|_| call.state != CallState::Dead) {
        Some(status) => status.to_string(),
        None => call.state.as_str().to_owned(),
    };
    let tries = match call.attempts {
        1 => String::new(),
        tries => format!("  {tries} tries"),
    };
    let size = call
        .response_bytes
        .map_or_else(|| "-".to_owned(), human_bytes);
    let rest = format!("{status:>9} {:>9} {size:>9}{tries}", took(call));
    let request = clean(&format!("{:<6} {}", call.method, call.target));
    let room = WIDTH.saturating_sub(rest.chars().count() + 2);
    let shown: String = match request.chars().count() > room {
        true => request
            .chars()
            .take(room.saturating_sub(1))
            .chain(['…'])
            .collect(),
        false => request,
    };
    (format!("{shown:<room$}  "), rest)
}

/// From acceptance to end.
fn took(call: &Call) -> String {
    let time = |text: &str| text.parse::<Timestamp>().ok();
    let ended = call.finished_at.as_deref().and_then(time);
    match time(&call.accepted_at).zip(ended) {
        None => "-".to_owned(),
        Some((from, to)) => match to.since(from) {
            took if took >= Duration::from_secs(10) => format!("{:.1} s", took.as_secs_f64()),
            took => format!("{} ms", took.as_millis()),
        },
    }
}

/// Prints what the agent writes, and what Skep does with it.
pub(super) async fn logs(client: &Client, output: &Output, agent: &str) -> Result {
    let mut last = Timestamp::system_now().to_string();
    loop {
        let query = LogsQuery {
            follow: true,
            since: Some(last.clone()),
            ..LogsQuery::default()
        };
        if let Ok(mut lines) = client.logs(agent, &query).await {
            while let Ok(Some(line)) = lines.next().await {
                let text = clean(&line.text);
                let shown = match line.stream.as_str() {
                    "skep" => output.paint("2", &format!("  · {text}")),
                    "stderr" => format!("  ! {text}"),
                    _ => format!("  | {text}"),
                };
                last = line.time;
                output.say(&shown)?;
            }
        }
        // It is not there yet, or the server is away.
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(target: &str, state: &str, attempts: u32) -> Call {
        serde_json::from_value(serde_json::json!({
            "id": "call_1", "agent": "a", "state": state, "method": "POST", "target": target,
            "attempts": attempts, "status": 200, "request_bytes": 3, "response_bytes": 34,
            "accepted_at": "2026-11-21T04:54:08.000Z", "deadline_at": "2026-11-21T05:54:08Z",
            "finished_at": "2026-11-21T04:54:08.012Z",
        }))
        .unwrap()
    }

    #[test]
    fn a_call_is_a_line_of_80_columns() {
        let shown = |call: &Call| {
            let (request, rest) = line(call);
            request + &rest
        };
        assert_eq!(
            shown(&call("/greet", "succeeded", 1)),
            format!("{:<51}{:>29}", "POST   /greet", "200     12 ms       34B")
        );
        let long = shown(&call(&"/x".repeat(99), "dead", 5));
        assert_eq!(long.chars().count(), 80);
        assert!(
            long.ends_with("dead     12 ms       34B  5 tries") && long.contains('…'),
            "{long}"
        );
    }
}
