//! A federation in a temporary folder, with an authority, a coordinator and sites.

use bytes::Bytes;
use medfed_net::pki::Approval;
use medfed_net::{
    AuthorityFolder, CoordinatorEvent, CoordinatorOptions, CoordinatorTransport, Fingerprint,
    GrpcCoordinator, GrpcSite, Holder, LinkProblem, LinkState, Party, Proxy, Route, SiteEvent, SiteOptions,
    SiteTransport, Timing, clock,
};
use medfed_types::SiteId;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::timeout;

/// Longest time that a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const LARGEST: u64 = 64 << 20;
pub(crate) const DAY: i64 = 24 * 60 * 60;

pub(crate) const QUICK: Timing = Timing {
    step: Duration::from_secs(10),
    beat: Duration::from_secs(2),
    first_pause: Duration::from_millis(5),
    longest_pause: Duration::from_millis(50),
};

pub(crate) struct Federation {
    folder: TempDir,
}

pub(crate) fn id(name: &str) -> SiteId {
    SiteId::try_from(name).unwrap()
}

pub(crate) fn party(name: &str) -> Party {
    Party::Site(id(name))
}

pub(crate) fn days(valid_days: u32) -> Approval {
    Approval { valid_days, fingerprint: None, replace: false }
}

/// Bytes without a pattern that hides a mistake in order or offset.
pub(crate) fn content(length: usize, salt: u64) -> Bytes {
    let mut state = salt | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state >> 7).to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

impl Federation {
    /// With a coordinator on loopback and these sites, all certified.
    pub(crate) fn new(sites: &[&str]) -> Self {
        let this = Self { folder: tempfile::tempdir().unwrap() };
        let now = clock::now();
        AuthorityFolder::create(&this.coordinator_folder(), "Test federation", 3650, now).unwrap();
        let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let coordinator = this.coordinator();
        let request = coordinator.request(&Party::Coordinator, &hosts, false).unwrap();
        let mut authority = this.authority();
        let certificate = authority.approve(&request, &days(365), now).unwrap();
        coordinator.install(authority.bundle(&certificate).as_bytes(), None, now).unwrap();
        drop(authority);
        for site in sites {
            this.enrol(site, &days(365), now);
        }
        this
    }

    pub(crate) fn coordinator_folder(&self) -> PathBuf {
        self.folder.path().join("coordinator")
    }

    pub(crate) fn authority(&self) -> AuthorityFolder {
        AuthorityFolder::open(&self.coordinator_folder()).unwrap()
    }

    pub(crate) fn coordinator(&self) -> Holder {
        Holder::coordinator(&self.coordinator_folder())
    }

    pub(crate) fn holder(&self, site: &str) -> Holder {
        Holder::site(&self.folder.path().join(site))
    }

    /// Makes or renews the certificate of a site as if it were `now`.
    pub(crate) fn enrol(&self, site: &str, approval: &Approval, now: i64) {
        let holder = self.holder(site);
        let request = holder.request(&party(site), &[], false).unwrap();
        let mut authority = self.authority();
        let certificate = authority.approve(&request, approval, now).unwrap();
        holder.install(authority.bundle(&certificate).as_bytes(), None, now).unwrap();
    }

    pub(crate) fn revoke(&self, site: &str) {
        assert!(self.authority().revoke(&party(site), clock::now()).unwrap() > 0);
    }

    pub(crate) async fn listen(&self, address: SocketAddr, timing: Timing) -> GrpcCoordinator {
        let spool = self.coordinator_folder().join("spool");
        let options = CoordinatorOptions { listen: address, spool, largest_message: LARGEST, timing };
        GrpcCoordinator::bind(&self.coordinator(), options).await.unwrap()
    }

    pub(crate) async fn coordinate(&self) -> GrpcCoordinator {
        self.listen(SocketAddr::from(([127, 0, 0, 1], 0)), QUICK).await
    }

    /// Listens again at an address that the one before may not have left yet.
    pub(crate) async fn coordinate_again(&self, address: SocketAddr) -> GrpcCoordinator {
        let options = || CoordinatorOptions {
            listen: address,
            spool: self.coordinator_folder().join("spool"),
            largest_message: LARGEST,
            timing: QUICK,
        };
        timeout(PATIENCE, async {
            loop {
                if let Ok(coordinator) = GrpcCoordinator::bind(&self.coordinator(), options()).await {
                    return coordinator;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the address is free in time")
    }

    pub(crate) async fn join(&self, site: &str, address: SocketAddr) -> GrpcSite {
        self.join_by(site, route(address), QUICK).await
    }

    pub(crate) async fn join_by(&self, site: &str, route: Route, timing: Timing) -> GrpcSite {
        let spool = self.folder.path().join(site).join("spool");
        let options = SiteOptions { route, spool, largest_message: LARGEST, timing };
        GrpcSite::start(&self.holder(site), options).await.unwrap()
    }
}

pub(crate) fn route(address: SocketAddr) -> Route {
    Route { address: address.to_string().parse().unwrap(), proxy: None, pinned: None }
}

pub(crate) fn route_by(address: SocketAddr, proxy: Option<Proxy>, pinned: Option<Fingerprint>) -> Route {
    Route { proxy, pinned, ..route(address) }
}

pub(crate) async fn coordinator_hears(coordinator: &mut impl CoordinatorTransport) -> CoordinatorEvent {
    timeout(PATIENCE, coordinator.recv()).await.expect("an event in time").expect("the transport goes on")
}

pub(crate) async fn site_hears(site: &mut impl SiteTransport) -> SiteEvent {
    timeout(PATIENCE, site.recv()).await.expect("an event in time").expect("the transport goes on")
}

/// Waits until a site is there; what else happens on the way is passed over.
pub(crate) async fn connected(coordinator: &mut impl CoordinatorTransport, name: &str) {
    loop {
        if let CoordinatorEvent::Connected { site, certificate } = coordinator_hears(coordinator).await
            && site == id(name)
        {
            assert_eq!(*certificate.party(), party(name));
            return;
        }
    }
}

pub(crate) async fn site_connected(site: &mut impl SiteTransport) {
    while !matches!(site_hears(site).await, SiteEvent::Connected { .. }) {}
}

pub(crate) async fn coordinator_gets(coordinator: &mut impl CoordinatorTransport) -> (SiteId, Bytes) {
    loop {
        if let CoordinatorEvent::Message { from, bytes } = coordinator_hears(coordinator).await {
            return (from, bytes);
        }
    }
}

pub(crate) async fn site_gets(site: &mut impl SiteTransport) -> Bytes {
    loop {
        if let SiteEvent::Message { bytes } = site_hears(site).await {
            return bytes;
        }
    }
}

pub(crate) async fn coordinator_loses(coordinator: &mut impl CoordinatorTransport) -> LinkProblem {
    loop {
        if let CoordinatorEvent::Disconnected { problem, .. } = coordinator_hears(coordinator).await {
            return problem;
        }
    }
}

pub(crate) async fn site_loses(site: &mut impl SiteTransport) -> LinkProblem {
    loop {
        if let SiteEvent::Disconnected { problem } = site_hears(site).await {
            return problem;
        }
    }
}

/// Why a site's last attempt failed.
pub(crate) async fn fails(site: &impl SiteTransport) -> LinkProblem {
    let mut states = site.state();
    let waiting = states.wait_for(|state| matches!(state, LinkState::Waiting { .. }));
    let state =
        timeout(PATIENCE, waiting).await.expect("a failure in time").expect("the transport goes on").clone();
    match state {
        LinkState::Waiting { problem, .. } => problem,
        state => panic!("waited for a failure, found {state:?}"),
    }
}

/// Waits until a site's last attempt failed as `expected` says.
pub(crate) async fn fails_as(site: &impl SiteTransport, expected: impl Fn(&LinkProblem) -> bool) {
    let mut states = site.state();
    let waiting = states.wait_for(|state| match state {
        LinkState::Waiting { problem, .. } => expected(problem),
        _ => false,
    });
    timeout(PATIENCE, waiting).await.expect("this failure in time").expect("the transport goes on");
}
