//! What the store has of exchanges that are kept.

use std::time::Duration;

use skep_core::Timestamp;
use skep_store::{Row, Scope, StoreError};

use crate::ledger::Way;

/// The outcome of what is one vector of an answer, and no exchange: it is given again, and listed nowhere.
pub(crate) const VECTOR: &str = "vector";
/// The longest that an exchange is under way.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Questions that one is compared with.
const COMPARED: i64 = 200;
/// Rows that are removed in one unit.
const SWEPT: i64 = 500;

/// One that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The exchange.
    pub id: [u8; 16],
    /// By which way it went.
    pub way: Way,
    /// What was asked for: on the way to the web, the method.
    pub asked: String,
    /// When it began.
    pub at: Timestamp,
    /// When it is removed.
    pub until: Timestamp,
    /// Until when its answer is given again to the same request.
    pub cached_until: Option<Timestamp>,
    /// The kind of who asked.
    pub kind: String,
    /// Their id.
    pub who: String,
    /// Who answered: `provider/model`; on the way to the web, the host and the rule.
    pub model: String,
    /// How it ended.
    pub outcome: String,
    /// The call that it was for, and the number of its attempt.
    pub call: Option<(String, u32)>,
    /// By what it can be forgotten.
    pub tags: Vec<String>,
    /// It is kept for people to look at, and not only to be given again.
    pub looked_at: bool,
    /// Bytes that it takes.
    pub bytes: u64,
}

/// What it is found again by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Of its request and of who answered.
    pub(crate) cache: [u8; 32],
    /// Of its request, of who asked and for which call; and how often that was answered before in its attempt.
    pub(crate) call: Option<([u8; 32], u32)>,
    /// Of all of its request but what is asked last, and of who answered.
    pub(crate) near: Option<[u8; 32]>,
}

fn tags(all: &[String]) -> String {
    all.iter().fold(String::new(), |text, tag| text + "," + tag) + ","
}

/// Whether an exchange was forgotten while it was under way.
fn is_forgotten(scope: &mut Scope<'_>, one: &Recorded) -> Result<bool, StoreError> {
    let sql = "SELECT at FROM llm_forgotten WHERE workspace = ?1 AND at >= ?2 \
               AND (tag = '' OR ?3 LIKE tag) AND (model = '' OR model = ?4) LIMIT 1";
    let tags = tags(&one.tags);
    let those = [one.at.into(), tags.as_str().into(), (&one.model).into()];
    Ok(scope.query_opt(sql, &those)?.is_some())
}

/// Keeps one; what was forgotten meanwhile, for who looks at it alone.
pub(crate) fn insert(
    scope: &mut Scope<'_>,
    (one, marks): (&Recorded, &Marks),
    (sealed, near): (&[u8], Option<&[u8]>),
) -> Result<(), StoreError> {
    let cached_until = match one.cached_until {
        Some(_) if is_forgotten(scope, one)? => None,
        until => until,
    };
    if cached_until.is_none() && !one.looked_at && marks.call.is_none() {
        return Ok(());
    }
    let (asked, nth) = match &marks.call {
        Some((mark, nth)) => (Some(mark.as_slice()), i64::from(*nth)),
        None => (None, 0),
    };
    let (call, attempt) = match &one.call {
        Some((call, attempt)) => (Some(call.as_str()), i64::from(*attempt)),
        None => (None, 0),
    };
    scope.execute(
        "INSERT INTO llm_recordings (workspace, id, at, until, cached_until, cache_mark, call_mark, nth, attempt, call, \
         kind, who, model, outcome, tags, looked_at, bytes, sealed, way, asked, near_mark, near) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22) \
         ON CONFLICT (workspace, id) DO NOTHING",
        &[
            (&one.id).into(),
            one.at.into(),
            one.until.into(),
            cached_until.map_or(0, Timestamp::as_micros).into(),
            marks.cache.as_slice().into(),
            asked.into(),
            nth.into(),
            attempt.into(),
            call.into(),
            (&one.kind).into(),
            (&one.who).into(),
            (&one.model).into(),
            (&one.outcome).into(),
            tags(&one.tags).as_str().into(),
            one.looked_at.into(),
            i64::try_from(one.bytes).unwrap_or(i64::MAX).into(),
            sealed.into(),
            one.way.as_str().into(),
            (&one.asked).into(),
            marks.near.as_ref().map(<[u8; 32]>::as_slice).into(),
            near.into(),
        ],
    )?;
    Ok(())
}

/// An answer that may be given again, sealed.
pub(crate) struct Found {
    pub(crate) id: [u8; 16],
    pub(crate) at: Timestamp,
    pub(crate) model: String,
    pub(crate) sealed: Vec<u8>,
}

fn found(row: &Row) -> Result<Found, StoreError> {
    Ok(Found {
        id: row.bytes(0)?,
        at: row.time(1)?,
        model: row.text(2)?.to_owned(),
        sealed: row.blob(3)?.to_vec(),
    })
}

/// The newest answer to a request that may be given again now, and is not older than that.
pub(crate) fn cached(
    scope: &mut Scope<'_>,
    mark: &[u8; 32],
    (oldest, now): (Timestamp, Timestamp),
) -> Result<Option<Found>, StoreError> {
    let row = scope.query_opt(
        "SELECT id, at, model, sealed FROM llm_recordings \
         WHERE workspace = ?1 AND cache_mark = ?2 AND cached_until > ?3 AND at > ?4 ORDER BY at DESC LIMIT 1",
        &[mark.as_slice().into(), now.into(), oldest.into()],
    )?;
    row.as_ref().map(found).transpose()
}

/// A question: whose answer it had, and its vector, sealed.
pub(crate) type Asked = ([u8; 16], Vec<u8>);

/// The newest questions that stood in the same request, with their vectors, sealed, where their answers may be given again now
/// and are not older than that.
pub(crate) fn near(
    scope: &mut Scope<'_>,
    mark: &[u8; 32],
    (oldest, now): (Timestamp, Timestamp),
) -> Result<Vec<Asked>, StoreError> {
    let rows = scope.query(
        "SELECT id, near FROM llm_recordings WHERE workspace = ?1 AND near_mark = ?2 AND cached_until > ?3 AND at > ?4 \
         ORDER BY at DESC LIMIT ?5",
        &[mark.as_slice().into(), now.into(), oldest.into(), COMPARED.into()],
    )?;
    let pair = |row: &Row| Ok((row.bytes(0)?, row.blob(1)?.to_vec()));
    rows.iter().map(pair).collect()
}

/// The answer of one of them.
pub(crate) fn answer(scope: &mut Scope<'_>, id: &[u8; 16]) -> Result<Option<Found>, StoreError> {
    let sql = "SELECT id, at, model, sealed FROM llm_recordings WHERE workspace = ?1 AND id = ?2";
    let row = scope.query_opt(sql, &[id.into()])?;
    row.as_ref().map(found).transpose()
}

/// What an earlier attempt of the same call was answered, when it had been answered this so many times.
pub(crate) fn replayed(
    scope: &mut Scope<'_>,
    (mark, nth): (&[u8; 32], u32),
    (attempt, oldest): (u32, Timestamp),
) -> Result<Option<Found>, StoreError> {
    let row = scope.query_opt(
        "SELECT id, at, model, sealed FROM llm_recordings \
         WHERE workspace = ?1 AND call_mark = ?2 AND nth = ?3 AND attempt < ?4 AND at > ?5 \
         ORDER BY attempt DESC, id LIMIT 1",
        &[
            mark.as_slice().into(),
            i64::from(nth).into(),
            i64::from(attempt).into(),
            oldest.into(),
        ],
    )?;
    row.as_ref().map(found).transpose()
}

/// A query of rows of a way that have not come to their end, without their content.
macro_rules! listed {
    ($rest:literal) => {
        concat!(
            "SELECT id, at, until, cached_until, kind, who, model, outcome, call, attempt, tags, bytes, looked_at, asked ",
            "FROM llm_recordings WHERE workspace = ?1 AND until > ?2 AND way = ?3 AND outcome <> 'vector' ",
            $rest
        )
    };
}

fn recorded(row: &Row, way: Way) -> Result<Recorded, StoreError> {
    let cached = row.int(3)?;
    let attempt = u32::try_from(row.int(9)?).unwrap_or(u32::MAX);
    let tags = row.text(10)?.split(',').filter(|it| !it.is_empty());
    Ok(Recorded {
        id: row.bytes(0)?,
        way,
        asked: row.text(13)?.to_owned(),
        at: row.time(1)?,
        until: row.time(2)?,
        cached_until: (cached > 0).then(|| Timestamp::from_micros(cached)),
        kind: row.text(4)?.to_owned(),
        who: row.text(5)?.to_owned(),
        model: row.text(6)?.to_owned(),
        outcome: row.text(7)?.to_owned(),
        call: row.opt_text(8)?.map(|it| (it.to_owned(), attempt)),
        tags: tags.map(str::to_owned).collect(),
        bytes: u64::try_from(row.int(11)?).unwrap_or_default(),
        looked_at: row.int(12)? > 0,
    })
}

/// The newest of a way, before one of them, that have not come to their end.
pub(crate) fn page(
    scope: &mut Scope<'_>,
    way: Way,
    (before, now): (Option<[u8; 16]>, Timestamp),
    limit: u32,
) -> Result<Vec<Recorded>, StoreError> {
    let limit = i64::from(limit);
    let of = way.as_str();
    let rows = match &before {
        // Ids grow with time.
        Some(before) => scope.query(
            listed!("AND id < ?4 ORDER BY id DESC LIMIT ?5"),
            &[now.into(), of.into(), before.into(), limit.into()],
        )?,
        None => scope.query(
            listed!("ORDER BY id DESC LIMIT ?4"),
            &[now.into(), of.into(), limit.into()],
        )?,
    };
    rows.iter().map(|row| recorded(row, way)).collect()
}

/// One of them, with its content, sealed.
pub(crate) fn one(
    scope: &mut Scope<'_>,
    (way, id): (Way, &[u8; 16]),
    now: Timestamp,
) -> Result<Option<(Recorded, Vec<u8>)>, StoreError> {
    let those = [now.into(), way.as_str().into(), id.into()];
    let Some(row) = scope.query_opt(listed!("AND id = ?4"), &those)? else {
        return Ok(None);
    };
    let sql = "SELECT sealed FROM llm_recordings WHERE workspace = ?1 AND id = ?2";
    let sealed = scope.query_opt(sql, &[id.into()])?;
    let sealed = sealed
        .map(|it| it.blob(0).map(<[u8]>::to_vec))
        .transpose()?;
    Ok(Some((recorded(&row, way)?, sealed.unwrap_or_default())))
}

/// Which answers are given again no more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Which {
    /// Those with this tag.
    pub tag: Option<String>,
    /// Those of this model (`provider/model`).
    pub model: Option<String>,
}

/// Gives answers again no more: those that nobody looks at, and that are no attempt's, are removed.
pub(crate) fn forget(
    scope: &mut Scope<'_>,
    which: &Which,
    now: Timestamp,
) -> Result<(), StoreError> {
    let tag = which.tag.as_ref().map(|it| format!("%,{it},%"));
    let those = [
        now.into(),
        tag.as_deref().unwrap_or_default().into(),
        which.model.as_deref().unwrap_or_default().into(),
    ];
    scope.execute(
        "DELETE FROM llm_recordings WHERE workspace = ?1 AND cached_until > ?2 \
         AND (?3 = '' OR tags LIKE ?3) AND (?4 = '' OR model = ?4) AND looked_at = 0 AND call_mark IS NULL",
        &those,
    )?;
    let sql = "INSERT INTO llm_forgotten (workspace, at, tag, model) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
    scope.execute(sql, &those)?;
    let sql = "DELETE FROM llm_forgotten WHERE workspace = ?1 AND at < ?2";
    scope.execute(sql, &[now.minus(LONGEST).into()])?;
    scope.execute(
        "UPDATE llm_recordings SET cached_until = 0 WHERE workspace = ?1 AND cached_until > ?2 \
         AND (?3 = '' OR tags LIKE ?3) AND (?4 = '' OR model = ?4)",
        &those,
    )?;
    Ok(())
}

/// Removes one. Tells whether there was one.
pub(crate) fn remove(scope: &mut Scope<'_>, way: Way, id: &[u8; 16]) -> Result<bool, StoreError> {
    let sql = "DELETE FROM llm_recordings WHERE workspace = ?1 AND id = ?2 AND way = ?3";
    Ok(scope.execute(sql, &[id.into(), way.as_str().into()])? > 0)
}

/// Removes some of those that have come to their end. Tells whether there may be more.
pub(crate) fn sweep(scope: &mut Scope<'_>, now: Timestamp) -> Result<bool, StoreError> {
    let swept = scope.execute(
        "DELETE FROM llm_recordings WHERE workspace = ?1 AND id IN (SELECT id FROM llm_recordings \
         WHERE workspace = ?1 AND until <= ?2 LIMIT ?3)",
        &[now.into(), SWEPT.into()],
    )?;
    Ok(i64::try_from(swept).unwrap_or(i64::MAX) >= SWEPT)
}

/// Whether one has come to its end.
pub(crate) fn is_due(scope: &mut Scope<'_>, now: Timestamp) -> Result<bool, StoreError> {
    let sql = "SELECT id FROM llm_recordings WHERE workspace = ?1 AND until <= ?2 LIMIT 1";
    Ok(scope.query_opt(sql, &[now.into()])?.is_some())
}

/// Bytes of all that is kept, whatever way it went.
pub(crate) fn bytes(scope: &mut Scope<'_>) -> Result<u64, StoreError> {
    let sql =
        "SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM llm_recordings WHERE workspace = ?1";
    let row = scope.query_opt(sql, &[])?;
    let sum = row.map_or(Ok(0), |row| row.int(0))?;
    Ok(u64::try_from(sum).unwrap_or_default())
}

/// Removes some of those that nobody looks at, those first that would end first. Tells how many.
pub(crate) fn thin(scope: &mut Scope<'_>) -> Result<usize, StoreError> {
    scope.execute(
        "DELETE FROM llm_recordings WHERE workspace = ?1 AND id IN (SELECT id FROM llm_recordings \
         WHERE workspace = ?1 AND looked_at = 0 ORDER BY until LIMIT ?2)",
        &[SWEPT.into()],
    )
}
