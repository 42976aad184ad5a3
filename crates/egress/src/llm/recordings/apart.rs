//! Embeddings of several texts: each text's vector is kept by itself, and only those are asked for that are not kept.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use skep_core::{ExchangeId, Timestamp, Workspace};
use skep_dialects::{Dialect, Inputs, apart, same, together};
use skep_store::StoreError;

use super::{Again, Keeper, Keeping, hash, request};
use crate::ledger::Way;
use crate::llm::plan::{Plan, Target};
use crate::recordings::rows::{self, VECTOR};
use crate::recordings::{Content, Keys, Leaf, MOST_HELD, Marks, Recorded};

/// Bytes of a vector, at most: more than 20,000 numbers in full length.
const MOST_VECTOR: usize = 512 << 10;

/// The texts of a request, by the marks of their vectors.
pub(in crate::llm) struct Apart {
    marks: Vec<[u8; 32]>,
    /// What is kept of each.
    known: Vec<Option<Vec<u8>>>,
    /// How long the oldest of these has been.
    age: Duration,
    /// The request for the others.
    pub(in crate::llm) rest: Bytes,
}

impl Apart {
    /// Whether some of it is kept.
    pub(in crate::llm) fn has_some(&self) -> bool {
        self.known.iter().any(Option::is_some)
    }

    /// Bytes that the answer of a provider has, at most.
    pub(in crate::llm) fn most(&self) -> usize {
        let missing = self.known.iter().filter(|it| it.is_none()).count();
        (missing * MOST_VECTOR).min(MOST_HELD)
    }

    /// What a provider answered, and what is kept.
    pub(in crate::llm) fn together(&self, answer: &[u8]) -> Option<Vec<u8>> {
        together(Some(answer), &self.known)
    }

    /// The answer, if all of it is kept.
    pub(in crate::llm) fn again(&self, target: &Target) -> Option<Again> {
        let kind = (CONTENT_TYPE.to_string(), "application/json".to_owned());
        let content = Content {
            status: 200,
            headers: vec![kind],
            answer: together(None, &self.known)?,
            ..Content::default()
        };
        Some(Again {
            how: "hit",
            nearness: None,
            age: self.age,
            model: target.name(),
            content,
        })
    }

    /// The vectors of a whole answer that are not kept yet.
    pub(super) fn fresh(&self, answer: &[u8]) -> Vec<([u8; 32], Vec<u8>)> {
        let vectors = apart(answer, self.marks.len()).unwrap_or_default();
        let each = self.marks.iter().zip(&self.known).zip(vectors);
        let fresh = each.filter(|((_, known), _)| known.is_none());
        fresh.map(|((mark, _), vector)| (*mark, vector)).collect()
    }
}

/// A vector as it is kept of an exchange.
pub(super) fn vector(
    of: &Recorded,
    headers: &[(String, String)],
    (mark, answer): ([u8; 32], Vec<u8>),
    until: Timestamp,
) -> Leaf {
    let recorded = Recorded {
        id: *ExchangeId::new().as_bytes(),
        until,
        cached_until: Some(until),
        outcome: VECTOR.to_owned(),
        call: None,
        looked_at: false,
        bytes: answer.len() as u64,
        ..of.clone()
    };
    let marks = Marks {
        cache: mark,
        call: None,
        near: None,
    };
    let content = Content {
        status: 200,
        headers: headers.to_vec(),
        answer,
        ..Content::default()
    };
    Leaf {
        recorded,
        marks,
        content,
        near: None,
    }
}

/// Who knows vectors, and of when they may be.
struct Looking {
    workspace: Workspace,
    keys: Arc<Keys>,
    times: (Timestamp, Timestamp),
}

impl Looking {
    /// A vector, and when it was made.
    fn find(
        &self,
        scope: &mut skep_store::Scope<'_>,
        mark: &[u8; 32],
    ) -> Result<Option<(Timestamp, Vec<u8>)>, StoreError> {
        let Some(found) = rows::cached(scope, mark, self.times)? else {
            return Ok(None);
        };
        let of = (Way::Model, &self.workspace, &found.id);
        let content = self.keys.open(of, &found.sealed);
        Ok(content.map(|it| (found.at, it.answer)))
    }
}

impl Keeper {
    /// The texts of a request for embeddings, and what is kept of them; nothing, where the request is kept as a whole.
    pub(in crate::llm) async fn apart(
        &self,
        keeping: &Keeping,
        plan: &Plan,
        (client, body): (&HeaderMap, &Bytes),
    ) -> Option<Apart> {
        let [target] = plan.targets.as_slice() else {
            return None;
        };
        let whole = keeping.replay.is_some() || plan.masked.is_some() || !keeping.caches();
        if whole || plan.dialect != Dialect::Embeddings {
            return None;
        }
        let inputs = Inputs::of(body)?;
        let around = same(&inputs.only(|_| false));
        let base = keeping.mark_of(b"vector", &request(plan, client, &around), target);
        let texts = inputs.texts.iter();
        let marks: Vec<[u8; 32]> = texts
            .map(|it| keeping.keys.mark.mac(&hash(&[&base, &same(it.as_bytes())])))
            .collect();
        let now = self.recordings.db().clock().now();
        let found = match keeping.reads {
            true => self.vectors(keeping, marks.clone(), now).await,
            false => Vec::new(),
        };
        let age = found.iter().flatten().map(|(at, _)| now.since(*at)).max();
        let mut known: Vec<_> = found.into_iter().map(|it| it.map(|(_, it)| it)).collect();
        known.resize(marks.len(), None);
        let rest = inputs.only(|nth| known.get(nth).is_none_or(Option::is_none));
        Some(Apart {
            marks,
            known,
            age: age.unwrap_or_default(),
            rest: rest.into(),
        })
    }

    /// What is kept of these marks.
    async fn vectors(
        &self,
        keeping: &Keeping,
        marks: Vec<[u8; 32]>,
        now: Timestamp,
    ) -> Vec<Option<(Timestamp, Vec<u8>)>> {
        let looking = Looking {
            workspace: keeping.workspace.clone(),
            keys: keeping.keys.clone(),
            times: (keeping.oldest(now), now),
        };
        let found = self.recordings.db().read(move |reader| {
            let mut scope = reader.scope(&looking.workspace);
            let each = marks.iter().map(|mark| looking.find(&mut scope, mark));
            each.collect::<Result<Vec<_>, StoreError>>()
        });
        let found = found.await.inspect_err(|error| {
            tracing::warn!(%error, "no vector that was kept is looked for");
        });
        found.unwrap_or_default()
    }
}
