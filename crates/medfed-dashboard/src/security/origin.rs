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
use std::net::IpAddr;
use std::sync::Arc;

/// The names of this server.
#[derive(Debug)]
pub(crate) struct Names {
    /// The port that is listened on.
    pub(crate) port: u16,
    /// Whether only this machine can connect.
    pub(crate) loopback: bool,
    /// Names besides the addresses, for instance of a proxy; with any port.
    pub(crate) others: Vec<String>,
}

/// Lets through what comes from our own pages or from a program.
pub(crate) async fn guard(State(names): State<Arc<Names>>, request: Request, next: Next) -> Response {
    match check(request.method(), request.headers(), &names) {
        Ok(()) => next.run(request).await,
        Err(message) => Failure::new(StatusCode::FORBIDDEN, message).into_response(),
    }
}

fn check(method: &Method, headers: &HeaderMap, names: &Names) -> Result<(), &'static str> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text(header::HOST).unwrap_or("?");
    if !names.has(host) {
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

impl Names {
    /// Whether a `Host` header names this server. Where others can connect every address does: only a name
    /// can be bent to another address.
    fn has(&self, host: &str) -> bool {
        let (name, given) = match host.rsplit_once(':') {
            Some((name, given)) if given.bytes().all(|byte| byte.is_ascii_digit()) && !given.is_empty() => {
                (name, given.parse().ok())
            }
            _ => (host, Some(if self.loopback { 80 } else { 443 })),
        };
        if self.others.iter().any(|other| other.eq_ignore_ascii_case(name)) {
            return true;
        }
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let address = !self.loopback && address.parse::<IpAddr>().is_ok();
        given == Some(self.port) && (address || ["127.0.0.1", "localhost", "[::1]"].contains(&name))
    }
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
        let names = Names { port: 5000, loopback: true, others: vec!["board.example".to_owned()] };
        check(method, &headers, &names).is_ok()
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

    #[test]
    fn given_names_count_with_any_port_and_addresses_where_others_connect() {
        assert!(sent(&Method::POST, &[("host", "Board.example"), ("origin", "https://Board.example")]));
        assert!(!sent(&Method::POST, &[("host", "board.example"), ("origin", "https://evil.example")]));
        assert!(!sent(&Method::GET, &[("host", "192.0.2.7:5000")]));
        let open = Names { port: 5000, loopback: false, others: Vec::new() };
        for host in ["192.0.2.7:5000", "[2001:db8::1]:5000", "localhost:5000"] {
            assert!(open.has(host), "{host}");
        }
        for host in ["evil.example:5000", "192.0.2.7", "192.0.2.7:81", "192.0.2.7.evil.example:5000"] {
            assert!(!open.has(host), "{host}");
        }
    }
}
