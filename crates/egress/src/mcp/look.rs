//! Looks at what a server has, and keeps what it says: what is new waits for a yes, what changed waits for another.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use skep_core::Workspace;
use skep_mcp::{Definition, State, next_cursor, one_of};
use skep_store::{Change, Unit};

use super::client::Talk;
use super::service::{Condition, Inner, Server, Tool};
use super::{rows, stored};
use crate::EgressError;

/// Pages of a list.
const MOST_PAGES: usize = 50;
/// Tools of a server.
const MOST_TOOLS: usize = 500;
/// Bytes of all definitions of a server.
const MOST_BYTES: usize = 4 << 20;

/// Every tool that a server lists, as it says it.
async fn list(
    talk: &Talk,
    settings: &skep_mcp::Settings,
) -> Result<BTreeMap<String, (Definition, String)>, EgressError> {
    let failed = |why: &str| Inner::unreachable(settings, why);
    let (mut all, mut size) = (BTreeMap::new(), 0);
    let mut cursor: Option<String> = None;
    for _ in 0..MOST_PAGES {
        let params = cursor
            .as_ref()
            .map_or_else(|| json!({}), |it| json!({ "cursor": it }));
        let page = match talk.ask("tools/list", &params.to_string()).await? {
            Ok(page) => page,
            // It has none.
            Err(said) if said.code == skep_mcp::code::METHOD => return Ok(all),
            Err(said) => {
                let why = format!("it does not list its tools (code {})", said.code);
                return Err(failed(&why));
            }
        };
        let tools = one_of(&page, "tools").ok_or_else(|| failed("its list of tools is none"))?;
        for text in tools {
            let definition = match Definition::read(text) {
                Ok(definition) => definition,
                Err(why) => {
                    tracing::warn!(server = settings.name, %why, "a tool is left out");
                    continue;
                }
            };
            size += text.len();
            if size > MOST_BYTES || all.len() >= MOST_TOOLS {
                return Err(failed("it has more than 500 tools, or they say too much"));
            }
            // Whoever lists a name twice has none of them: which one a call means nobody knows.
            let name = definition.name.clone();
            if all.insert(name, (definition, text.to_owned())).is_some() {
                return Err(failed("it lists two tools of one name"));
            }
        }
        cursor = next_cursor(&page);
        if cursor.is_none() {
            return Ok(all);
        }
    }
    Err(failed("its list of tools does not end"))
}

/// What becomes of a tool by what its server says now; nothing, when it stays as it is.
pub(super) fn after(
    known: Option<&Tool>,
    name: &str,
    now: Option<&(Definition, String)>,
) -> Option<Tool> {
    let seen = now.map(|(definition, _)| definition.pin);
    match known {
        Some(tool) if tool.seen == seen => None,
        Some(tool) => {
            let mut tool = tool.clone();
            tool.seen = seen;
            if let Some((definition, text)) = now {
                tool.proposed = definition.proposed;
                tool.definition.clone_from(text);
            }
            Some(tool)
        }
        None => now.map(|(definition, text)| Tool {
            name: name.to_owned(),
            class: None,
            proposed: definition.proposed,
            approved: None,
            seen,
            definition: text.clone(),
        }),
    }
}

impl Inner {
    /// Looks at a server, and keeps what it has.
    pub(super) async fn look(
        self: &Arc<Self>,
        workspace: &Workspace,
        server: &Server,
    ) -> Result<(), EgressError> {
        let settings = Arc::new(server.settings.clone());
        let looked = async {
            let talk = Talk::begin(self, workspace, &settings).await?;
            let listed = list(&talk, &settings).await;
            let found = (talk.era, talk.hello.clone());
            talk.end().await;
            Ok::<_, EgressError>((listed?, found))
        };
        let (listed, (era, hello)) = match looked.await {
            Ok(found) => found,
            Err(error) => {
                self.note(
                    workspace,
                    &settings.name,
                    Condition::failed(self.db.clock().now(), &error),
                );
                return Err(error);
            }
        };
        self.note(
            workspace,
            &settings.name,
            Condition::well(self.db.clock().now(), era, &hello),
        );
        self.keep(workspace, &settings.name, listed).await
    }

    /// Keeps what a server has now.
    async fn keep(
        &self,
        workspace: &Workspace,
        server: &str,
        listed: BTreeMap<String, (Definition, String)>,
    ) -> Result<(), EgressError> {
        let (by, of, server) = (self.own.clone(), workspace.clone(), server.to_owned());
        let work = move |unit: &mut Unit<'_>| {
            let now = unit.now();
            let mut scope = unit.scope(&of);
            let Some(known) = stored::servers(&mut scope)?.remove(&server) else {
                return Ok(());
            };
            let gone = known
                .tools
                .keys()
                .filter(|name| !listed.contains_key(*name));
            for name in listed.keys().chain(gone) {
                let before = known.tools.get(name);
                let Some(tool) = after(before, name, listed.get(name)) else {
                    continue;
                };
                let state = tool.state();
                // Of what nobody ever said yes to nothing is kept.
                if state == State::Gone && tool.approved.is_none() {
                    rows::drop_tool(&mut scope, &server, name)?;
                } else {
                    let row = (server.as_str(), name.as_str(), &*stored::tool_text(&tool));
                    rows::put_tool(&mut scope, row, now)?;
                }
                let resource = format!("{server}/{name}");
                let change = Change {
                    action: Some("tool:seen"),
                    resource: ("Tool", &resource),
                    what: state.as_str(),
                    hash: None,
                };
                by.did(&mut scope, &change, now)?;
            }
            Ok::<_, EgressError>(())
        };
        self.db.write(work).await?;
        self.reload(workspace).await.map(drop)
    }
}
