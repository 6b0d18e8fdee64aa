//! The opened sum is exact whoever drops out, and whenever.

use medfed_types::SecretKey;
use proptest::prelude::*;
use rand::Rng;

use super::federation::*;
use crate::context::*;
use crate::*;

/// Updates within ±1.
fn vectors(sites: usize, parameters: usize, key: [u8; 32]) -> Vec<Vec<f32>> {
    let mut rng = SecretKey::from_bytes(key).generator("vectors", &[]);
    let mut value = || (f64::from(rng.next_u32()) / 2f64.powi(31) - 1.0) as f32;
    (0..sites).map(|_| (0..parameters).map(|_| value()).collect()).collect()
}

/// The integers that the survivors contributed, added without any modulus.
fn integer_sum(context: &SessionContext, inputs: &[Input<'_>], survivors: Members) -> Vec<i64> {
    let mut sum = vec![0; context.input_words()];
    for site in survivors.iter() {
        let words = inputs[site.get()].quantise(context).unwrap();
        sum.iter_mut().zip(words).for_each(|(sum, word)| *sum += i64::from(word.cast_signed()));
    }
    sum
}

/// `count` of the sites, from `start` on in steps that meet every site.
fn some(sites: usize, count: usize, start: usize) -> Vec<usize> {
    (0..count.min(sites)).map(|i| (start + i) % sites).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_pattern_opens_the_exact_sum_or_nothing(
        sites in 3usize..=12,
        counts in proptest::array::uniform5(0usize..3),
        start in 0usize..12,
        weighted: bool,
        key in any::<[u8; 32]>(),
    ) {
        let parameters = 37;
        let values = vectors(sites, parameters, key);
        let samples: Vec<u32> = (0..sites as u32).map(|i| 10 + 7 * i).collect();
        let total = samples.iter().sum();
        let weighting = if weighted { Weighting::Samples { total } } else { Weighting::Equal };
        let range = ClipRange::new(1.0).unwrap();
        let federation = Federation::new(sites, Contribution::Update { parameters, range, weighting });
        let inputs: Vec<Input<'_>> = values.iter().zip(&samples).map(|(values, samples)| {
            if weighted { Input::Weighted { values, samples: *samples } } else { Input::Update(values) }
        }).collect();
        let mut from = start;
        let mut next = |count: usize| {
            let gone = some(sites, count, from);
            from += count;
            gone
        };
        let drops = Drops {
            keys: next(counts[0]),
            dealing: next(counts[1]),
            input: next(counts[2]),
            consent: next(counts[3]),
            unmasking: next(counts[4]),
        };
        let threshold = federation.context.terms().threshold;
        let gone: usize = counts.iter().sum();
        let result = federation.run(&drops, |i| inputs[i]);
        let survivors = sites.saturating_sub(counts[0] + counts[1] + counts[2]);
        if sites.saturating_sub(gone) < threshold || survivors < 3 {
            prop_assert!(matches!(result, Err(SecaggError::TooFew { .. })), "{:?}", result);
            return Ok(());
        }
        let opened = result.unwrap();
        prop_assert_eq!(opened.survivors().len(), survivors);
        let exact = integer_sum(&federation.context, &inputs, opened.survivors());
        let found: Vec<i64> = opened.integers().iter().map(|it| i64::from(*it)).collect();
        prop_assert_eq!(&found[..], &exact[..parameters]);

        // And the mean is that of the reals.
        let weight = |i: usize| if weighted { f64::from(samples[i]) } else { 1.0 };
        let all: f64 = opened.survivors().iter().map(|site| weight(site.get())).sum();
        if weighted {
            prop_assert_eq!(f64::from(opened.samples().unwrap()), all);
        }
        for (at, mean) in opened.mean().into_iter().enumerate() {
            let real: f64 = opened.survivors().iter()
                .map(|site| weight(site.get()) * f64::from(values[site.get()][at])).sum::<f64>() / all;
            prop_assert!((mean - real).abs() <= opened.error_bound(), "{} {}", mean, real);
        }
    }
}

#[test]
fn everyone_present_is_within_1e_minus_8() {
    for sites in [3, 10] {
        let values = vectors(sites, 1000, [9; 32]);
        let federation = Federation::new(sites, updates(1000));
        let opened = federation.run(&Drops::default(), |i| Input::Update(&values[i])).unwrap();
        assert!(opened.error_bound() <= 1e-8);
        for (at, mean) in opened.mean().into_iter().enumerate() {
            let real = values.iter().map(|it| f64::from(it[at])).sum::<f64>() / sites as f64;
            assert!((mean - real).abs() <= 1e-8, "{mean} {real}");
        }
    }
}

#[test]
fn a_hundred_sites() {
    let values = vectors(100, 50, [1; 32]);
    let federation = Federation::new(100, updates(50));
    let inputs: Vec<Input<'_>> = values.iter().map(|it| Input::Update(it)).collect();
    let drops = Drops {
        keys: vec![0, 99],
        dealing: vec![50],
        input: (10..20).collect(),
        consent: (30..40).collect(),
        unmasking: (60..65).collect(),
    };
    let opened = federation.run(&drops, |i| inputs[i]).unwrap();
    assert_eq!(opened.survivors().len(), 87);
    let exact = integer_sum(&federation.context, &inputs, opened.survivors());
    assert!(opened.integers().iter().map(|it| i64::from(*it)).eq(exact));
}

#[test]
fn two_sites_with_noise_of_their_own() {
    let mut terms = terms(2, updates(5));
    terms.noise = SiteNoise::None;
    let federation = Federation::new(2, updates(5));
    assert_eq!(federation.context.warnings(), [Warning::TwoSurvivors]);
    let refused = SessionContext::new(terms, &federation.roster).unwrap_err();
    assert!(matches!(refused, SecaggError::MinClients { lowest: 3, found: 2, .. }));
    let opened = federation.run(&Drops::default(), |_| Input::Update(&[0.5; 5])).unwrap();
    assert!(opened.mean().iter().all(|mean| (mean - 0.5).abs() < 1e-8));
    let gone = Drops { input: vec![1], ..Drops::default() };
    let refused = federation.run(&gone, |_| Input::Update(&[0.5; 5])).unwrap_err();
    assert!(matches!(refused, SecaggError::TooFew { found: 1, .. }));
}

#[test]
fn counts_are_summed_and_not_told() {
    let federation = Federation::new(4, Contribution::Counts);
    let counts = [120, 7, 3000, 1];
    let opened = federation.run(&Drops::default(), |i| Input::Count(counts[i])).unwrap();
    assert_eq!(opened.samples(), Some(3128));
    assert!(opened.integers().is_empty() && opened.mean().is_empty());
    let too_many = federation.run(&Drops::default(), |_| Input::Count(u32::MAX / 4 + 1)).unwrap_err();
    assert!(matches!(too_many, SecaggError::Count { .. }));
    let none = federation.run(&Drops::default(), |_| Input::Count(0)).unwrap_err();
    assert!(matches!(none, SecaggError::Count { found: 0, .. }));
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads() {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let values = vectors(4, 70_000, [2; 32]);
        let federation = Federation::new(4, updates(70_000));
        pool.install(|| {
            federation.run(&Drops::default(), |i| Input::Update(&values[i])).unwrap().integers().to_vec()
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn terms_that_do_not_protect_are_refused() {
    let roster = Federation::new(6, updates(5)).roster;
    let check = |change: &dyn Fn(&mut SessionTerms)| {
        let mut terms = terms(6, updates(5));
        change(&mut terms);
        SessionContext::new(terms, &roster).map(|_| ()).unwrap_err()
    };
    assert_eq!(check(&|it| it.threshold = 4), SecaggError::Threshold { sites: 6, lowest: 5, found: 4 });
    assert!(matches!(check(&|it| it.threshold = 7), SecaggError::Threshold { .. }));
    assert!(matches!(check(&|it| it.min_clients = 1), SecaggError::MinClients { .. }));
    assert!(matches!(check(&|it| it.min_clients = 7), SecaggError::MinClients { .. }));
    assert!(matches!(check(&|it| it.cohort.truncate(1)), SecaggError::CohortSize { found: 1, .. }));
    assert!(matches!(check(&|it| it.cohort.push(name(8))), SecaggError::NotEnrolled { .. }));
    assert!(matches!(check(&|it| it.cohort[0] = name(1)), SecaggError::Twice { .. }));
    assert!(matches!(check(&|it| it.contribution = updates(0)), SecaggError::Terms { .. }));
    assert!(matches!(check(&|it| it.contribution = updates(1 << 40)), SecaggError::Terms { .. }));

    // Three sites may choose, and are told what the lower threshold means.
    let three = |threshold| {
        let mut terms = terms(3, updates(5));
        terms.threshold = threshold;
        SessionContext::new(terms, &roster).map(|it| it.warnings())
    };
    assert_eq!(three(3).unwrap(), []);
    assert_eq!(three(2).unwrap(), [Warning::LowThreshold]);
    assert!(three(1).is_err());
}
