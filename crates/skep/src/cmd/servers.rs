//! `servers`: those that share the database.

use skep_api::Server;
use skep_core::Timestamp;

use crate::failure::Result;
use crate::output::{Row, age};
use crate::session::Session;

impl Row for Server {
    const HEADERS: &'static [&'static str] = &["URL", "AGENTS", "AGE", "ROLE", "SERVER"];

    fn name(&self) -> String {
        self.id.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let role = match (self.leads, self.this) {
            (true, true) => "leads, answers",
            (true, false) => "leads",
            (false, true) => "answers",
            (false, false) => "-",
        };
        vec![
            self.url.clone(),
            self.agents.to_string(),
            age(&self.started_at, now),
            role.to_owned(),
            self.id.clone(),
        ]
    }
}

pub(crate) async fn servers(session: &Session) -> Result {
    let page = session.client()?.servers().await?;
    session.output.list(&page.items)
}
