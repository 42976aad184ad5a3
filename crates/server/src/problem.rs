//! Errors as clients see them: problem documents (RFC 9457), with the cause in the log only.

use std::fmt;

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderValue, PROXY_AUTHENTICATE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, StatusCode};
use skep_api::Problem;
use skep_core::{Code, PublicError, RequestId};
use skep_egress::EgressError;
use skep_egress::web::WebError;
use skep_egress::webhooks::WebhookError;
use skep_guard::PolicyError;
use skep_guard::identity::IdentityError;
use skep_ingress::IngressError;
use skep_runtime::RuntimeError;
use skep_store::StoreError;
use skep_vault::VaultError;

use crate::gate::Denied;
use crate::rates::Limited;

/// Any error of a request, on its way out.
#[derive(Debug)]
pub(crate) enum ApiError {
    Ingress(IngressError),
    Runtime(RuntimeError),
    Store(StoreError),
    Denied(Denied),
    Limited(Limited),
    Policy(PolicyError),
    Identity(IdentityError),
    Vault(VaultError),
    Egress(EgressError),
    Web(WebError),
    Webhook(WebhookError),
    Plain(Plain),
}

/// An error of the HTTP surface itself.
#[derive(Debug)]
pub(crate) struct Plain {
    pub(crate) code: Code,
    pub(crate) detail: String,
}

impl ApiError {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self::Plain(Plain {
            code,
            detail: detail.into(),
        })
    }

    pub(crate) fn public(&self) -> &dyn PublicError {
        match self {
            Self::Ingress(error) => error,
            Self::Runtime(error) => error,
            Self::Store(error) => error,
            Self::Denied(error) => error,
            Self::Limited(error) => error,
            Self::Policy(error) => error,
            Self::Identity(error) => error,
            Self::Vault(error) => error,
            Self::Egress(error) => error,
            Self::Web(error) => error,
            Self::Webhook(error) => error,
            Self::Plain(error) => error,
        }
    }
}

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Plain {}

impl PublicError for Plain {
    fn code(&self) -> Code {
        self.code
    }

    fn detail(&self) -> String {
        self.detail.clone()
    }
}

impl From<IngressError> for ApiError {
    fn from(error: IngressError) -> Self {
        Self::Ingress(error)
    }
}

impl From<RuntimeError> for ApiError {
    fn from(error: RuntimeError) -> Self {
        Self::Runtime(error)
    }
}

impl From<PolicyError> for ApiError {
    fn from(error: PolicyError) -> Self {
        Self::Policy(error)
    }
}

impl From<IdentityError> for ApiError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Store(error) => Self::Store(error),
            other => Self::Identity(other),
        }
    }
}

impl From<EgressError> for ApiError {
    fn from(error: EgressError) -> Self {
        match error {
            EgressError::Store(error) => Self::Store(error),
            other => Self::Egress(other),
        }
    }
}

impl From<WebhookError> for ApiError {
    fn from(error: WebhookError) -> Self {
        match error {
            WebhookError::Store(error) => Self::Store(error),
            other => Self::Webhook(other),
        }
    }
}

impl From<WebError> for ApiError {
    fn from(error: WebError) -> Self {
        match error {
            WebError::Egress(error) => error.into(),
            other => Self::Web(other),
        }
    }
}

impl From<VaultError> for ApiError {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Store(error) => Self::Store(error),
            other => Self::Vault(other),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The problem document for an error of this request. Logs the cause of what is Skep's own fault.
pub(crate) fn render(error: &ApiError, request: RequestId) -> http::Response<String> {
    let public = error.public();
    let code = public.code();
    if code.status() >= 500 {
        tracing::warn!(%request, code = code.as_str(), cause = %chain(public), "request failed");
    } else {
        tracing::debug!(%request, code = code.as_str(), cause = %chain(public), "request refused");
    }
    let body = skep_api::to_json(&Problem::new(public, &request.to_string()));
    let mut response = http::Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    if let Some(seconds) = public.retry_after_s() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if code == Code::Unauthorized {
        headers.insert(
            WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"skep\""),
        );
    }
    if code == Code::ProxyUnauthorized {
        headers.insert(
            PROXY_AUTHENTICATE,
            HeaderValue::from_static("Basic realm=\"skep\""),
        );
    }
    if let ApiError::Ingress(error) = error
        && let Some(call) = error.call()
        && let Ok(value) = HeaderValue::try_from(call.to_string())
    {
        headers.insert(HeaderName::from_static(skep_api::HEADER_CALL_ID), value);
    }
    response
}

/// An error with its causes, of which the outermost says the least.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

tokio::task_local! {
    /// The request that is being answered, for the problem documents of the API's handlers.
    pub(crate) static REQUEST: RequestId;
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let request = REQUEST
            .try_with(|request| *request)
            .unwrap_or_else(|_| RequestId::new());
        render(&self, request).map(axum::body::Body::from)
    }
}
