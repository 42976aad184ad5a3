//! What a provider answers, on its way to the client: as it is, or in the client's dialect.

use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use skep_dialects::{
    Memory, StreamTranslation, Tap, WithoutUsage, translate_answer, translate_error,
};

use super::exchange::{Body, Change, Open};
use super::headers;
use super::plan::{Plan, Target};
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
    let failed = |why: String| EgressError::Unreachable {
        provider: target.provider.name.clone(),
        why,
    };
    let gathered = tokio::time::timeout(PATIENCE, Limited::new(answer, MOST_ANSWER).collect());
    let bytes = match gathered.await {
        Ok(Ok(whole)) => whole.to_bytes(),
        cut => {
            let estimate = good.then(|| plan.estimate(0));
            open.settle("cut", estimate, good);
            let why = cut.map(|it| it.err().map(|error| error.to_string()));
            let why = why.ok().flatten();
            return Err(failed(
                why.unwrap_or_else(|| "its answer did not come to an end".to_owned()),
            ));
        }
    };
    let mut tap = Tap::new(its, false);
    tap.push(&bytes);
    let (status, bytes) = match good {
        false => translate_error(its, own, status, &bytes),
        true => match translate_answer(its, own, &bytes, &memory) {
            Ok(translated) => (status, translated),
            Err(error) => {
                let known = tap.usage();
                let usage = known.unwrap_or_else(|| plan.estimate(tap.output_bytes()));
                open.settle("untranslatable", Some(usage), known.is_none());
                return Err(EgressError::Unusable {
                    provider: target.provider.name.clone(),
                    why: format!("it cannot be translated: {error}"),
                });
            }
        },
    };
    head.status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let body = Body::whole(bytes.into(), status, tap, open);
    Ok(Response::from_parts(head, body))
}
