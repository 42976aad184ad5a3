//! Questions whose answers are given again to others that mean the same.

use http::HeaderMap;
use skep_store::StoreError;

use super::{Again, Keep, Keeper, Keeping, request};
use crate::ledger::Way;
use crate::llm::plan::{Plan, Target};
use crate::llm::similar::{Near, Vector};
use crate::recordings::rows;

/// What a request asks last, and the mark of all else of it.
pub(in crate::llm) struct Asked {
    request: [u8; 32],
    vector: Vector,
    least: f64,
}

impl Asked {
    pub(in crate::llm) fn of(near: Near, plan: &Plan, client: &HeaderMap) -> Self {
        Self {
            request: request(plan, client, &near.around),
            vector: near.vector,
            least: near.least,
        }
    }
}

impl Keep {
    /// Others that ask nearly the same may get it.
    pub(in crate::llm) fn asked(mut self, asked: Option<&Asked>, target: &Target) -> Self {
        if let Some(asked) = asked {
            let mark = self.keeping.mark_of(b"near", &asked.request, target);
            self.marks.near = Some(mark);
            self.near = Some(asked.vector.clone());
        }
        self
    }
}

impl Keeping {
    /// Whether an answer to another question may be given, or this one be given to another.
    pub(in crate::llm) const fn compares(&self) -> bool {
        self.keeps && self.time.is_some() && self.compares && self.replay.is_none()
    }
}

impl Keeper {
    /// The answer to the question that is the nearest, if it is near enough: of the first who could answer that has one.
    pub(in crate::llm) async fn nearest<'a>(
        &self,
        keeping: &Keeping,
        asked: &Asked,
        targets: impl Iterator<Item = &'a Target>,
    ) -> Option<Again> {
        if !keeping.reads {
            return None;
        }
        let now = self.recordings.db().clock().now();
        let times = (keeping.oldest(now), now);
        let marks: Vec<[u8; 32]> = targets
            .map(|it| keeping.mark_of(b"near", &asked.request, it))
            .collect();
        let (workspace, keys) = (keeping.workspace.clone(), keeping.keys.clone());
        let (vector, least) = (asked.vector.clone(), asked.least);
        let found = self.recordings.db().read(move |reader| {
            let mut scope = reader.scope(&workspace);
            for mark in &marks {
                let near = rows::near(&mut scope, mark, times)?.into_iter();
                let each = near.filter_map(|(id, sealed)| {
                    let of = (Way::Model, &workspace, &id);
                    let plain = keys.open_vector(of, &sealed)?;
                    let near = Vector::from_bytes(&plain)?.near(&vector)?;
                    (near >= least).then_some((near, id))
                });
                if let Some((near, id)) = each.max_by(|a, b| a.0.total_cmp(&b.0)) {
                    return Ok::<_, StoreError>(
                        rows::answer(&mut scope, &id)?.map(|it| (near, it)),
                    );
                }
            }
            Ok(None)
        });
        let found = found.await.inspect_err(|error| {
            tracing::warn!(%error, "no question that means the same is looked for");
        });
        let (near, found) = found.ok().flatten()?;
        let of = (Way::Model, &keeping.workspace, &found.id);
        let content = keeping.keys.open(of, &found.sealed)?;
        Some(Again {
            how: "similar",
            nearness: Some(near),
            age: now.since(found.at),
            model: found.model,
            content,
        })
    }
}
