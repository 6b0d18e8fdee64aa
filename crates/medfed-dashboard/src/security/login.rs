//! The login page, and logging out.

use super::access::{self, Access, Denied};
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Form, Query, State};
use axum::http::{Extensions, HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;
use std::sync::Arc;

/// What the form sends.
#[derive(Deserialize)]
struct Entered {
    name: String,
    password: String,
    #[serde(default)]
    next: String,
}

/// Where to go afterwards.
#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    next: String,
}

/// `/login` and `/logout`.
pub(crate) fn router<S: Clone + Send + Sync + 'static>(access: Arc<Access>) -> Router<S> {
    Router::new().route("/login", get(show).post(log_in)).route("/logout", post(log_out)).with_state(access)
}

async fn show(
    State(access): State<Arc<Access>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    headers: HeaderMap,
) -> Markup {
    let Some(known) = access.session(&headers) else {
        return form(wanted.as_ref().map_or("/", |wanted| wanted.next.as_str()), None);
    };
    page(&html! {
        h1 { "Account" }
        p.lead { "You are logged in as " strong { (known.name.as_str()) } ", " (known.role.name()) "." }
        form method="post" action="/logout" {
            button type="submit" { "Log out" }
        }
        p { a href="/" { "Go to the overview" } }
    })
}

async fn log_in(
    State(access): State<Arc<Access>>,
    extensions: Extensions,
    Form(entered): Form<Entered>,
) -> Response {
    let peer = access::peer(&extensions);
    match access.log_in(&entered.name, entered.password, peer).await {
        Ok(cookie) => ([(header::SET_COOKIE, cookie)], Redirect::to(inside(&entered.next))).into_response(),
        Err(Denied::Wrong) => {
            let page = form(&entered.next, Some("Name or password is wrong."));
            (StatusCode::UNAUTHORIZED, page).into_response()
        }
        Err(Denied::Wait(wait)) => {
            let seconds = wait.as_secs() + 1;
            let message = format!("Too many failed logins. Try again in {} minutes.", seconds.div_ceil(60));
            let page = form(&entered.next, Some(&message));
            (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, seconds.to_string())], page)
                .into_response()
        }
    }
}

async fn log_out(State(access): State<Arc<Access>>, headers: HeaderMap) -> Response {
    ([(header::SET_COOKIE, access.log_out(&headers))], Redirect::to("/login")).into_response()
}

/// A path of ours; anything else could lead to another site.
fn inside(next: &str) -> &str {
    let ours = next.starts_with('/')
        && !next.starts_with("//")
        && !next.contains('\\')
        && next.bytes().all(|byte| byte.is_ascii_graphic());
    if ours { next } else { "/" }
}

fn form(next: &str, problem: Option<&str>) -> Markup {
    page(&html! {
        h1 { "Log in" }
        @if let Some(problem) = problem {
            p.verdict role="alert" { span.mark.bad aria-hidden="true" { "✗" } (problem) }
        }
        form method="post" action="/login" {
            input type="hidden" name="next" value=(inside(next));
            p {
                label for="name" { "Name" } " "
                input #name name="name" autocomplete="username" maxlength="64" required autofocus;
            }
            p {
                label for="password" { "Password" } " "
                input #password name="password" type="password" autocomplete="current-password" required;
            }
            button type="submit" { "Log in" }
        }
    })
}

fn page(content: &Markup) -> Markup {
    let version = env!("CARGO_PKG_VERSION");
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Log in – MedFedAgent" }
                link rel="icon" href="/assets/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href={ "/assets/style.css?" (version) };
            }
            body {
                header.top { a.brand href="/" { "MedFedAgent" } }
                main #content { div.panel { (content) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::inside;

    #[test]
    fn logging_in_does_not_lead_elsewhere() {
        assert_eq!(inside("/privacy?run=1"), "/privacy?run=1");
        for next in ["", "https://evil.example/", "//evil.example/", "/\\evil.example", "\\/x", "/a\r\nb: c"]
        {
            assert_eq!(inside(next), "/", "{next}");
        }
    }
}
