//! Refuses requests that another web site makes the browser send, and names that were bent to this address.
//!
//! A page from elsewhere can make a browser post to `127.0.0.1` (cross-site request forgery), or give its
//! own name our address (DNS rebinding). The first shows in `Sec-Fetch-Site` and `Origin`, the second in
//! `Host`.

use crate::api::failure::Failure;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Lets through what comes from our own pages or from a program on this machine.
pub(crate) async fn guard(State(port): State<u16>, request: Request, next: Next) -> Response {
    match check(request.method(), request.headers(), port) {
        Ok(()) => next.run(request).await,
        Err(message) => Failure::new(StatusCode::FORBIDDEN, message).into_response(),
    }
}

fn check(method: &Method, headers: &HeaderMap, port: u16) -> Result<(), &'static str> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text(header::HOST).unwrap_or("?");
    if !is_ours(host, port) {
        return Err("this name is not the dashboard's: use its address as it was printed at the start");
    }
    if method.is_safe() {
        return Ok(());
    }
    let same_origin = |origin: &str| {
        origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) == Some(host)
    };
    let foreign_site = text(header::HeaderName::from_static("sec-fetch-site"))
        .is_some_and(|site| site != "same-origin" && site != "none");
    if foreign_site || text(header::ORIGIN).is_some_and(|origin| !same_origin(origin)) {
        return Err("requests that change something must come from the dashboard's own pages");
    }
    Ok(())
}

/// Whether the name is one of this machine's own.
fn is_ours(host: &str, port: u16) -> bool {
    let (name, given) = match host.rsplit_once(':') {
        Some((name, given)) if given.bytes().all(|byte| byte.is_ascii_digit()) && !given.is_empty() => {
            (name, given.parse().ok())
        }
        _ => (host, Some(80)),
    };
    given == Some(port) && ["127.0.0.1", "localhost", "[::1]"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    fn sent(method: &Method, headers: &[(&'static str, &'static str)]) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        check(method, &headers, 5000).is_ok()
    }

    #[test]
    fn our_own_pages_and_programs_get_through() {
        for host in ["127.0.0.1:5000", "localhost:5000", "[::1]:5000"] {
            assert!(sent(&Method::GET, &[("host", host)]));
            assert!(sent(&Method::POST, &[("host", host)]));
        }
        let own = [
            ("host", "localhost:5000"),
            ("origin", "http://localhost:5000"),
            ("sec-fetch-site", "same-origin"),
        ];
        assert!(sent(&Method::POST, &own));
    }

    #[test]
    fn forged_requests_and_bent_names_do_not() {
        for host in ["evil.example:5000", "127.0.0.1.evil.example:5000", "127.0.0.1", "localhost:5001", ""] {
            assert!(!sent(&Method::GET, &[("host", host)]), "{host}");
        }
        assert!(!sent(&Method::GET, &[]));
        for (name, value) in [
            ("origin", "http://evil.example"),
            ("origin", "null"),
            ("origin", "http://127.0.0.1:5000"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert!(!sent(&Method::POST, &[("host", "localhost:5000"), (name, value)]), "{name}: {value}");
        }
        assert!(sent(&Method::GET, &[("host", "localhost:5000"), ("sec-fetch-site", "cross-site")]));
    }
}
