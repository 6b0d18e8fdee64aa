//! Times whole sessions with all sites in this process, and counts bytes on the wire.
//!
//! `cargo bench --package medfed-secagg -- SITES,… PARAMETERS,…`; prints a Markdown table.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark reports on both streams")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use aes::Aes256;
use aes::cipher::{Array, Block, InnerIvInit, KeyInit, StreamCipherCore};
use ctr::CtrCore;
use ctr::flavors::Ctr128BE;
use medfed_secagg::coordinator::CollectingKeys;
use medfed_secagg::message::VectorShare;
use medfed_secagg::site::{self, Participation};
use medfed_secagg::{
    ClipRange, Contribution, Digest, Identity, Input, Members, NormBound, Roster, SecaggError,
    SessionContext, SessionId, SessionTerms, Signed, SiteIndex, SiteNoise, Weighting,
};
use medfed_types::{RoundId, SecretKey, SiteId};
use rayon::prelude::*;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Sites, and the randomness that everything follows from.
struct Cohort {
    context: SessionContext,
    identities: Vec<Arc<Identity>>,
    key: SecretKey,
}

impl Cohort {
    fn new(sites: usize, contribution: Contribution) -> Outcome<Self> {
        let key = SecretKey::from_bytes([1; 32]);
        let name = |i: usize| SiteId::try_from(format!("site {i:03}"));
        let names = (0..sites).map(name).collect::<Result<Vec<_>, _>>()?;
        let identity = |(i, name): (usize, &SiteId)| {
            Arc::new(Identity::new(name.clone(), &key.subkey("identity", &[i as u64])))
        };
        let identities: Vec<_> = names.iter().enumerate().map(identity).collect();
        let roster = Roster::new(identities.iter().map(|it| (it.site().clone(), it.verifying_key())))?;
        let terms = SessionTerms {
            session: SessionId([1; 16]),
            round: RoundId(1),
            configuration: Digest::new([1; 32]),
            model: Digest::new([2; 32]),
            cohort: names,
            threshold: SessionTerms::least_threshold(sites),
            min_clients: 3.min(sites),
            noise: SiteNoise::Private,
            contribution,
        };
        Ok(Self { context: SessionContext::new(terms, &roster)?, identities, key })
    }
}

/// What was measured in one session.
#[derive(Default)]
struct Measured {
    mask: Duration,
    unmask: Duration,
    /// Streams that were expanded to unmask.
    streams: usize,
    whole: Duration,
    up: usize,
    down: usize,
}

/// One session; with `drops`, the last site leaves before it sends its input. A site's step is all of
/// round 2: checks, fixed point, masks, digest and signature.
fn session(cohort: &Cohort, update: &[f32], drops: bool) -> Outcome<Measured> {
    let Cohort { context, identities, key } = cohort;
    let mut measured = Measured::default();
    let began = Instant::now();
    let mut collecting = CollectingKeys::new(context.clone());
    let mut joined = Vec::new();
    for (i, identity) in identities.iter().enumerate() {
        let (state, message) = site::join(context, identity, &mut key.generator("join", &[i as u64]))?;
        measured.up = message.encode().len();
        collecting.receive(message)?;
        joined.push(state);
    }
    let (mut collecting, keys) = collecting.close()?;
    measured.down = keys.encode(context).len();
    let deal =
        |(i, state): (usize, site::AwaitingKeys)| state.deal(&keys, &mut key.generator("deal", &[i as u64]));
    let dealt: Vec<_> = joined.into_par_iter().enumerate().map(deal).collect::<Result<_, SecaggError>>()?;
    measured.up += dealt[0].1.encode().len();
    let mut states = Vec::new();
    for (state, message) in dealt {
        collecting.receive(message)?;
        states.push(state);
    }
    let (mut collecting, dealings) = collecting.close()?;
    measured.down += dealings.encode(context).len();
    if drops {
        states.pop();
    }
    let mut masked = Vec::new();
    for state in states {
        let started = Instant::now();
        let (state, message) = state.mask(&dealings, Input::Update(update), &mut Participation::default())?;
        measured.mask += started.elapsed();
        let bytes = message.encode();
        if masked.is_empty() {
            measured.up += bytes.len();
        }
        collecting.receive(Signed::decode(&bytes, context)?)?;
        masked.push(state);
    }
    measured.mask /= masked.len() as u32;
    let survivors = masked.len();
    let (mut collecting, proposal) = collecting.close()?;
    measured.down += proposal.encode(context).len();
    let mut agreed = Vec::new();
    for state in masked {
        let (state, message) = state.consent(proposal)?;
        if agreed.is_empty() {
            measured.up += message.encode().len();
        }
        collecting.receive(message)?;
        agreed.push(state);
    }
    let (mut collecting, agreement) = collecting.close()?;
    measured.down += agreement.encode(context).len();
    for (i, state) in agreed.into_iter().enumerate() {
        let message = state.unmask(&agreement)?;
        if i == 0 {
            measured.up += message.encode().len();
        }
        collecting.receive(message)?;
    }
    let started = Instant::now();
    let opened = collecting.close()?;
    measured.unmask = started.elapsed();
    measured.streams = if drops { 2 * survivors } else { survivors };
    let mean = opened.mean();
    measured.whole = began.elapsed();
    let error = (mean[0] - f64::from(update[0])).abs();
    assert!(error <= opened.error_bound(), "the mean of equal updates is the update");
    Ok(measured)
}

/// The cipher alone: as many streams as a mask has, on all threads, into a buffer that stays in the cache.
fn raw(streams: usize, words: usize) -> Duration {
    const BLOCKS: usize = 256;
    let pieces = words.div_ceil(1 << 14);
    let started = Instant::now();
    (0..pieces).into_par_iter().for_each(|piece| {
        let mut buffer: [Block<Aes256>; BLOCKS] = [Array::default(); BLOCKS];
        for stream in 0..streams {
            let cipher = Aes256::new(&[stream as u8; 32].into());
            let counter = (piece as u128) << 12;
            let mut stream: CtrCore<&Aes256, Ctr128BE> =
                CtrCore::inner_iv_init(&cipher, &counter.to_be_bytes().into());
            let words = (words - (piece << 14)).min(1 << 14);
            for _ in 0..words.div_ceil(4 * BLOCKS) {
                stream.write_keystream_blocks(&mut buffer);
            }
        }
        std::hint::black_box(&buffer);
    });
    started.elapsed()
}

/// Selection among all sites; three are selected. The time without what the sites' inputs cost to make.
fn selection(cohort: &Cohort, updates: &[Vec<f32>]) -> Outcome<(Duration, usize, usize)> {
    let Cohort { context, identities, key } = cohort;
    let began = Instant::now();
    let mut collecting = CollectingKeys::new(context.clone());
    let mut joined = Vec::new();
    for (i, identity) in identities.iter().enumerate() {
        let (state, message) = site::join(context, identity, &mut key.generator("join", &[i as u64]))?;
        collecting.receive(message)?;
        joined.push(state);
    }
    let (mut collecting, keys) = collecting.close()?;
    let mut states = Vec::new();
    for (i, state) in joined.into_iter().enumerate() {
        let (state, message) = state.deal(&keys, &mut key.generator("deal", &[i as u64]))?;
        collecting.receive(message)?;
        states.push(state);
    }
    let (mut collecting, dealings) = collecting.close_for_selection()?;
    let (mut up, mut down) = (0, 0);
    let mut shared = Vec::new();
    for (i, state) in states.into_iter().enumerate() {
        let mut rng = key.generator("share", &[i as u64]);
        let (state, message, shares) =
            state.share(&dealings, &updates[i], &mut Participation::default(), &mut rng)?;
        if i == 0 {
            up = message.encode().len() + shares.iter().map(|it| it.encode(context).len()).sum::<usize>();
        }
        collecting.receive(message, shares)?;
        shared.push(state);
    }
    eprintln!("  shared after {:.2?}", began.elapsed());
    let (mut collecting, deliveries) = collecting.close()?;
    let mut multiplied = Vec::new();
    for (state, (_, shares)) in shared.into_iter().zip(deliveries) {
        if multiplied.is_empty() {
            let bytes = |share: &VectorShare| share.encode(context).len();
            down = shares.iter().map(bytes).sum();
        }
        let (state, message) = state.multiply(shares)?;
        collecting.receive(message)?;
        multiplied.push(state);
    }
    eprintln!("  multiplied after {:.2?}", began.elapsed());
    let (selecting, products) = collecting.close()?;
    let selected: Members = (0..3).filter_map(SiteIndex::new).collect();
    let (mut collecting, proposal) = selecting.select(selected)?;
    let mut agreed = Vec::new();
    for state in multiplied {
        let (state, _) = state.review(&products)?;
        let (state, message) = state.consent(proposal, selected)?;
        collecting.receive(message)?;
        agreed.push(state);
    }
    let (mut collecting, agreement) = collecting.close()?;
    for state in agreed {
        collecting.receive(state.unmask(&agreement)?)?;
    }
    let opened = collecting.close()?;
    assert_eq!(opened.survivors(), selected);
    Ok((began.elapsed(), up, down))
}

fn ramp(parameters: usize, scale: f32) -> Vec<f32> {
    (0..parameters).map(|i| ((i * 7919 % 10_007) as f32 / 10_007.0 - 0.5) * scale).collect()
}

fn list(argument: Option<&String>, default: &[usize]) -> Outcome<Vec<usize>> {
    let Some(text) = argument else { return Ok(default.to_vec()) };
    Ok(text.split(',').map(str::parse).collect::<Result<_, _>>()?)
}

fn main() -> Outcome<()> {
    // Cargo itself passes --bench.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let sites = list(arguments.first(), &[3, 10, 100])?;
    let parameters = list(arguments.get(1), &[1_500_000, 11_000_000])?;
    println!(
        "| sites | parameters | one site's step | its raw streams | ratio | unmasking, one dropped | raw streams | \
         ratio | whole session | bytes up | bytes down |"
    );
    println!("|{}", "---|".repeat(11));
    let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
    for &sites in &sites {
        for &parameters in &parameters {
            eprintln!("{sites} sites, {parameters} parameters");
            let update = ramp(parameters, 1.0);
            let range = ClipRange::new(1.0)?;
            let contribution = Contribution::Update { parameters, range, weighting: Weighting::Equal };
            let cohort = Cohort::new(sites, contribution)?;
            // With three sites nobody may drop: three survivors are needed.
            let measured = session(&cohort, &update, sites > 3)?;
            // The machine may be busy for a moment: the middle of five.
            let median = |streams| {
                let mut times = [0; 5].map(|_| raw(streams, parameters));
                times.sort_unstable();
                times[2]
            };
            let (masks, unmasks) = (median(sites), median(measured.streams));
            println!(
                "| {sites} | {parameters} | {:.3} s | {:.3} s | {:.2}× | {:.3} s | {:.3} s | {:.2}× | {:.2} s | {} | {} |",
                measured.mask.as_secs_f64(),
                masks.as_secs_f64(),
                ratio(measured.mask, masks),
                measured.unmask.as_secs_f64(),
                unmasks.as_secs_f64(),
                ratio(measured.unmask, unmasks),
                measured.whole.as_secs_f64(),
                measured.up,
                measured.down,
            );
        }
    }
    println!("\n| secure selection: sites | parameters | whole session | bytes up | bytes down |");
    println!("|{}", "---|".repeat(5));
    for &parameters in parameters.iter().filter(|it| **it <= 2_000_000) {
        eprintln!("selection among 10 sites, {parameters} parameters");
        let (range, norm) = (ClipRange::new(0.1)?, NormBound::new(100.0)?);
        let cohort = Cohort::new(10, Contribution::Selection { parameters, range, norm })?;
        let updates: Vec<Vec<f32>> = (0..10_u8).map(|i| ramp(parameters, 0.01 * f32::from(i + 1))).collect();
        let (whole, up, down) = selection(&cohort, &updates)?;
        println!("| 10 | {parameters} | {:.2} s | {up} | {down} |", whole.as_secs_f64());
    }
    println!("\n{} threads.", rayon::current_num_threads());
    Ok(())
}
