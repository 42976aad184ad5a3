//! What the audit log tells of calls: each leaves an entry in the unit that accepts it, and in the unit that ends it or begins it
//! anew. The numbers of the entries are an order that everybody sees alike, whichever server has the agent.

use std::collections::HashMap;

use skep_api::CallState;
use skep_audit::{Entry, Filter};
use skep_core::{CallId, Timestamp, Workspace};
use skep_ingress::Ingress;

use crate::audit::Audit;
use crate::problem::ApiError;

/// The action of what ends calls.
pub(crate) const END: &str = "call:end";

/// What an entry tells of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) call: CallId,
    /// What it came to.
    pub(crate) state: CallState,
    /// The agent's status, when it ended by an answer.
    pub(crate) status: Option<u16>,
    pub(crate) at: Timestamp,
    /// The agent's name; none when the call is not kept any more.
    pub(crate) agent: Option<String>,
}

/// The change that an entry is of, if it is of a call.
fn parse(entry: &Entry<'_>) -> Option<Change> {
    let change = entry
        .change
        .as_ref()
        .filter(|_| entry.resource.kind == "Call")?;
    let (call, at) = (entry.resource.id.parse().ok()?, entry.time.parse().ok()?);
    let (state, status, agent) = match &*entry.action {
        END => {
            let (state, status) = match change.what.split_once(", ") {
                Some((state, status)) => (state, status.parse().ok()),
                None => (&*change.what, None),
            };
            let known = CallState::ALL.into_iter().find(|it| it.as_str() == state);
            (known?, status, None)
        }
        // What is forgotten or taken back has no hash: nothing is left of it.
        _ => {
            change.hash.as_ref()?;
            let agent = change.what.clone().into_owned();
            (CallState::Accepted, None, Some(agent))
        }
    };
    Some(Change {
        call,
        state,
        status,
        at,
        agent,
    })
}

/// What happened to calls of a workspace behind a number, oldest first, each with its own number; and the number that was looked up
/// to. With `ended`, only that they ended or begin anew.
///
/// # Errors
/// The store's own.
pub(crate) async fn behind(
    (audit, ingress): (&Audit, &Ingress),
    workspace: &Workspace,
    (after, most): (u64, u32),
    ended: bool,
) -> Result<(Vec<(u64, Change)>, u64), ApiError> {
    let filter = Filter {
        workspace: Some(workspace.to_string()),
        action: ended.then(|| END.to_owned()),
        ..Filter::default()
    };
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let (found, next) = audit.log.tail(filter, after, most).await?;
    // There is an entry 0, and who has seen nothing begins behind 0.
    let changes = found.iter().filter_map(|it| {
        let entry = Entry::parse(&it.bytes)?;
        Some((it.number + 1, parse(&entry)?))
    });
    let mut changes: Vec<(u64, Change)> = changes.collect();
    let unknown = changes.iter().filter(|(_, it)| it.agent.is_none());
    let unknown: Vec<CallId> = unknown.map(|(_, it)| it.call).collect();
    let agents: HashMap<CallId, String> = match unknown.is_empty() {
        true => HashMap::new(),
        false => ingress.agents_of(workspace, unknown).await?,
    };
    for (_, change) in &mut changes {
        if change.agent.is_none() {
            change.agent = agents.get(&change.call).cloned();
        }
    }
    Ok((changes, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(
        action: &str,
        kind: &str,
        change: &str,
    ) -> Option<(CallState, Option<u16>, Option<String>)> {
        let text = format!(
            r#"{{"time":"2026-11-22T15:00:00Z","principal":{{"kind":"Server","id":"srv"}},"action":"{action}",
            "resource":{{"kind":"{kind}","id":"call_01h455vb4pex5vsknk084sn02q"}},"decision":"allow","change":{change}}}"#
        );
        let entry = Entry::parse(text.as_bytes()).unwrap();
        parse(&entry).map(|it| (it.state, it.status, it.agent))
    }

    #[test]
    fn a_change_is_read_out_of_its_entry() {
        use CallState::{Accepted, Cancelled, Dead, Failed, Succeeded};
        for (what, state, status) in [
            ("succeeded, 200", Succeeded, Some(200)),
            ("failed, 500", Failed, Some(500)),
            ("cancelled", Cancelled, None),
            ("dead", Dead, None),
            ("accepted", Accepted, None),
        ] {
            let told = of(END, "Call", &format!(r#"{{"what":"{what}"}}"#));
            assert_eq!(told, Some((state, status, None)), "{what}");
        }
        assert_eq!(of(END, "Call", r#"{"what":"odd"}"#), None);
        let begun = of("agent:call", "Call", r#"{"what":"shop","hash":"00"}"#);
        assert_eq!(begun, Some((Accepted, None, Some("shop".to_owned()))));
    }

    #[test]
    fn what_is_of_no_call_or_forgets_one_is_no_change() {
        assert_eq!(
            of(
                "agent:deploy",
                "Agent",
                r#"{"what":"revision 1","hash":"00"}"#
            ),
            None
        );
        assert_eq!(of("call:forget", "Call", r#"{"what":"shop"}"#), None);
    }
}
