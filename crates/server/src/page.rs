//! Pages for people whose browser a provider has sent back: plain HTML that loads nothing.

use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};

/// Whether who asks reads pages: a browser says so first.
pub(crate) fn reads_pages(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|it| it.to_str().ok());
    accept.is_some_and(|it| it.contains("text/html"))
}

fn escape(text: &str, out: &mut String) {
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
}

/// A page with a headline and some lines; one of them may be a code.
pub(crate) fn page(
    status: StatusCode,
    title: &str,
    lines: &[&str],
    code: Option<&str>,
) -> Response {
    let mut html = String::from("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">");
    html.push_str("<meta name=\"viewport\" content=\"width=device-width\"><title>");
    escape(title, &mut html);
    html.push_str("</title><main><h1>");
    escape(title, &mut html);
    html.push_str("</h1>");
    if let Some(code) = code {
        html.push_str("<p><strong><code>");
        escape(code, &mut html);
        html.push_str("</code></strong></p>");
    }
    for line in lines {
        html.push_str("<p>");
        escape(line, &mut html);
        html.push_str("</p>");
    }
    html.push_str("</main></html>\n");
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    let store = HeaderValue::from_static("no-store");
    (status, [(CONTENT_TYPE, kind), (CACHE_CONTROL, store)], html).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_that_is_shown_is_a_tag() {
        let shown = page(
            StatusCode::OK,
            "a<b",
            &["<script>x</script>\"'&"],
            Some("A-B"),
        );
        let body = axum::body::to_bytes(shown.into_body(), 4096).await.unwrap();
        let html = String::from_utf8(body.to_vec()).unwrap();
        assert!(
            html.contains("a&lt;b")
                && html.contains("&lt;script&gt;x&lt;/script&gt;&quot;&#39;&amp;")
        );
        assert!(!html.contains("<script"), "{html}");
    }
}
