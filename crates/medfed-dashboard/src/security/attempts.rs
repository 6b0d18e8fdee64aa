//! Limits on guessing passwords: failed logins per name and per address within a window of time.
//!
//! An attempt is counted before its password is looked at, so that attempts at once cannot outrun the count;
//! a success takes its count back.

use super::users::UserName;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures of one name, from wherever, before it has to wait.
const PER_NAME: u32 = 10;
/// Failures from one address, with whatever names, before it has to wait.
const PER_ADDRESS: u32 = 30;
/// Time after which failures are forgotten.
const WINDOW: Duration = Duration::from_mins(5);
/// Names and addresses that are remembered.
const REMEMBERED: usize = 10_000;

/// Whose failures are counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    Name(UserName),
    Address(IpAddr),
}

/// Counts of failures, and when each window began.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<HashMap<Who, (u32, Instant)>>);

impl Attempts {
    /// Counts an attempt, or says how long to wait.
    pub(super) fn begin(&self, name: &UserName, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.retain(|_, (_, since)| now.duration_since(*since) < WINDOW);
        let both = both(name, address);
        for (who, limit) in &both {
            if let Some((count, since)) = counts.get(who)
                && count >= limit
            {
                return Err(WINDOW.saturating_sub(now.duration_since(*since)));
            }
        }
        if counts.len() + both.len() > REMEMBERED {
            // Forgetting somebody would let a flood of names wash away the count of its own address.
            return Err(WINDOW);
        }
        for (who, _) in both {
            counts.entry(who).or_insert((0, now)).0 += 1;
        }
        Ok(())
    }

    /// Takes the count of an attempt back: the password was right.
    pub(super) fn succeeded(&self, name: &UserName, address: IpAddr) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (who, _) in both(name, address) {
            if let Some((count, _)) = counts.get_mut(&who) {
                *count = count.saturating_sub(1);
            }
        }
    }
}

fn both(name: &UserName, address: IpAddr) -> [(Who, u32); 2] {
    // One holder of an IPv6 network has 2^64 addresses in it.
    let address = match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::from((u128::from(address) & !u128::from(u64::MAX)).to_be_bytes()),
        address @ IpAddr::V4(_) => address,
    };
    [(Who::Name(name.clone()), PER_NAME), (Who::Address(address), PER_ADDRESS)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> UserName {
        UserName::try_from(name.to_owned()).unwrap()
    }

    #[test]
    fn a_name_waits_after_failures_from_many_addresses() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let from = |last: u8| IpAddr::from([192, 0, 2, last]);
        for last in 0..10 {
            attempts.begin(&name("ada"), from(last), now).unwrap();
        }
        let wait = attempts.begin(&name("ada"), from(99), now + Duration::from_mins(1)).unwrap_err();
        assert_eq!(wait, Duration::from_mins(4));
        attempts.begin(&name("eve"), from(99), now).unwrap();
        attempts.begin(&name("ada"), from(99), now + WINDOW).unwrap();
    }

    #[test]
    fn an_address_waits_after_failures_with_many_names() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let network = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]);
        for number in 0..30 {
            attempts.begin(&name(&format!("user{number}")), network(number), now).unwrap();
        }
        attempts.begin(&name("ada"), network(77), now).unwrap_err();
        attempts.begin(&name("ada"), IpAddr::from([192, 0, 2, 1]), now).unwrap();
    }

    #[test]
    fn successes_do_not_count() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let address = IpAddr::from([192, 0, 2, 1]);
        for _ in 0..100 {
            attempts.begin(&name("ada"), address, now).unwrap();
            attempts.succeeded(&name("ada"), address);
        }
    }

    #[test]
    fn memory_is_bounded() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for number in 0..20_000u32 {
            let address = IpAddr::from(number.to_be_bytes());
            // Refused once the memory is full.
            let _ = attempts.begin(&name(&format!("user{number}")), address, now);
        }
        assert!(attempts.0.lock().unwrap().len() <= REMEMBERED);
    }
}
