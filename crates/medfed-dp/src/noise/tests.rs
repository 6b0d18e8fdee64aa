//! Statistical tests under fixed keys. Each threshold is crossed by a sound generator with a
//! probability of about one in a million (4.9 standard deviations, two-sided).

use super::*;
use proptest::prelude::*;

const LIMIT: f64 = 4.9;

fn key(byte: u8) -> SecretKey {
    SecretKey::from_bytes([byte; 32])
}

fn clip(value: f64) -> ClipNorm {
    ClipNorm::new(value).unwrap()
}

/// `n` draws of noise on a sum of zeros, in standard deviations.
fn draws(secure: bool, n: usize, key: &SecretKey) -> Vec<f64> {
    let (c, sigma) = (1.5, 1.1);
    let mut values = vec![0.0; n];
    if secure {
        SecureNoise::new(clip(c), sigma, n).add(&mut values, key);
    } else {
        FastNoise::new(clip(c), sigma).add(&mut values, key);
    }
    // In multiples of what was announced, not of what the mechanism says of itself.
    values.iter().map(|value| f64::from(*value) / (sigma * c)).collect()
}

fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x / std::f64::consts::SQRT_2)
}

#[test]
fn noise_is_gaussian_in_both_modes() {
    for secure in [false, true] {
        let mut z = draws(secure, 1 << 20, &key(1));
        let n = z.len() as f64;
        let moment = |power: i32| z.iter().map(|z| z.powi(power)).sum::<f64>() / n;
        assert!(moment(1).abs() < LIMIT / n.sqrt(), "mean {}", moment(1));
        assert!((moment(2) - 1.0).abs() < LIMIT * (2.0 / n).sqrt(), "variance {}", moment(2));
        assert!((moment(3)).abs() < LIMIT * (15.0 / n).sqrt(), "third moment {}", moment(3));
        assert!((moment(4) - 3.0).abs() < LIMIT * (96.0 / n).sqrt(), "fourth moment {}", moment(4));
        // Kolmogorov and Smirnov; the limit is exceeded with probability 2 exp(-2 * 2.7^2) < 1e-6.
        z.sort_by(f64::total_cmp);
        let furthest = z.iter().enumerate().map(|(i, z)| (normal_cdf(*z) - (i as f64 + 0.5) / n).abs());
        let distance = furthest.fold(0.0, f64::max) * n.sqrt();
        assert!(distance < 2.7, "secure {secure}: Kolmogorov distance {distance}");
    }
}

#[test]
fn sites_steps_and_chunks_are_independent() {
    let site = key(2);
    let step = |round, step| site.subkey("step", &[round, step]);
    for secure in [false, true] {
        let n = 2 * CHUNK;
        let base = draws(secure, n, &step(1, 0));
        let others = [
            ("step", draws(secure, n, &step(1, 1))),
            ("round", draws(secure, n, &step(2, 0))),
            ("site", draws(secure, n, &key(3).subkey("step", &[1, 0]))),
            ("chunk", base[CHUNK..].iter().chain(&base[..CHUNK]).copied().collect()),
            ("neighbour", base[1..].iter().chain(&base[..1]).copied().collect()),
        ];
        for (what, other) in others {
            let products = base.iter().zip(&other).map(|(a, b)| a * b);
            let correlation = products.sum::<f64>() / (n as f64).sqrt();
            // Pairs of chunks and of squares meet twice, which doubles the variance.
            assert!(correlation.abs() < LIMIT * 2f64.sqrt(), "{what}: {correlation}");
            let squares = base.iter().zip(&other).map(|(a, b)| (a * a - 1.0) * (b * b - 1.0));
            let correlation = squares.sum::<f64>() / (n as f64).sqrt() / 2.0;
            assert!(correlation.abs() < LIMIT * 2f64.sqrt(), "{what}, squares: {correlation}");
        }
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let noised = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| [draws(false, 3 * CHUNK + 5, &key(4)), draws(true, 3 * CHUNK + 5, &key(4))])
    };
    let one = noised(1);
    assert_eq!(one, noised(2));
    assert_eq!(one, noised(7));
    assert_ne!(one[0], draws(false, 3 * CHUNK + 5, &key(5)));
}

#[test]
fn results_lie_on_the_grid_and_keep_the_sum() {
    let sum: Vec<f32> = (0..1000).map(|i| (i as f32 - 500.0) / 7.0).collect();
    for (c, sigma) in [(1.5, 1.1), (1e-9, 1e-3), (1e9, 1e6), (0.3, 40.0)] {
        let fast = FastNoise::new(clip(c), sigma);
        let secure = SecureNoise::new(clip(c), sigma, sum.len());
        let (mut a, mut b): (Vec<f32>, Vec<f32>) = sum.iter().map(|x| (x * c as f32, x * c as f32)).unzip();
        let scaled = a.clone();
        fast.add(&mut a, &key(6));
        secure.add(&mut b, &key(6));
        for (values, grid, deviation) in
            [(&a, fast.grid, fast.deviation), (&b, secure.grid, secure.deviation())]
        {
            assert!(grid.log2().fract() == 0.0 && grid > 0.0);
            assert!((deviation / (c * sigma) - 1.0).abs() < 1e-4, "{c} {sigma}: {deviation}");
            for (value, before) in values.iter().zip(&scaled) {
                let steps = f64::from(*value) / grid;
                assert!(steps.abs() >= f64::from(1 << 24) || steps.fract() == 0.0, "{c} {sigma}: {value}");
                let rounding = f64::from(value.abs()) * f64::from(f32::EPSILON);
                assert!((f64::from(*value) - f64::from(*before)).abs() < 6.0 * deviation + grid + rounding);
            }
        }
    }
}

#[test]
fn an_estimate_is_the_sum_over_the_public_divisor() {
    let divisor = ExpectedBatchSize::new(4.0).unwrap();
    let sum = NoisedSum::without_noise(vec![2.0, -8.0], divisor);
    assert!(!sum.is_private());
    assert_eq!(sum.estimate(), [0.5, -2.0]);
}

proptest! {
    /// The noise covers what rounding can do to two neighbouring sums.
    #[test]
    fn rounding_stays_within_the_accounted_sensitivity(
        sum in prop::collection::vec(-40f32..40.0, 1..200),
        unit in prop::collection::vec(-1f32..1.0, 200),
        (c, sigma) in (1e-3f64..10.0, 0.01f64..20.0),
    ) {
        let noise = SecureNoise::new(clip(c), sigma, sum.len());
        let unit: Vec<f64> = unit[..sum.len()].iter().map(|u| f64::from(*u)).collect();
        let norm = unit.iter().map(|u| u * u).sum::<f64>().sqrt().max(1e-9);
        let distance: f64 = sum.iter().zip(&unit).map(|(x, u)| {
            let neighbour = (f64::from(*x) + u / norm * c) as f32;
            // What f32 does to the neighbour is the sum's business, not the rounding's.
            let moved = f64::from(neighbour) - f64::from(*x);
            let rounded = noise.quantise(neighbour) - noise.quantise(*x);
            ((rounded as f64 - moved / noise.grid).abs(), rounded as f64)
        }).inspect(|(error, _)| assert!(*error <= 1.0)).map(|(_, rounded)| rounded * rounded).sum();
        let float = sum.len() as f64 * 40.0 * f64::from(f32::EPSILON) / noise.grid;
        let accounted = c / noise.grid + (sum.len() as f64).sqrt();
        prop_assert!(distance.sqrt() <= accounted + float);
        prop_assert!(noise.sampler.deviation() >= sigma * accounted);
    }
}
