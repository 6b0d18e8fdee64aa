//! Who sends a request, and whether that user may.
//!
//! A browser shows the cookie of its session; a program may send name and password with each request
//! (`Authorization: Basic`). Reading needs any user, everything else an operator. The file of users is read
//! again for each request: whoever is removed from it, or gets another password, is out at once.

use super::attempts::Attempts;
use super::sessions::{Login, SessionKey, Sessions};
use super::users::{self, Role, UserName, Users};
use super::visitor::Visitor;
use crate::api::failure::Failure;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use base64::Engine as _;
use rand::TryRng as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};

/// Passwords that are hashed at once: each takes 19 MiB and a core.
const HASHED_AT_ONCE: usize = 2;

/// Where a request comes from, as the connection says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// What decides who may do what.
#[derive(Debug)]
pub(crate) struct Access {
    users: PathBuf,
    sessions: Sessions,
    attempts: Attempts,
    hashing: Semaphore,
    /// Hides passwords that programs send from whoever copies the table of sessions.
    pepper: [u8; 32],
    /// Whether cookies only travel over TLS.
    tls: bool,
    /// The users as of the last look; nothing while their file cannot be read.
    last: Mutex<Option<Users>>,
    /// Told when the users have changed.
    changed: watch::Sender<()>,
}

/// Why a password was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    /// No such user, or another password: the two are not told apart.
    Wrong,
    /// Too many failures.
    Wait(Duration),
}

/// A user with a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) name: UserName,
    pub(super) role: Role,
    key: SessionKey,
}

impl Access {
    /// Access for the users of a file.
    pub(crate) fn new(users: PathBuf, tls: bool) -> Result<Self, users::UsersError> {
        // The first unknown name would otherwise take longer than the next: the hash for it is made here.
        users::fits("", None);
        let mut pepper = [0; 32];
        rand::rngs::SysRng.try_fill_bytes(&mut pepper).map_err(|_| users::UsersError::Random)?;
        Ok(Self {
            users,
            sessions: Sessions::default(),
            attempts: Attempts::default(),
            hashing: Semaphore::new(HASHED_AT_ONCE),
            pepper,
            tls,
            last: Mutex::default(),
            changed: watch::Sender::new(()),
        })
    }

    /// Looks whether the users have changed, and lets open streams know. Called again and again.
    pub(crate) fn look(&self) {
        let now = Users::read(&self.users).ok();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != now {
            *last = now;
            self.changed.send_replace(());
        }
    }

    /// Resolves when a session has ended, for whatever reason.
    pub(super) async fn ended(&self, key: &SessionKey) {
        let (mut closed, mut changed) = (self.sessions.ended(), self.changed.subscribe());
        loop {
            let Some((login, end)) = self.sessions.lasts(key, now()) else { return };
            if self.known(login).is_none() {
                return;
            }
            // The senders live as long as `self`: an error cannot come, and would only ask once more.
            tokio::select! {
                () = tokio::time::sleep_until(end.into()) => {}
                _ = closed.changed() => {}
                _ = changed.changed() => {}
            }
        }
    }

    /// Checks a password.
    async fn check(&self, name: &str, password: String, peer: IpAddr) -> Result<Login, Denied> {
        // What cannot be a name is nobody's: there is nothing to guess.
        let name = UserName::try_from(name.to_owned()).map_err(|_| Denied::Wrong)?;
        self.attempts.begin(&name, peer, now()).map_err(Denied::Wait)?;
        // The semaphore is never closed.
        let _permit = self.hashing.acquire().await.map_err(|_| Denied::Wrong)?;
        let hash = self.read_users().hash_of(&name);
        let compared = hash.clone();
        let fits = tokio::task::spawn_blocking(move || users::fits(&password, compared.as_deref())).await;
        match hash {
            Some(password_hash) if fits.unwrap_or(false) => {
                self.attempts.succeeded(&name, peer);
                Ok(Login { name, password_hash })
            }
            _ => {
                tracing::warn!(user = name.as_str(), %peer, "login refused");
                Err(Denied::Wrong)
            }
        }
    }

    /// Opens a session and returns the cookie.
    pub(super) async fn log_in(&self, name: &str, password: String, peer: IpAddr) -> Result<String, Denied> {
        let login = self.check(name, password, peer).await?;
        tracing::info!(user = login.name.as_str(), %peer, "logged in");
        let token = self.sessions.open(login, now()).ok_or(Denied::Wrong)?;
        Ok(self.cookie(&token, 12 * 60 * 60))
    }

    /// Ends the session and returns the cookie that replaces the browser's.
    pub(super) fn log_out(&self, headers: &HeaderMap) -> String {
        if let Some(token) = self.token(headers) {
            self.sessions.close(token.as_bytes());
        }
        self.cookie("", 0)
    }

    /// Who the session's cookie belongs to.
    pub(super) fn session(&self, headers: &HeaderMap) -> Option<Known> {
        let token = self.token(headers)?;
        self.presented(token.as_bytes())
    }

    /// Who presented this secret before, if that user still is what it was then.
    fn presented(&self, secret: &[u8]) -> Option<Known> {
        let login = self.sessions.find(secret, now())?;
        let key = SessionKey::of(secret);
        self.known(login).map(|(name, role)| Known { name, role, key })
    }

    /// Who sends name and password along. A password that was right is remembered like a session: hashing
    /// it for each request would be slow.
    async fn basic(&self, headers: &HeaderMap, peer: IpAddr) -> Option<Result<Known, Denied>> {
        let sent = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, sent) = sent.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let sent = base64::engine::general_purpose::STANDARD.decode(sent.trim()).ok()?;
        let secret = [b"basic:", self.pepper.as_slice(), &sent].concat();
        if let Some(known) = self.presented(&secret) {
            return Some(Ok(known));
        }
        let sent = String::from_utf8(sent).ok()?;
        let (name, password) = sent.split_once(':')?;
        let login = match self.check(name, password.to_owned(), peer).await {
            Ok(login) => login,
            Err(denied) => return Some(Err(denied)),
        };
        self.sessions.insert(&secret, login, now());
        Some(self.presented(&secret).ok_or(Denied::Wrong))
    }

    fn known(&self, login: Login) -> Option<(UserName, Role)> {
        let role = self.read_users().role(&login.name, &login.password_hash)?;
        Some((login.name, role))
    }

    /// The users as of now. A file that cannot be read lets nobody in.
    fn read_users(&self) -> Users {
        Users::read(&self.users).unwrap_or_else(|error| {
            tracing::error!("nobody is let in: {error}");
            Users::default()
        })
    }

    /// A name that begins with `__Host-` is one that no other host and no unencrypted answer can set.
    fn cookie_name(&self) -> &'static str {
        if self.tls { "__Host-medfed" } else { "medfed" }
    }

    fn cookie(&self, token: &str, seconds: u32) -> String {
        let secure = if self.tls { "; Secure" } else { "" };
        let name = self.cookie_name();
        format!("{name}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
    }

    fn token<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
        cookies.flat_map(|value| value.split(';')).find_map(|cookie| {
            cookie
                .trim()
                .strip_prefix(self.cookie_name())?
                .strip_prefix('=')
                .filter(|token| !token.is_empty())
        })
    }
}

/// Where the connection came from. Without it all requests count as one address.
pub(super) fn peer(request: &axum::http::Extensions) -> IpAddr {
    request.get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0)
}

/// The time, as tokio keeps it: a test can let it pass.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Lets through who may; sends browsers to the login page and tells programs.
pub(crate) async fn guard(State(access): State<Arc<Access>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    // What the login page needs, logging out, and whether the server lives.
    if ["/login", "/logout", "/healthz"].contains(&path) || path.starts_with("/assets/") {
        return next.run(request).await;
    }
    let known = match access.session(request.headers()) {
        Some(known) => known,
        None => match access.basic(request.headers(), peer(request.extensions())).await {
            Some(Ok(known)) => known,
            Some(Err(Denied::Wait(wait))) => return too_many(wait),
            Some(Err(Denied::Wrong)) => return unknown(&request, "name or password is wrong"),
            None => return unknown(&request, "log in first"),
        },
    };
    let name = known.name;
    let visitor = Visitor::user(known.role, access, known.key);
    if !request.method().is_safe() {
        if !visitor.may_operate() {
            let message = format!("{} may read; this needs an operator", name.as_str());
            return Failure::new(StatusCode::FORBIDDEN, message).into_response();
        }
        tracing::info!(user = name.as_str(), "{} {}", request.method(), request.uri().path());
    }
    request.extensions_mut().insert(visitor);
    next.run(request).await
}

/// Nobody we know.
fn unknown(request: &Request, message: &str) -> Response {
    let path = request.uri().path();
    let for_programs = path.starts_with("/api/") || path == "/metrics" || !request.method().is_safe();
    if !for_programs && !request.headers().contains_key(header::AUTHORIZATION) {
        let next = request.uri().path_and_query().map_or("/", |path| path.as_str());
        return Redirect::to(&format!("/login?next={}", encoded(next))).into_response();
    }
    let mut response = Failure::new(StatusCode::UNAUTHORIZED, message).into_response();
    // A browser would ask for the password in a window of its own.
    if !request.headers().contains_key(HeaderName::from_static("sec-fetch-site")) {
        let basic = HeaderValue::from_static("Basic realm=\"MedFedAgent\", charset=\"UTF-8\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
    }
    response
}

/// Too many failures.
fn too_many(wait: Duration) -> Response {
    let seconds = wait.as_secs() + 1;
    let message = format!("too many failed logins; try again in {seconds} seconds");
    let mut response = Failure::new(StatusCode::TOO_MANY_REQUESTS, message).into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// A path as the value of a query.
fn encoded(path: &str) -> String {
    use std::fmt::Write as _;
    path.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &str = "correct horse battery";

    /// Access for one user, and that user's session.
    fn logged_in(folder: &std::path::Path) -> (Arc<Access>, Users, String) {
        let (path, name) = (folder.join("users.json"), UserName::try_from("ada".to_owned()).unwrap());
        let mut users = Users::default();
        users.add(name.clone(), Role::Viewer, PASSWORD).unwrap();
        users.write(&path).unwrap();
        let login = Login { password_hash: users.hash_of(&name).unwrap(), name };
        let access = Access::new(path, false).unwrap();
        access.look();
        let token = access.sessions.open(login, now()).unwrap();
        (Arc::new(access), users, token)
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_an_hour_after_its_last_use_and_twelve_after_its_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let (access, _, token) = logged_in(folder.path());
        let (began, key) = (now(), SessionKey::of(token.as_bytes()));
        let ended = {
            let (access, key) = (access.clone(), key.clone());
            tokio::spawn(async move { access.ended(&key).await })
        };
        tokio::time::sleep(Duration::from_mins(30)).await;
        assert!(access.presented(token.as_bytes()).is_some());
        ended.await.unwrap();
        assert_eq!((now() - began).as_secs() / 60, 90, "half an hour after it was used it had another hour");
        assert!(access.presented(token.as_bytes()).is_none());

        let folder = tempfile::tempdir().unwrap();
        let (access, _, token) = logged_in(folder.path());
        let (began, key) = (now(), SessionKey::of(token.as_bytes()));
        let used = async {
            loop {
                tokio::time::sleep(Duration::from_mins(30)).await;
                access.presented(token.as_bytes());
            }
        };
        tokio::select! {
            () = access.ended(&key) => {}
            () = used => {}
        }
        assert_eq!((now() - began).as_secs() / 60, 12 * 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_when_the_user_changes_but_not_when_others_do() {
        let folder = tempfile::tempdir().unwrap();
        let (access, mut users, token) = logged_in(folder.path());
        let (began, key) = (now(), SessionKey::of(token.as_bytes()));
        let ended = {
            let access = access.clone();
            tokio::spawn(async move { access.ended(&key).await })
        };
        let eve = UserName::try_from("eve".to_owned()).unwrap();
        users.add(eve, Role::Viewer, PASSWORD).unwrap();
        users.write(&access.users).unwrap();
        access.look();
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert!(!ended.is_finished());
        let ada = UserName::try_from("ada".to_owned()).unwrap();
        users.add(ada, Role::Operator, PASSWORD).unwrap();
        users.write(&access.users).unwrap();
        access.look();
        ended.await.unwrap();
        assert_eq!((now() - began).as_secs(), 60);
    }
}
