//! Secure selection: inner products of the sites' updates, and nothing else of them, before one sum.
//!
//! Every site shares its quantised update among all sites with polynomials of degree T = ⌊(n − 1)/3⌋ over
//! the field of p = 2⁶¹ − 1 elements (Ben-Or, Goldwasser, Wigderson 1988): T sites together learn nothing.
//! A site multiplies the shares of two vectors coordinate by coordinate and adds the products up: a share
//! of their inner product, on a polynomial of degree 2T. It adds shares of zero that every site dealt, so
//! that the polynomial is random but for its value at zero, and the coordinator opens that value.
//!
//! **Exact.** With integers of L2 norm below 2³⁰ every inner product lies within ±(p − 1)/2, so what is
//! opened is the exact integer. The scale is S = (2³⁰ − 2¹⁴)/N for the norm bound N, or less if the clip
//! range asks for it; a rounded vector is longer than the exact one by at most √d/2 ≤ 2¹³.
//!
//! Sites whose opened squared norm is beyond N, or negative, are left out of the result.
//!
//! **Wrong shares.** m sites give m points of a polynomial of degree 2T, so up to m − 2T − 1 wrong shares
//! show: all of T liars as long as m ≥ 3T + 1, as when nobody dropped out. As many as m − 3T − 1 are left
//! out, and the session goes on: that many can be told from honest ones although there are T liars. With
//! more, it ends; the error names those whom the fewest changes would blame (`decoding.rs`).
//!
//! **Other vectors.** A site could share one vector and mask another. After the sum is opened, the sites
//! also open a random combination of the coordinates of the *sum of the selected vectors*, with factors
//! that nobody knew when the vectors were shared; it must equal that of the opened sum, which fails with
//! probability below 2⁻⁶⁰ for another vector. And the squared norm of the opened sum, an exact integer,
//! must be the sum of the opened inner products of the selected: so a vector that is long enough to wrap
//! around p, and to seem short, shows too. Both are functions of the opened sum: nothing more is revealed.
//! Either failing, the sum is thrown away.

use rayon::prelude::*;
use zeroize::Zeroizing;

use medfed_types::SecretKey;

use crate::context::{Contribution, NormBound, SessionContext};
use crate::decoding::Interpolation;
use crate::digest::Digest;
use crate::error::SecaggError;
use crate::field::{Fe, dot};
use crate::mask::Stream;
use crate::message::{Products, VectorShare};
use crate::roster::{Members, SiteIndex};
use crate::shamir::point;
use crate::wire::Reader;

/// Coordinates that are worked on at a time.
const PIECE: usize = 1 << 12;

/// Pairs (u, v) with u ≤ v among `sites`.
pub(crate) fn pairs(sites: usize) -> usize {
    sites * (sites + 1) / 2
}

/// The place of a pair with u ≤ v, row by row.
fn place(u: usize, v: usize, sites: usize) -> usize {
    u * sites - u * u.saturating_sub(1) / 2 + (v - u)
}

/// The largest number of steps to one under which inner products are exact.
pub(crate) fn scale(norm: NormBound) -> f64 {
    (2f64.powi(30) - 2f64.powi(14)) / norm.get()
}

/// Opened inner products.
#[derive(Debug, Clone, PartialEq)]
pub struct Gram {
    vectors: Members,
    /// Row by row, u ≤ v.
    values: Vec<i64>,
    scale: f64,
}

impl Gram {
    /// Whose vectors were multiplied, without those that are longer than was agreed.
    pub fn vectors(&self) -> Members {
        self.vectors
    }

    /// The exact inner product of two sites' integer vectors.
    pub fn integer(&self, a: SiteIndex, b: SiteIndex) -> Option<i64> {
        let rank = |site| self.vectors.iter().position(|it| it == site);
        let (a, b) = (rank(a)?, rank(b)?);
        self.values.get(place(a.min(b), a.max(b), self.vectors.len())).copied()
    }

    /// Steps to one: an integer divided by its square is an inner product of updates.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// The exact inner products of the integer vectors, row by row, each row from its diagonal on.
    pub fn integers(&self) -> &[i64] {
        &self.values
    }

    /// How far a squared distance may be from that of the real updates, whose distance is `distance`: both
    /// vectors are rounded by at most half a step in each of `parameters` values, so the distance moves by
    /// √d/S at most.
    pub fn distance_error(&self, distance: f64, parameters: usize) -> f64 {
        let moved = (parameters as f64).sqrt() / self.scale;
        moved * (2.0 * distance + moved)
    }

    /// The inner product of two sites' updates.
    pub fn inner_product(&self, a: SiteIndex, b: SiteIndex) -> Option<f64> {
        self.integer(a, b).map(|value| value as f64 / self.scale / self.scale)
    }

    /// The squared distance between two sites' updates.
    pub fn squared_distance(&self, a: SiteIndex, b: SiteIndex) -> Option<f64> {
        let [aa, ab, bb] = [(a, a), (a, b), (b, b)].map(|(u, v)| self.integer(u, v).map(i128::from));
        Some((aa? - 2 * ab? + bb?) as f64 / self.scale / self.scale)
    }

    /// All inner products, row by row in ascending order of sites: `vectors().len()` squared of them.
    pub fn to_matrix(&self) -> Vec<f64> {
        let sites = self.vectors.len();
        let entry = |at: usize| {
            let (u, v) = (at / sites, at % sites);
            self.values[place(u.min(v), u.max(v), sites)] as f64 / self.scale / self.scale
        };
        (0..sites * sites).map(entry).collect()
    }

    /// Sites whose vectors are longer than was agreed, or whose squared norm is none.
    fn beyond(&self, context: &SessionContext) -> Members {
        let Contribution::Selection { parameters, norm, .. } = context.terms().contribution else {
            return Members::default();
        };
        // Rounding moves each coordinate by half a step at most.
        let longest = norm.get() * self.scale + (parameters as f64).sqrt() / 2.0 + 1.0;
        let squares = 0.0..=longest.powi(2);
        let fits = |site| self.integer(site, site).is_some_and(|square| squares.contains(&(square as f64)));
        self.vectors.iter().filter(|site| !fits(*site)).collect()
    }

    /// The inner products among the other sites.
    fn without(self, left_out: Members) -> Self {
        if left_out.is_empty() {
            return self;
        }
        let vectors = self.vectors.without(left_out);
        let row = |u: SiteIndex| vectors.iter().filter(move |v| *v >= u).map(move |v| (u, v));
        let values = vectors.iter().flat_map(row).filter_map(|(u, v)| self.integer(u, v)).collect();
        Self { vectors, values, ..self }
    }

    /// The squared norm of the sum of some vectors.
    fn squared_norm_of_sum(&self, summed: Members) -> i128 {
        let of_row = |u| summed.iter().filter_map(move |v| self.integer(u, v)).map(i128::from).sum::<i128>();
        summed.iter().map(of_row).sum()
    }
}

/// Shares of a vector of signed integers for every dealer, each followed by shares of zero for every pair
/// of dealers; canonical bytes, still open.
pub(crate) fn deal(
    context: &SessionContext,
    words: &[u32],
    dealers: Members,
    key: &SecretKey,
) -> Vec<(SiteIndex, Zeroizing<Vec<u8>>)> {
    let degree = context.selection_privacy();
    let holders: Vec<(SiteIndex, Fe)> = dealers.iter().map(|holder| (holder, point(holder))).collect();
    let bytes = 8 * VectorShare::elements(context, dealers);
    let mut shares: Vec<Zeroizing<Vec<u8>>> =
        holders.iter().map(|_| Zeroizing::new(vec![0; bytes])).collect();

    // One row of equal pieces for every holder, turned into one list of slices for every piece.
    let (lengths, vector) = (8 * PIECE, 8 * words.len());
    let mut pieces: Vec<Vec<&mut [u8]>> = Vec::new();
    let mut zeros: Vec<&mut [u8]> = Vec::new();
    for share in &mut shares {
        let (values, zero) = share.split_at_mut(vector);
        zeros.push(zero);
        for (at, piece) in values.chunks_mut(lengths).enumerate() {
            if at == pieces.len() {
                pieces.push(Vec::with_capacity(holders.len()));
            }
            pieces[at].push(piece);
        }
    }
    pieces.par_iter_mut().zip(words.par_chunks(PIECE)).enumerate().for_each(|(at, (outs, words))| {
        let mut rng = key.generator("vector shares", &[at as u64]);
        let random = (0..degree * words.len()).map(|_| Fe::random(&mut rng)).collect::<Vec<_>>();
        let random = Zeroizing::new(random);
        for (out, (_, x)) in outs.iter_mut().zip(&holders) {
            for (i, (out, word)) in out.chunks_exact_mut(8).zip(words).enumerate() {
                let higher = random[i * degree..(i + 1) * degree].iter();
                let value = higher.fold(Fe::ZERO, |sum, coefficient| (sum + *coefficient) * *x);
                let value = value + Fe::from_i64(i64::from(word.cast_signed()));
                out.copy_from_slice(&value.get().to_le_bytes());
            }
        }
    });
    let mut rng = key.generator("shares of zero", &[]);
    for pair in 0..pairs(holders.len()) {
        let random: Vec<Fe> = (0..2 * degree).map(|_| Fe::random(&mut rng)).collect();
        for (zero, (_, x)) in zeros.iter_mut().zip(&holders) {
            let value = random.iter().fold(Fe::ZERO, |sum, coefficient| (sum + *coefficient) * *x);
            zero[8 * pair..8 * (pair + 1)].copy_from_slice(&value.get().to_le_bytes());
        }
    }
    holders.into_iter().map(|(holder, _)| holder).zip(shares).collect()
}

/// One site's share of another's vector, and then of the zeros. Wiped on drop, never printed.
pub(crate) struct HeldShare(Zeroizing<Vec<Fe>>);

impl HeldShare {
    /// Reads canonical bytes of so many elements.
    pub(crate) fn read(bytes: &[u8], elements: usize) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let read = Zeroizing::new(reader.elements(elements).ok()?);
        reader.finish().ok().map(|()| Self(read))
    }
}

impl std::ops::Deref for HeldShare {
    type Target = [Fe];
    fn deref(&self) -> &[Fe] {
        &self.0
    }
}

impl std::fmt::Debug for HeldShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

/// The shares that one site holds, by dealer.
pub(crate) type VectorShares = Vec<(SiteIndex, HeldShare)>;

/// This site's shares of all inner products among `held`, re-randomised.
pub(crate) fn multiply(context: &SessionContext, held: &VectorShares, dealers: Members) -> Products {
    let length = context.input_words();
    let sites = held.len();
    let pieces: Vec<usize> = (0..length).step_by(PIECE).collect();
    let products = |start: &usize| {
        let range = *start..(*start + PIECE).min(length);
        let mut sums = Vec::with_capacity(pairs(sites));
        for (u, (_, a)) in held.iter().enumerate() {
            sums.extend(held[u..].iter().map(|(_, b)| dot(&a[range.clone()], &b[range.clone()])));
        }
        sums
    };
    let add = |mut sums: Vec<Fe>, more: Vec<Fe>| {
        sums.iter_mut().zip(more).for_each(|(sum, more)| *sum = *sum + more);
        sums
    };
    // Sums in a field do not depend on their order.
    let mut shares = pieces.par_iter().map(products).reduce(|| vec![Fe::ZERO; pairs(sites)], add);
    let rank = |site| dealers.iter().take_while(|it| *it < site).count();
    for (u, (first, _)) in held.iter().enumerate() {
        for (v, (second, _)) in held.iter().enumerate().skip(u) {
            let zero = length + place(rank(*first), rank(*second), dealers.len());
            let share = &mut shares[place(u, v, sites)];
            *share = held.iter().fold(*share, |sum, (_, elements)| sum + elements[zero]);
        }
    }
    Products { vectors: held.iter().map(|(dealer, _)| *dealer).collect(), shares }
}

/// Opened inner products, the sites whose shares did not fit, and those whose vectors are too long.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Without the sites that are too long.
    pub(crate) gram: Gram,
    pub(crate) wrong: Members,
    pub(crate) too_long: Members,
}

/// Opens all inner products from the shares of at least 2T + 1 sites.
pub(crate) fn open(
    context: &SessionContext,
    vectors: Members,
    shares: &[(SiteIndex, &Products)],
) -> Result<Opened, SecaggError> {
    let coefficients = 2 * context.selection_privacy() + 1;
    let count = pairs(vectors.len());
    let mut wrong = Members::default();
    loop {
        let good: Vec<_> = shares.iter().filter(|(site, _)| !wrong.contains(*site)).collect();
        let points = good.iter().map(|(site, _)| point(*site)).collect();
        let blamed = || SecaggError::Products { culprits: context.names(wrong) };
        let code = Interpolation::new(points, coefficients).ok_or_else(blamed)?;
        let column = |pair: usize| good.iter().map(|(_, it)| it.shares[pair]).collect::<Vec<Fe>>();
        let opened: Vec<Option<Fe>> = (0..count).map(|pair| code.open(&column(pair))).collect();
        let Some(failed) = opened.iter().position(Option::is_none) else {
            let values = opened.into_iter().flatten().map(Fe::to_signed).collect();
            let scale = context.fixed_point().map_or(1.0, crate::FixedPoint::scale);
            let gram = Gram { vectors, values, scale };
            let too_long = gram.beyond(context);
            return Ok(Opened { gram: gram.without(too_long), wrong, too_long });
        };
        let Some(places) = code.wrong(&column(failed)) else {
            let culprits = context.names(wrong_dealers(vectors, &opened));
            return Err(SecaggError::Products { culprits });
        };
        // Among T liars, only as many places as this are certainly theirs.
        let certain = good.len().saturating_sub(3 * context.selection_privacy() + 1);
        let give_up = places.len() > certain;
        for at in places {
            wrong.insert(good[at].0);
        }
        if give_up {
            return Err(SecaggError::Products { culprits: context.names(wrong) });
        }
    }
}

/// The dealers whose vectors are no shares of anything: all pairs that fail are theirs.
fn wrong_dealers(vectors: Members, opened: &[Option<Fe>]) -> Members {
    let sites: Vec<SiteIndex> = vectors.iter().collect();
    let fails = |u: usize, v: usize| opened[place(u, v, sites.len())].is_none();
    let (bad, good): (Vec<usize>, Vec<usize>) = (0..sites.len()).partition(|u| fails(*u, *u));
    let explained = good.iter().all(|u| good.iter().filter(|v| *v >= u).all(|v| !fails(*u, *v)));
    if explained && good.len() >= 2 {
        bad.into_iter().map(|at| sites[at]).collect()
    } else {
        Members::default()
    }
}

/// Random factors for the coordinates, from a public coin.
pub(crate) struct Factors(Stream);

impl Factors {
    pub(crate) fn new(coin: Digest) -> Self {
        let key = crate::agreement::derive(coin.as_bytes(), coin, "combination", &[]);
        Self(Stream::new(&key))
    }

    /// Σ factor·value, over all coordinates: `values` gives the elements of a range.
    pub(crate) fn combine(&self, length: usize, values: impl Fn(usize) -> Fe + Sync) -> Fe {
        let pieces: Vec<usize> = (0..length).step_by(PIECE).collect();
        let combine = |start: &usize| {
            let end = (*start + PIECE).min(length);
            // Two words make a factor, four a block of the stream.
            let mut words = vec![0; 2 * (end - *start)];
            self.0.words((*start / 2) as u128, &mut words);
            let factors =
                words.chunks_exact(2).map(|pair| Fe::from_u64(u64::from(pair[0]) | u64::from(pair[1]) << 32));
            (*start..end).zip(factors).fold(Fe::ZERO, |sum, (at, factor)| sum + factor * values(at))
        };
        pieces.par_iter().map(combine).reduce(|| Fe::ZERO, |a, b| a + b)
    }
}

/// Checks that the opened sum is that of the vectors whose inner products were opened.
pub(crate) fn check_sum(
    context: &SessionContext,
    gram: &Gram,
    summed: Members,
    coin: Digest,
    shares: &[(SiteIndex, Fe)],
    sum: &[u32],
) -> Result<(), SecaggError> {
    let points = shares.iter().map(|(site, _)| point(*site)).collect();
    let values: Vec<Fe> = shares.iter().map(|(_, share)| *share).collect();
    let code = Interpolation::new(points, context.selection_privacy() + 1).ok_or(SecaggError::Linkage)?;
    let Some(opened) = code.open(&values) else {
        // Without the wrong ones, as long as they can be told.
        let places = code.wrong(&values).ok_or(SecaggError::Linkage)?;
        let good: Vec<_> = (0..shares.len()).filter(|at| !places.contains(at)).map(|at| shares[at]).collect();
        return check_sum(context, gram, summed, coin, &good, sum);
    };
    let signed = |at: usize| i64::from(sum[at].cast_signed());
    let expected = Factors::new(coin).combine(sum.len(), |at| Fe::from_i64(signed(at)));
    let norm: i128 = (0..sum.len()).map(|at| i128::from(signed(at)).pow(2)).sum();
    if opened == expected && norm == gram.squared_norm_of_sum(summed) {
        return Ok(());
    }
    Err(SecaggError::Linkage)
}
