//! The discrete Gaussian N_ℤ(0, σ²), exactly: P(x) ∝ exp(−x²/(2σ²)) over all integers x.
//!
//! σ = p/q is rational, and the sampler uses integers and random bits only: no floating point, no
//! truncation, no approximation. The normal distribution is taken apart as in Karney 2016 ("Sampling
//! exactly from the normal distribution", algorithm D for the discrete case): x = ±(k + a/p)σ with a
//! whole number of standard deviations k and the rest a/p, 0 ≤ a < p. Acceptance needs coins that show
//! heads with probability exp(−r), r rational; they are those of Canonne, Kamath, Steinke 2020
//! (algorithm 1), made of coins with a rational probability, which compare a uniform integer below the
//! denominator with the numerator.
//!
//! The number of random words that a sample takes depends on the sample: the running time of a step
//! tells something about its noise to whoever can measure it. `docs/pitfalls.md` grades this.

use medfed_types::SecretRng;
use rand::rand_core::{Infallible, TryRng};
use std::num::NonZeroU64;

/// Sampler of the discrete Gaussian with the standard deviation parameter σ = p/q.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DiscreteGaussian {
    p: u64,
    q: u64,
    /// ⌈p/q⌉: candidates per standard deviation.
    width: u64,
}

impl DiscreteGaussian {
    /// σ = `numerator`/`denominator`.
    pub(crate) fn new(numerator: NonZeroU64, denominator: NonZeroU64) -> Self {
        let (p, q) = (numerator.get(), denominator.get());
        Self { p, q, width: p.div_ceil(q) }
    }

    /// σ.
    #[cfg(test)]
    pub(crate) fn deviation(self) -> f64 {
        self.p as f64 / self.q as f64
    }

    /// One sample.
    pub(crate) fn sample(&self, rng: &mut Words) -> i64 {
        loop {
            if let Some(x) = self.attempt(rng) {
                return x;
            }
        }
    }

    /// Algorithm D, steps D1 to D8; `None` is its "go back to step D1".
    #[inline]
    fn attempt(&self, rng: &mut Words) -> Option<i64> {
        // D1: k ≥ 0 with probability ∝ exp(−k/2). D2: keep it with probability exp(−k(k−1)/2).
        let mut k = 0u64;
        while rng.exp_minus_half() {
            k += 1;
        }
        for _ in 0..k * k.saturating_sub(1) {
            if !rng.exp_minus_half() {
                return None;
            }
        }
        // D3: a sign. D4: the candidate i = ⌈kσ⌉ + j for a uniform j < ⌈σ⌉, of which a/p = i/σ − k is the
        // part beyond k standard deviations.
        let negative = rng.bit();
        let kp = u128::from(k) * u128::from(self.p);
        let i = kp.div_ceil(u128::from(self.q)) + u128::from(rng.below(self.width));
        let a = i * u128::from(self.q) - kp;
        // D5: beyond the interval of k. D6: zero has one sign.
        if a >= u128::from(self.p) || (i == 0 && negative) {
            return None;
        }
        // D7: keep it with probability exp(−x(2k + x)/2) for x = a/p: k coins of exp(−x), one of exp(−x²/2).
        let a = a as u64;
        for _ in 0..k {
            if !rng.exp_minus(|rng| rng.coin(a, self.p)) {
                return None;
            }
        }
        if !rng.exp_minus(|rng| rng.bit() && rng.coin(a, self.p) && rng.coin(a, self.p)) {
            return None;
        }
        // D8. A sample fits: for σ below 2^57 it is beyond i64 with a probability below exp(-2000).
        let i = i64::try_from(i).ok()?;
        Some(if negative { -i } else { i })
    }
}

/// Random words from a [`SecretRng`], drawn a block at a time, and exact coins made of them.
pub(crate) struct Words {
    rng: SecretRng,
    block: [u64; Self::BLOCK],
    used: usize,
    /// Single bits not handed out yet: those below the highest 1.
    bits: u64,
}

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

impl Words {
    const BLOCK: usize = 128;

    /// Takes the words from `rng`.
    pub(crate) fn new(rng: SecretRng) -> Self {
        Self { rng, block: [0; Self::BLOCK], used: Self::BLOCK, bits: 1 }
    }

    #[inline]
    fn word(&mut self) -> u64 {
        if self.used == Self::BLOCK {
            self.refill();
        }
        let word = self.block[self.used];
        self.used += 1;
        word
    }

    #[inline(never)]
    fn refill(&mut self) {
        let mut bytes = [0; 8 * Self::BLOCK];
        let Ok(()) = self.rng.try_fill_bytes(&mut bytes);
        for (word, bytes) in self.block.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        self.used = 0;
    }

    /// True with probability 1/2.
    #[inline]
    fn bit(&mut self) -> bool {
        if self.bits == 1 {
            // 63 bits under a 1 that marks their end; the lowest bit of the word is given up.
            self.bits = self.word() | 1;
            self.bits = self.bits.rotate_right(1);
        }
        let bit = self.bits & 1 == 1;
        self.bits >>= 1;
        bit
    }

    /// Uniform in `0..bound`, `bound` at least 1 (Lemire 2019: a multiplication, and a rejection).
    #[inline]
    fn below(&mut self, bound: u64) -> u64 {
        loop {
            let product = u128::from(self.word()) * u128::from(bound);
            let low = product as u64;
            // The exact threshold 2^64 mod bound costs a division; it is below `bound`.
            if low >= bound || low >= bound.wrapping_neg() % bound {
                return (product >> 64) as u64;
            }
        }
    }

    /// True with probability exactly `numerator`/`denominator`, at most 1; `denominator` is not 0.
    #[inline]
    fn coin(&mut self, numerator: u64, denominator: u64) -> bool {
        self.below(denominator) < numerator
    }

    /// True with probability exp(−r), where `coin` is true with probability r ≤ 1.
    ///
    /// Canonne, Kamath, Steinke 2020, algorithm 1: toss coins of r/1, r/2, r/3, … until one fails; the
    /// number of the failing one is odd with probability exp(−r).
    #[inline]
    fn exp_minus(&mut self, mut coin: impl FnMut(&mut Self) -> bool) -> bool {
        if !coin(self) {
            return true;
        }
        let mut number = 2;
        while coin(self) && self.coin(1, number) {
            number += 1;
        }
        number % 2 == 1
    }

    /// True with probability exp(−1/2): [`exp_minus`](Self::exp_minus) with its first two rounds in bits.
    #[inline]
    fn exp_minus_half(&mut self) -> bool {
        if !self.bit() {
            return true;
        }
        if !(self.bit() && self.bit()) {
            return false;
        }
        let mut number = 3;
        while self.bit() && self.coin(1, number) {
            number += 1;
        }
        number % 2 == 1
    }
}

impl TryRng for Words {
    type Error = Infallible;
    #[inline]
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.word() as u32)
    }
    #[inline]
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.word())
    }
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.word().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use medfed_types::SecretKey;
    use sha2::{Digest, Sha256};

    fn words(stream: u64) -> Words {
        Words::new(SecretKey::from_bytes([9; 32]).generator("test", &[stream]))
    }

    fn sampler(p: u64, q: u64) -> DiscreteGaussian {
        DiscreteGaussian::new(NonZeroU64::new(p).unwrap(), NonZeroU64::new(q).unwrap())
    }

    /// An independent implementation draws the same samples from the same stream.
    #[test]
    fn known_answers() {
        #[derive(serde::Deserialize)]
        struct Case {
            stream: u64,
            p: u64,
            q: u64,
            first: Vec<i64>,
            sha256_of_400: [u8; 32],
        }
        #[derive(serde::Deserialize)]
        struct Vectors {
            cases: Vec<Case>,
        }
        let text = include_str!("../../../../testdata/noise.json");
        let vectors: Vectors = serde_json::from_str(text).unwrap();
        assert_eq!(vectors.cases.len(), 7);
        for case in vectors.cases {
            let (sampler, mut rng) = (sampler(case.p, case.q), words(case.stream));
            let samples: Vec<i64> = (0..400).map(|_| sampler.sample(&mut rng)).collect();
            assert_eq!(samples[..8], case.first, "{}/{}", case.p, case.q);
            let bytes: Vec<u8> = samples.iter().flat_map(|x| x.to_le_bytes()).collect();
            assert_eq!(<[u8; 32]>::from(Sha256::digest(bytes)), case.sha256_of_400, "{}/{}", case.p, case.q);
        }
    }

    /// Chi-square over all integers that are expected at least 10 times, the tails in one cell each. By
    /// Wilson and Hilferty's approximation, a sound sampler fails with probability 1e-6.
    #[test]
    fn samples_follow_the_exact_probabilities() {
        const N: usize = 200_000;
        for (stream, (p, q)) in [(3u64, 10u64), (1, 1), (7, 5), (10, 1), (1000, 1)].into_iter().enumerate() {
            let sampler = sampler(p, q);
            let sigma = sampler.deviation();
            let weight = |x: i64| (-(x as f64 / sigma).powi(2) / 2.0).exp();
            let reach = (12.0 * sigma).ceil() as i64 + 5;
            let total: f64 = (-reach..=reach).map(weight).sum();
            let rare = (0..reach).find(|x| weight(*x) / total * N as f64 <= 10.0);
            let last = rare.expect("twelve standard deviations are rare") - 1;
            let mut counts = vec![0u32; 2 * last as usize + 3];
            let mut rng = words(stream as u64);
            for _ in 0..N {
                let cell = sampler.sample(&mut rng).clamp(-last - 1, last + 1) + last + 1;
                counts[cell as usize] += 1;
            }
            let tail: f64 = (last + 1..=reach).map(weight).sum();
            let statistic: f64 = counts
                .iter()
                .zip(-last - 1..)
                .map(|(count, x)| {
                    let weight = if x.abs() > last { tail } else { weight(x) };
                    let expected = weight / total * N as f64;
                    // A tail that is hardly ever expected joins no cell: its count is checked apart.
                    if expected < 1.0 {
                        f64::from(*count) * 4.0
                    } else {
                        (f64::from(*count) - expected).powi(2) / expected
                    }
                })
                .sum();
            let freedom = (counts.len() - 1) as f64;
            let spread = 2.0 / (9.0 * freedom);
            let limit = freedom * (1.0 - spread + 4.75 * spread.sqrt()).powi(3) + 8.0;
            assert!(statistic < limit, "sigma {sigma}: {statistic} with {freedom} degrees of freedom");
        }
    }

    #[test]
    fn coins_have_their_probability() {
        const N: u32 = 1 << 18;
        let mut rng = words(100);
        let tolerance = 4.9 * (f64::from(N) / 4.0).sqrt();
        for (n, d) in [(0, 3), (1, 3), (2, 3), (1, 1), (1 << 40, 3 << 40), (u64::MAX / 2, u64::MAX)] {
            let heads = (0..N).filter(|_| rng.coin(n, d)).count() as f64;
            assert!((heads - n as f64 / d as f64 * f64::from(N)).abs() <= tolerance, "{n}/{d}: {heads}");
        }
        for r in [0, 1, 50, 100] {
            let heads = (0..N).filter(|_| rng.exp_minus(|rng| rng.coin(r, 100))).count() as f64;
            let expected = (-(r as f64) / 100.0).exp() * f64::from(N);
            assert!((heads - expected).abs() <= tolerance, "exp(-{r}/100): {heads}, not {expected}");
        }
    }
}
