//! Coordinator and sites on a network that delays, loses, doubles and reorders, with crashes at every durable
//! transition. One seed is one schedule.

use crate::hospital::{Hospital, Ledger};
use medfed_config::Config;
use medfed_federation::Snapshot;
use medfed_federation::report::RoundReport;
use medfed_protocol::coordinator::{Admission, Configured, Finished, Notice};
use medfed_protocol::message::{Certified, Offer, ToCoordinator, ToSite};
use medfed_protocol::site::{Authority, SiteEffect, SiteEvent, SiteMachine, SiteTerms};
use medfed_protocol::{
    CoordinatorEffect, CoordinatorEvent, CoordinatorMachine, CoordinatorTerms, Packet, Patience, Payload,
    Signer, envelope::Party,
};
use medfed_types::{RunId, SecretKey, Seed, SimulationRng, SiteId};
use rand::RngExt;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// What goes wrong, until [`Faults::until_ms`]; probabilities in percent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Faults {
    pub(crate) until_ms: u64,
    pub(crate) loss: u32,
    pub(crate) doubling: u32,
    pub(crate) delay_ms: u64,
    /// At each durable transition.
    pub(crate) crash: u32,
    /// That a site is cut off for a while, at each beat of its link.
    pub(crate) partition: u32,
}

impl Faults {
    pub(crate) const NONE: Self =
        Self { until_ms: 0, loss: 0, doubling: 0, delay_ms: 5, crash: 0, partition: 0 };
}

/// How often links are looked after: what is not answered is sent again.
const BEAT_MS: u64 = 500;
/// How long a process stays down.
const DOWN_MS: u64 = 300;
/// By then every run has ended, or hangs.
const LATEST_MS: u64 = 3_600_000;

/// The coordinator is node 0, the sites follow.
type Node = usize;

enum Happening {
    Packet { to: Node, from: Node, packet: Packet },
    Work { node: Node, life: u32, event: SiteEvent },
    Beat { site: Node },
    Wake { life: u32 },
    Restart { node: Node },
}

/// What a process keeps on disk.
#[derive(Default)]
struct Disk {
    state: Option<Vec<Snapshot>>,
    reports: Vec<RoundReport>,
    log: Vec<(u64, Vec<u8>)>,
    ledger: Ledger,
}

struct Site {
    disk: Disk,
    /// Nothing while the process is down.
    up: Option<(SiteMachine, Hospital)>,
    life: u32,
    cut_until: u64,
}

pub(crate) struct World {
    pub(crate) config: Config,
    pub(crate) patience: Patience,
    pub(crate) audited: bool,
    faults: Faults,
    random: SimulationRng,
    now: u64,
    order: u64,
    happenings: BTreeMap<u64, Happening>,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    coordinator: Option<CoordinatorMachine>,
    coordinator_disk: Disk,
    coordinator_life: u32,
    sites: Vec<Site>,
    pub(crate) finished: Option<Finished>,
    /// What each site ever said: by number, and by step of secure aggregation.
    said: BTreeMap<(Node, u64), [u8; 32]>,
    answered: BTreeMap<(Node, Vec<u8>), [u8; 32]>,
    pub(crate) crashes: u32,
    /// What the coordinator said of its sites.
    pub(crate) silences: u32,
    pub(crate) late: u32,
    pub(crate) returned: u32,
}

pub(crate) fn name(node: Node) -> SiteId {
    SiteId::try_from(format!("Hospital {node}")).expect("a name")
}

pub(crate) fn key(node: Node) -> SecretKey {
    SecretKey::from_bytes([node as u8 + 1; 32])
}

fn public(node: Node) -> [u8; 32] {
    Signer::new(Party::Coordinator, &key(node)).verifying_key()
}

pub(crate) fn run() -> RunId {
    RunId::try_from("run-1").expect("a name")
}

/// What the sites of a cohort are offered.
pub(crate) fn offer(config: &Config, sites: usize) -> Offer {
    let certified = |node| Certified { site: name(node), certificate: public(node).to_vec() };
    Offer {
        configuration: config.to_yaml(),
        rounds: config.federated.num_rounds,
        cohort: (1..=sites).map(certified).collect(),
        revocations: Vec::new(),
    }
}

/// The coordinator of a cohort, before anything happened.
pub(crate) fn coordinator(
    config: &Config,
    sites: usize,
    patience: Patience,
    audited: bool,
) -> CoordinatorMachine {
    let terms = CoordinatorTerms {
        run: run(),
        offer: offer(config, sites),
        keys: (1..=sites).map(|node| (name(node), public(node))).collect(),
        patience,
        audited,
    };
    let founding = Configured { config: config.clone(), seed: Seed(7), parameters: None };
    let secret = SecretKey::from_bytes([99; 32]);
    CoordinatorMachine::new(terms, &key(0), secret, Box::new(founding)).expect("a cohort that can work")
}

/// A site, before anything happened.
pub(crate) fn site(node: Node) -> SiteMachine {
    let terms = SiteTerms { run: run(), site: name(node), coordinator: public(0) };
    let secret = SecretKey::from_bytes([100 + node as u8; 32]);
    SiteMachine::new(terms, &key(node), secret, Box::new(Trusting)).expect("keys that can be used")
}

/// A certificate is the key itself.
struct Trusting;

impl Authority for Trusting {
    fn verify(&self, certified: &Certified, _: &[u8], _: u64) -> Result<[u8; 32], String> {
        certified.certificate.as_slice().try_into().map_err(|_| "it is no key".to_owned())
    }
}

impl World {
    pub(crate) fn new(config: Config, sites: usize, patience: Patience, faults: Faults, seed: u64) -> Self {
        let site = || Site { disk: Disk::default(), up: None, life: 0, cut_until: 0 };
        Self {
            config,
            patience,
            audited: false,
            faults,
            random: Seed(seed).generator("schedule", &[]),
            now: 1_000_000,
            order: 0,
            happenings: BTreeMap::new(),
            queue: BinaryHeap::new(),
            coordinator: None,
            coordinator_disk: Disk::default(),
            coordinator_life: 0,
            sites: (0..sites).map(|_| site()).collect(),
            finished: None,
            said: BTreeMap::new(),
            answered: BTreeMap::new(),
            crashes: 0,
            silences: 0,
            late: 0,
            returned: 0,
        }
    }

    /// Runs until the run is over for everyone.
    pub(crate) fn run(&mut self) {
        for node in 1..=self.sites.len() {
            self.start_site(node);
            self.later(BEAT_MS + node as u64, Happening::Beat { site: node });
        }
        self.start_coordinator();
        while let Some(Reverse((time, order))) = self.queue.pop() {
            assert!(time < 1_000_000 + LATEST_MS, "the run hangs: {:?}", self.coordinator);
            self.now = time;
            let happening = self.happenings.remove(&order).expect("queued with its order");
            self.happen(happening);
            let over = self.coordinator.as_ref().is_some_and(CoordinatorMachine::is_over);
            if over && self.finished.is_some() {
                return;
            }
        }
    }

    pub(crate) fn payments(&self) -> Vec<usize> {
        self.sites.iter().map(|site| site.disk.ledger.0.len()).collect()
    }

    pub(crate) fn reports(&self) -> &[RoundReport] {
        &self.coordinator_disk.reports
    }

    fn later(&mut self, delay: u64, happening: Happening) {
        self.order += 1;
        self.queue.push(Reverse((self.now + delay, self.order)));
        self.happenings.insert(self.order, happening);
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.now < 1_000_000 + self.faults.until_ms && self.random.random_range(0..100) < percent
    }

    fn send(&mut self, from: Node, to: Node, packet: &Packet) {
        let site = from.max(to);
        if self.sites[site - 1].cut_until > self.now {
            return;
        }
        let copies =
            if self.chance(self.faults.loss) { 0 } else { 1 + u32::from(self.chance(self.faults.doubling)) };
        for _ in 0..copies {
            let delay = 1 + self.random.random_range(0..=self.faults.delay_ms);
            // As a transport does it, which takes nothing on trust.
            let packet = Packet::from_bytes(&packet.to_bytes()).expect("its own bytes");
            self.later(delay, Happening::Packet { to, from, packet });
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Packet { to: 0, from, packet } => self.coordinator_hears(from, packet),
            Happening::Packet { to, packet, .. } => self.site_hears(to, packet),
            Happening::Work { node, life, event } => {
                if self.sites[node - 1].life == life {
                    self.site_event(node, event);
                }
            }
            Happening::Beat { site } => self.beat(site),
            Happening::Wake { life } => {
                let due = self.coordinator.as_ref().and_then(CoordinatorMachine::wake_at);
                if life == self.coordinator_life && due.is_some_and(|due| due <= self.now) {
                    self.coordinator_event(CoordinatorEvent::Wake);
                }
            }
            Happening::Restart { node: 0 } => self.start_coordinator(),
            Happening::Restart { node } => self.start_site(node),
        }
    }

    /// A link is looked after, as when it has been made anew.
    fn beat(&mut self, site: Node) {
        if self.chance(self.faults.partition) {
            self.sites[site - 1].cut_until = self.now + self.random.random_range(0..1_500);
        }
        if let Some(packet) = self.coordinator.as_ref().and_then(|it| it.outstanding(&name(site))) {
            self.send(0, site, &packet);
        }
        if self.random.random_range(0..5) == 0
            && let Some((machine, _)) = &self.sites[site - 1].up
            && let Some(packet) = machine.hello()
        {
            self.send(site, 0, &packet);
        }
        self.later(BEAT_MS, Happening::Beat { site });
    }

    fn crash(&mut self, node: Node) {
        self.crashes += 1;
        if node == 0 {
            (self.coordinator, self.coordinator_life) = (None, self.coordinator_life + 1);
        } else {
            let site = &mut self.sites[node - 1];
            (site.up, site.life) = (None, site.life + 1);
        }
        let delay = 1 + self.random.random_range(0..DOWN_MS);
        self.later(delay, Happening::Restart { node });
    }

    fn coordinator_hears(&mut self, from: Node, packet: Packet) {
        let Some(machine) = &self.coordinator else { return };
        match machine.admit(&name(from), packet).expect("sites say nothing that is rejected") {
            Admission::Fresh(event) => self.coordinator_event(event),
            Admission::Known(packets) => packets.iter().for_each(|packet| self.send(0, from, packet)),
        }
    }

    fn coordinator_event(&mut self, event: CoordinatorEvent) {
        self.coordinator_disk.log.push((self.now, event.to_bytes()));
        if self.chance(self.faults.crash) {
            return self.crash(0);
        }
        let machine = self.coordinator.as_mut().expect("it is up");
        let effects = machine.handle(self.now, event).expect("a coordinator that can go on");
        self.coordinator_effects(effects);
    }

    fn coordinator_effects(&mut self, effects: Vec<CoordinatorEffect>) {
        let life = self.coordinator_life;
        for effect in effects {
            if self.chance(self.faults.crash) {
                return self.crash(0);
            }
            match effect {
                CoordinatorEffect::Send { to, packet } => {
                    self.speaks_of_what_is_kept(&packet);
                    let to = (1..=self.sites.len()).find(|node| name(*node) == to).expect("a site");
                    self.send(0, to, &packet);
                }
                CoordinatorEffect::Seal { report } => {
                    let checkpoint = Payload::from(report.model_hash.as_bytes());
                    return self.coordinator_event(CoordinatorEvent::Sealed { checkpoint });
                }
                CoordinatorEffect::Commit { report, state, cosignatures } => {
                    if self.audited && self.faults.until_ms == 0 {
                        assert_eq!(cosignatures.len(), self.sites.len());
                    }
                    commit(&mut self.coordinator_disk, &report, state);
                }
                CoordinatorEffect::Notice(notice) => {
                    assert!(!notice.to_string().is_empty());
                    self.silences += u32::from(matches!(notice, Notice::Silent { .. }));
                    self.late += u32::from(matches!(notice, Notice::Late { .. }));
                    self.returned += u32::from(matches!(notice, Notice::Returned { .. }));
                }
                CoordinatorEffect::Finished(finished) => self.finished = Some(*finished),
            }
        }
        if let Some(at) = self.coordinator.as_ref().and_then(CoordinatorMachine::wake_at) {
            let delay = at.saturating_sub(self.now).max(1);
            self.later(delay, Happening::Wake { life });
        }
    }

    /// Nobody hears that a round is over before it is committed.
    fn speaks_of_what_is_kept(&self, packet: &Packet) {
        let envelope = Packet::peek::<ToSite>(packet.head().as_bytes()).expect("its own message");
        let over = match envelope.message {
            ToSite::RoundOver { round, .. } => round.0,
            ToSite::Train { round, .. } => round.0 - 1,
            _ => return,
        };
        let kept = self.coordinator_disk.reports.len();
        assert!(over as usize <= kept, "round {over} is announced, {kept} are kept");
    }

    fn start_coordinator(&mut self) {
        let mut machine = coordinator(&self.config, self.sites.len(), self.patience, self.audited);
        let disk = &mut self.coordinator_disk;
        if let Some(state) = &disk.state {
            machine.restore(state, disk.reports.clone()).expect("its own state");
        }
        let fresh = disk.state.is_none() && disk.log.is_empty();
        for (time, bytes) in disk.log.clone() {
            let event = CoordinatorEvent::from_bytes(&bytes).expect("its own event");
            for effect in machine.handle(time, event).expect("it was handled before") {
                if let CoordinatorEffect::Commit { report, state, .. } = effect {
                    commit(disk, &report, state);
                }
            }
        }
        let pending = machine.pending();
        self.coordinator = Some(machine);
        if fresh {
            self.coordinator_event(CoordinatorEvent::Started);
        } else {
            self.coordinator_effects(pending);
        }
    }

    fn start_site(&mut self, node: Node) {
        let mut machine = site(node);
        let disk = &mut self.sites[node - 1].disk;
        if let Some(state) = &disk.state {
            machine.restore(state).expect("its own state");
        }
        for (time, bytes) in disk.log.clone() {
            let event = SiteEvent::from_bytes(&bytes).expect("its own event");
            for effect in machine.handle(time, event).expect("it was handled before") {
                if let SiteEffect::Commit { state } = effect {
                    (disk.state, disk.log) = (Some(state), Vec::new());
                }
            }
        }
        let mut hospital = Hospital { number: node as u64, momentum: 0 };
        if let Some(state) = machine.hospital() {
            hospital.restore(state);
        }
        let (pending, agreed) = (machine.pending(), machine.policy().is_some());
        self.sites[node - 1].up = Some((machine, hospital));
        if !agreed {
            let text =
                "require_privacy: false\nrelease: { counts: true, losses: true, metrics: true }\n".to_owned();
            self.site_event(node, SiteEvent::Policy { text, past: Vec::new() });
        }
        if self.sites[node - 1].up.is_some() {
            self.site_effects(node, pending);
        }
    }

    fn site_hears(&mut self, node: Node, packet: Packet) {
        let Some((machine, _)) = &self.sites[node - 1].up else { return };
        match machine.admit(packet).expect("the coordinator says nothing that is rejected") {
            Admission::Fresh(event) => self.site_event(node, event),
            Admission::Known(packets) => packets.iter().for_each(|packet| self.send(node, 0, packet)),
        }
    }

    fn site_event(&mut self, node: Node, event: SiteEvent) {
        let now = self.now;
        self.sites[node - 1].disk.log.push((now, event.to_bytes()));
        if self.chance(self.faults.crash) {
            return self.crash(node);
        }
        let (machine, _) = self.sites[node - 1].up.as_mut().expect("it is up");
        let effects = machine.handle(now, event).expect("a site that can go on");
        self.site_effects(node, effects);
    }

    fn site_effects(&mut self, node: Node, effects: Vec<SiteEffect>) {
        // What follows a round comes after the round is committed.
        let commit = effects.iter().position(|effect| matches!(effect, SiteEffect::Commit { .. }));
        let before = &effects[..commit.unwrap_or_default()];
        assert!(before.iter().all(|effect| matches!(effect, SiteEffect::Notice(_) | SiteEffect::Stop)));
        for effect in effects {
            if self.chance(self.faults.crash) {
                return self.crash(node);
            }
            let site = &mut self.sites[node - 1];
            let (_, hospital) = site.up.as_mut().expect("it is up");
            let event = match effect {
                SiteEffect::Send(packet) => {
                    self.listen(node, &packet);
                    self.send(node, 0, &packet);
                    continue;
                }
                SiteEffect::Prepare(_) => {
                    SiteEvent::Prepared { announcement: Box::new(hospital.announcement()) }
                }
                SiteEffect::Train(request) => {
                    let result = hospital.train(&mut site.disk.ledger, &request);
                    let state = Box::new(hospital.snapshot());
                    SiteEvent::Trained { round: request.round, result, state }
                }
                SiteEffect::Stop => SiteEvent::Stopped { state: Box::new(hospital.snapshot()) },
                SiteEffect::Evaluate { parameters } => {
                    let evaluation = hospital.evaluate(&parameters);
                    SiteEvent::Evaluated { evaluation: Some(Box::new(evaluation)) }
                }
                SiteEffect::Cosign { checkpoint, .. } => SiteEvent::Cosigned { note: checkpoint },
                SiteEffect::Commit { state } => {
                    (site.disk.state, site.disk.log) = (Some(state), Vec::new());
                    continue;
                }
                SiteEffect::Notice(notice) => {
                    assert!(!notice.to_string().is_empty());
                    continue;
                }
                SiteEffect::Ended { .. } => continue,
            };
            let life = site.life;
            let delay = 1 + self.random.random_range(0..200);
            self.later(delay, Happening::Work { node, life, event });
        }
    }

    /// Whoever listens to a site never hears it say something differently.
    fn listen(&mut self, node: Node, packet: &Packet) {
        let envelope = Packet::peek::<ToCoordinator>(packet.head().as_bytes()).expect("its own message");
        let first = *self.said.entry((node, envelope.number)).or_insert(packet.head().hash());
        assert_eq!(first, packet.head().hash(), "{} says {:?} differently", name(node), envelope.message);
        if let ToCoordinator::Masking { .. } = envelope.message {
            // Version, kind, step, phase, attempt, round: where in the run the answer belongs.
            let place = packet.attachment().as_bytes()[..9].to_vec();
            let first = *self.answered.entry((node, place)).or_insert(packet.attachment().hash());
            assert_eq!(first, packet.attachment().hash(), "two answers of {} to one step", name(node));
        }
    }
}

fn commit(disk: &mut Disk, report: &RoundReport, state: Vec<Snapshot>) {
    assert_eq!(disk.reports.len() + 1, report.round_num as usize, "rounds are committed once, in order");
    disk.reports.push(report.clone());
    (disk.state, disk.log) = (Some(state), Vec::new());
}
