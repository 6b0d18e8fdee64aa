//! Federations of real processes, in which disks fill up, certificates run out and processes are killed.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "its other users need the rest")]
#[path = "federation/processes.rs"]
mod processes;

use medfed_net::pki::Approval;
use medfed_net::{AuthorityFolder, Holder, Party, clock};
use medfed_types::SiteId;
use processes::Federation;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const DAY: i64 = 24 * 60 * 60;
/// Between two looks at a process or a file.
const LOOK: Duration = Duration::from_millis(20);
/// Longest time that a test waits for anything.
const PATIENCE: Duration = Duration::from_mins(1);
/// Budgets that these runs do not spend.
const RICH: &str = "privacy.epsilon_budget=1000";

/// Looks again and again until something is there.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(LOOK);
    }
}

/// A process that is killed when it is dropped, with what it says on stderr.
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(mut command: Command, log: PathBuf) -> Self {
        let file = std::fs::File::create(&log).unwrap();
        let child = command.stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Self { child, log }
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    fn says(&self, words: &str) {
        let what = format!("{words:?} in {}", self.log.display());
        wait_for(&what, || self.said().contains(words).then_some(()));
    }

    fn ended(&mut self) -> ExitStatus {
        let what = format!("the end of the process of {}", self.log.display());
        wait_for(&what, || self.child.try_wait().unwrap())
    }

    fn succeeds(mut self) {
        assert!(self.ended().success(), "{}", self.said());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn coordinator(federation: &Federation) -> Process {
    Process::start(federation.coordinator_command(), federation.folder("coordinator.log"))
}

fn site(federation: &Federation, number: usize) -> Process {
    Process::start(federation.site_command(number), federation.folder(&format!("site_{number}.log")))
}

/// A file system in memory of a certain size. Dropping it takes it off.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Nothing where file systems cannot be mounted.
    fn mount(folder: PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir_all(&folder).unwrap();
        let options = format!("size={size}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&folder).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then_some(Self(folder))
    }

    fn resize(&self, size: &str) {
        let options = format!("remount,size={size}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What is still open keeps it until it is closed.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_hospital_whose_disk_is_full_says_so_and_goes_on_when_there_is_room() {
    let settings = ["federated.num_rounds=4", RICH];
    let mut expected = None;
    // Too small for the first round, and for a later one.
    for size in ["200k", "450k"] {
        let federation = Federation::new(&settings);
        let Some(disk) = SmallDisk::mount(federation.site_folder(1).join("store"), size) else {
            eprintln!("skipped: no file system can be mounted here");
            return;
        };
        let running = coordinator(&federation);
        let others = [site(&federation, 2), site(&federation, 3)];
        let mut full = site(&federation, 1);
        let status = full.ended();
        let said = full.said();
        assert_eq!(status.code(), Some(1), "{size}: {said}");
        for words in ["the disk that holds", "hospital_1/store", "is full", "hint:", "free"] {
            assert!(said.contains(words), "{size}: {words:?} is not in: {said}");
        }
        disk.resize("64m");
        site(&federation, 1).succeeds();
        others.into_iter().for_each(Process::succeeds);
        running.succeeds();
        let expected = expected.get_or_insert_with(|| federation.simulated());
        assert_eq!(federation.outcome(), *expected, "{size}");
    }
}

/// Renews the certificate of a hospital, as of `now`.
fn renew(federation: &Federation, number: usize, now: i64) {
    let holder = Holder::site(&federation.site_folder(number));
    let name = SiteId::try_from(format!("hospital_{number}")).unwrap();
    let request = holder.request(&Party::Site(name), &[], false).unwrap();
    let mut authority = AuthorityFolder::open(&federation.folder("coordinator")).unwrap();
    let approval = Approval { valid_days: 1, fingerprint: None, replace: false };
    let certificate = authority.approve(&request, &approval, now).unwrap();
    holder.install(authority.bundle(&certificate).as_bytes(), None, now).unwrap();
}

#[test]
fn a_certificate_that_runs_out_in_mid_run_is_named_on_both_sides_and_renewal_heals_it() {
    let federation = Federation::new(&["federated.num_rounds=3", RICH]);
    let end = clock::now() + 4;
    renew(&federation, 1, end - DAY);
    let running = coordinator(&federation);
    let (first, second) = (site(&federation, 1), site(&federation, 2));
    // The third dies within a round, so that the run is still on when the certificate ends.
    let mut command = federation.site_command(3);
    command.env("MEDFED_TEST_CRASH_POINT", "13");
    let mut dying = Process::start(command, federation.folder("site_3.log"));
    assert!(!dying.ended().success());
    running.says("hospital_1 is connected");
    wait_for("the end of the certificate", || (clock::now() > end).then_some(()));
    let third = site(&federation, 3);
    running.says("hospital_1 is gone");
    first.says("expired");
    running.says("expired");
    renew(&federation, 1, clock::now());
    // By itself it looks for another certificate within a minute; started again, at once.
    drop(first);
    let first = site(&federation, 1);
    [first, second, third].into_iter().for_each(Process::succeeds);
    running.succeeds();
    assert_eq!(federation.outcome(), federation.simulated());
}

/// Rounds of the soak; `MEDFED_SOAK_ROUNDS` asks for more.
const SOAK_ROUNDS: u32 = 12;

#[test]
fn a_long_run_of_kills_ends_like_a_simulation() {
    let rounds = std::env::var("MEDFED_SOAK_ROUNDS").ok().map_or(SOAK_ROUNDS, |it| it.parse().unwrap());
    let rounds_key = format!("federated.num_rounds={rounds}");
    let mut federation = Federation::new(&[&rounds_key, RICH]);
    let expected = federation.simulated();
    federation.start_coordinator(None);
    federation.start_sites(None);
    // Instants and victims follow from a fixed seed; what they hit depends on the machine.
    let (mut state, mut kills) = (0x2545_f491_u32, 0);
    while kills < rounds {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if !federation.run_for(Duration::from_millis(u64::from(state >> 8) % 600 + 50)) {
            break;
        }
        federation.kill((state >> 28) as usize % 4);
        kills += 1;
    }
    federation.restart_what_dies(Duration::from_secs(20 + 5 * u64::from(rounds)));
    assert_eq!(federation.outcome(), expected);
    assert!(kills > 1, "the run was over before anything was killed");
    println!("{rounds} rounds, {kills} kills");
}
