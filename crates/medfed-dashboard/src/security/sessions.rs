//! Who is logged in. The browser holds a random token of 256 bits; here lies only its hash, so that a copy
//! of this memory's contents cannot be used to log in.

use super::users::UserName;
use rand::TryRng as _;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Time without a request after which a session ends.
const IDLE: Duration = Duration::from_hours(1);
/// Longest session.
const LONGEST: Duration = Duration::from_hours(12);
/// Sessions at once; beyond it the one that was used least recently ends.
const MOST: usize = 1000;

/// The sessions by the hash of their token.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    open: Mutex<HashMap<SessionKey, Session>>,
    /// Told whenever a session ends before its time.
    ended: watch::Sender<()>,
}

/// Which session: the hash of its token, which opens nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SessionKey([u8; 32]);

/// A session.
#[derive(Clone)]
struct Session {
    login: Login,
    began: Instant,
    used: Instant,
}

/// Who logged in, and the password's hash then: another password ends the session.
#[derive(Clone, PartialEq)]
pub(super) struct Login {
    pub(super) name: UserName,
    pub(super) password_hash: String,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Session").field("name", &self.login.name).finish_non_exhaustive()
    }
}

impl Sessions {
    /// Opens a session and returns its token; nothing when the system gives no random numbers.
    pub(super) fn open(&self, login: Login, now: Instant) -> Option<String> {
        let mut token = [0; 32];
        rand::rngs::SysRng.try_fill_bytes(&mut token).ok()?;
        let token = hex(&token);
        self.insert(token.as_bytes(), login, now);
        Some(token)
    }

    /// Remembers who presented a secret.
    pub(super) fn insert(&self, secret: &[u8], login: Login, now: Instant) {
        let mut sessions = self.lock();
        sessions.retain(|_, session| session.end() > now);
        if sessions.len() >= MOST {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.used).map(|(key, _)| key.clone());
            oldest.and_then(|key| sessions.remove(&key));
            self.ended.send_replace(());
        }
        sessions.insert(SessionKey::of(secret), Session { login, began: now, used: now });
    }

    /// Who presented this secret before. Looking up a hash tells nothing about the secrets beside it.
    pub(super) fn find(&self, secret: &[u8], now: Instant) -> Option<Login> {
        let mut sessions = self.lock();
        let session = sessions.get_mut(&SessionKey::of(secret)).filter(|session| session.end() > now)?;
        session.used = now;
        Some(session.login.clone())
    }

    /// Whose session it is and when it ends unless it is used until then. Asking is no use of it.
    pub(super) fn lasts(&self, key: &SessionKey, now: Instant) -> Option<(Login, Instant)> {
        let sessions = self.lock();
        let session = sessions.get(key).filter(|session| session.end() > now)?;
        Some((session.login.clone(), session.end()))
    }

    /// Hears whenever a session ends before its time.
    pub(super) fn ended(&self) -> watch::Receiver<()> {
        self.ended.subscribe()
    }

    /// Ends a session.
    pub(super) fn close(&self, secret: &[u8]) {
        self.lock().remove(&SessionKey::of(secret));
        self.ended.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionKey, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn end(&self) -> Instant {
        (self.used + IDLE).min(self.began + LONGEST)
    }
}

impl SessionKey {
    /// The key of a token.
    pub(super) fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Login {
        Login { name: UserName::try_from("ada".to_owned()).unwrap(), password_hash: "hash".to_owned() }
    }

    #[test]
    fn sessions_end_by_logout_by_idleness_and_by_age() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let token = sessions.open(login(), start).unwrap();
        assert_eq!(token.len(), 64);
        assert!(sessions.find(token.as_bytes(), start).is_some());
        assert!(sessions.find(&token.as_bytes()[1..], start).is_none());
        assert!(sessions.find(token.as_bytes(), start + IDLE).is_none(), "idle");

        let token = sessions.open(login(), start).unwrap();
        let half = IDLE / 2;
        let mut now = start;
        while now + half < start + LONGEST {
            now += half;
            assert!(sessions.find(token.as_bytes(), now).is_some());
        }
        assert!(sessions.find(token.as_bytes(), now + half).is_none(), "old");

        let token = sessions.open(login(), start).unwrap();
        sessions.close(token.as_bytes());
        assert!(sessions.find(token.as_bytes(), start).is_none(), "logged out");
    }

    #[test]
    fn the_least_recently_used_makes_room() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let tokens: Vec<_> = (0..=MOST)
            .map(|number| sessions.open(login(), start + Duration::from_millis(number as u64)).unwrap())
            .collect();
        let now = start + Duration::from_secs(2);
        assert!(sessions.find(tokens[0].as_bytes(), now).is_none());
        assert!(sessions.find(tokens[1].as_bytes(), now).is_some());
        assert_eq!(sessions.lock().len(), MOST);
    }
}
