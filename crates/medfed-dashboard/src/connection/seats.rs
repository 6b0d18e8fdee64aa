//! How many connections there may be. One that waits for its client to say something gives way to a new one;
//! one whose request is being answered does not. So nobody keeps others out by opening connections and saying
//! nothing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Connections from one address of another machine at once. Browsers open six.
const PER_ADDRESS: usize = 256;

/// All seats.
#[derive(Debug)]
pub(super) struct Seats {
    taken: Mutex<Taken>,
    /// Seats at once.
    most: usize,
}

#[derive(Debug, Default)]
struct Taken {
    seats: HashMap<u64, Place>,
    next: u64,
    /// Rises by one whenever a connection begins to wait: the smallest waits longest.
    turn: u64,
}

/// A seat as the table of seats knows it.
#[derive(Debug)]
struct Place {
    address: IpAddr,
    /// Since when it waits for its client; nothing while a request is answered.
    idle: Option<u64>,
    leave: Arc<Notify>,
}

/// The seat of one connection; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    number: u64,
    leave: Arc<Notify>,
}

impl Seats {
    /// So many seats.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { taken: Mutex::default(), most })
    }

    /// Takes a seat. Where all are taken, or the address has its share, the connection leaves that waits
    /// longest, of this address or of all; nothing where every one of them is being answered.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Seat> {
        let address = address.to_canonical();
        let mut taken = self.lock();
        let own = |place: &Place| place.address == address;
        // A proxy on this machine brings everybody's connections.
        if !address.is_loopback() && taken.seats.values().filter(|place| own(place)).count() >= PER_ADDRESS {
            taken.make_room(own)?;
        } else if taken.seats.len() >= self.most {
            taken.make_room(|_| true)?;
        }
        let (number, turn) = (taken.next, taken.turn);
        (taken.next, taken.turn) = (number + 1, turn + 1);
        let leave = Arc::new(Notify::new());
        taken.seats.insert(number, Place { address, idle: Some(turn), leave: Arc::clone(&leave) });
        drop(taken);
        Some(Seat { seats: Arc::clone(self), number, leave })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Sends away whoever waits longest among some.
    fn make_room(&mut self, among: impl Fn(&Place) -> bool) -> Option<()> {
        let waiting = self.seats.iter().filter(|(_, place)| among(place));
        let longest = waiting.filter_map(|(number, place)| Some((place.idle?, *number))).min();
        let place = self.seats.remove(&longest?.1)?;
        place.leave.notify_one();
        Some(())
    }
}

impl Seat {
    /// A request has come. False where the seat was given to somebody else at that moment.
    pub(super) fn begin(&self) -> bool {
        self.seats.lock().seats.get_mut(&self.number).map(|place| place.idle = None).is_some()
    }

    /// The request is answered.
    pub(super) fn rest(&self) {
        let mut taken = self.seats.lock();
        taken.turn += 1;
        let turn = taken.turn;
        if let Some(place) = taken.seats.get_mut(&self.number) {
            place.idle = Some(turn);
        }
    }

    /// Resolves when the seat has been given to somebody else.
    pub(super) async fn given_away(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.lock().seats.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn is_gone(seat: &Seat) -> bool {
        !seat.seats.lock().seats.contains_key(&seat.number)
    }

    #[test]
    fn who_waits_longest_gives_way_and_who_is_answered_does_not() {
        let seats = Seats::new(3);
        let [first, second, third] = std::array::from_fn(|_| seats.take(HERE).unwrap());
        assert!(first.begin());
        let fourth = seats.take(HERE).unwrap();
        assert!(!is_gone(&first) && is_gone(&second) && !is_gone(&third));
        assert!(!second.begin(), "what it says now comes too late");
        for seat in [&third, &fourth] {
            assert!(seat.begin());
        }
        assert!(seats.take(HERE).is_none(), "all are being answered");
        first.rest();
        third.rest();
        let fifth = seats.take(HERE).unwrap();
        assert!(is_gone(&first) && !is_gone(&third));
        drop((second, third, fourth, fifth));
        assert!(seats.lock().seats.is_empty());
    }

    #[test]
    fn one_address_does_not_take_the_seats_of_others() {
        let seats = Seats::new(1000);
        let (far, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let first = seats.take(other).unwrap();
        let many: Vec<_> = (0..2 * PER_ADDRESS).map(|_| seats.take(far).unwrap()).collect();
        assert!(!is_gone(&first));
        assert_eq!(many.iter().filter(|seat| !is_gone(seat)).count(), PER_ADDRESS);
        let busy: Vec<_> = many.iter().filter(|seat| seat.begin()).collect();
        assert_eq!(busy.len(), PER_ADDRESS);
        assert!(seats.take(far).is_none());
        assert!(seats.take(other).is_some() && seats.take(HERE).is_some());
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert!(seats.take(mapped).is_none(), "the same address in other words");
    }

    #[tokio::test]
    async fn who_is_sent_away_hears_of_it() {
        let seats = Seats::new(1);
        let first = seats.take(HERE).unwrap();
        let _second = seats.take(HERE).unwrap();
        first.given_away().await;
    }
}
