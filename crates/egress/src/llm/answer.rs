//! What a provider answers, on its way to the client: as it is, or in the client's dialect.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use skep_dialects::{
    Memory, StreamTranslation, Tap, WithoutUsage, translate_answer, translate_error,
};

use super::exchange::{Body, Change, Open};
use super::headers;
use super::plan::{Plan, Target};
use super::recordings::Apart;
use super::send::PATIENCE;
use crate::EgressError;
use crate::links::Answering;

/// Bytes of an answer that is translated at once.
const MOST_ANSWER: usize = 32 << 20;

/// An answer that passes as it comes.
pub(super) fn passed(
    plan: &Plan,
    target: &Target,
    open: Open,
    answer: Response<Answering>,
) -> Response<Body> {
    let (mut head, answer) = answer.into_parts();
    let without = plan.asks_usage(target.provider.kind) && head.status.is_success();
    headers::to_client(&mut head.headers, without);
    let change = match without {
        true => Change::WithoutUsage(WithoutUsage::new()),
        false => Change::Nothing,
    };
    let body = Body::new(answer, (head.status.as_u16(), plan.dialect), open, change);
    Response::from_parts(head, body)
}

/// An answer in another dialect becomes one of the client's.
pub(super) async fn translated(
    plan: &Plan,
    target: &Target,
    mut open: Open,
    (answer, memory): (Response<Answering>, Memory),
) -> Result<Response<Body>, EgressError> {
    let (its, own) = (plan.dialect_of(target), plan.dialect);
    let (mut head, answer) = answer.into_parts();
    let (status, good) = (head.status.as_u16(), head.status.is_success());
    let streams = good && plan.streams();
    head.headers = headers::of_translation(&head.headers, streams);
    if streams {
        let translation = match StreamTranslation::new(its, own, &memory) {
            Ok(translation) => Change::Translation(Box::new(translation)),
            Err(error) => return Err(open.refuse(&error)),
        };
        let body = Body::new(answer, (status, its), open, translation);
        return Ok(Response::from_parts(head, body));
    }
    let bytes = gathered((plan, target), &mut open, good, (answer, MOST_ANSWER)).await?;
    let mut tap = Tap::new(its, false);
    tap.push(&bytes);
    let (status, bytes) = match good {
        false => translate_error(its, own, status, &bytes),
        true => match translate_answer(its, own, &bytes, &memory) {
            Ok(translated) => (status, translated),
            Err(error) => {
                let why = format!("it cannot be translated: {error}");
                return Err(unusable(
                    (plan, target),
                    open,
                    &tap,
                    ("untranslatable", why),
                ));
            }
        },
    };
    head.status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let body = Body::whole(bytes.into(), status, tap, open);
    Ok(Response::from_parts(head, body))
}

/// An answer about some texts becomes one about all of them, with what is kept of the others.
pub(super) async fn joined(
    plan: &Plan,
    target: &Target,
    mut open: Open,
    (answer, apart): (Response<Answering>, &Apart),
) -> Result<Response<Body>, EgressError> {
    let (mut head, answer) = answer.into_parts();
    headers::to_client(&mut head.headers, true);
    let bytes = gathered((plan, target), &mut open, true, (answer, apart.most())).await?;
    let mut tap = Tap::new(plan.dialect, false);
    tap.push(&bytes);
    let Some(whole) = apart.together(&bytes) else {
        let why = "it has not one vector for each text that was asked about".to_owned();
        return Err(unusable((plan, target), open, &tap, ("unusable", why)));
    };
    let body = Body::whole(whole.into(), head.status.as_u16(), tap, open);
    Ok(Response::from_parts(head, body))
}

/// A whole answer, of so many bytes at most.
async fn gathered(
    (plan, target): (&Plan, &Target),
    open: &mut Open,
    good: bool,
    (answer, most): (Answering, usize),
) -> Result<Bytes, EgressError> {
    let gathered = tokio::time::timeout(PATIENCE, Limited::new(answer, most).collect());
    let cut = match gathered.await {
        Ok(Ok(whole)) => return Ok(whole.to_bytes()),
        cut => cut,
    };
    let estimate = good.then(|| plan.estimate(0));
    open.settle("cut", estimate, good);
    let why = cut.map(|it| it.err().map(|error| error.to_string()));
    let why = why.ok().flatten();
    Err(EgressError::Unreachable {
        provider: target.provider.name.clone(),
        why: why.unwrap_or_else(|| "its answer did not come to an end".to_owned()),
    })
}

/// An answer that cannot be given is paid for all the same.
fn unusable(
    (plan, target): (&Plan, &Target),
    mut open: Open,
    tap: &Tap,
    (outcome, why): (&str, String),
) -> EgressError {
    let known = tap.usage();
    let usage = known.unwrap_or_else(|| plan.estimate(tap.output_bytes()));
    open.settle(outcome, Some(usage), known.is_none());
    EgressError::Unusable {
        provider: target.provider.name.clone(),
        why,
    }
}
