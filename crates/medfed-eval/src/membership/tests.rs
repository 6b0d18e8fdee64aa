use super::*;
use proptest::prelude::*;

fn scores(members: &[f64], others: &[f64]) -> MembershipScores {
    let member = (0..members.len() + others.len()).map(|i| i < members.len()).collect();
    MembershipScores::new([members, others].concat(), member).unwrap()
}

#[derive(Deserialize)]
struct Case {
    members: Vec<f64>,
    others: Vec<f64>,
    auc: f64,
    low: Vec<Low>,
}

/// False positive rate allowed, hits, false positives (by sklearn's curve), scipy's exact intervals of both.
type Low = (f64, u64, u64, [f64; 2], [f64; 2]);

#[test]
fn agrees_with_scikit_learn_and_scipy() {
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("../../../../testdata/membership.json")).unwrap();
    assert_eq!(cases.len(), 4);
    for case in cases {
        let found = scores(&case.members, &case.others).result();
        assert!((found.auc.estimate - case.auc).abs() < 1e-12);
        let (m, n) = (case.members.len() as f64, case.others.len() as f64);
        for (rate, hit, wrong, of_hit, of_wrong) in case.low {
            let point = found.low_false_positives.iter().find(|point| point.target == rate).unwrap();
            let rates = point.measured.unwrap();
            for (interval, count, total, [lower, upper]) in
                [(rates.true_positive_rate, hit, m, of_hit), (rates.false_positive_rate, wrong, n, of_wrong)]
            {
                assert_eq!((interval.estimate * total).round() as u64, count);
                assert!((interval.lower - lower).abs() < 1e-9 && (interval.upper - upper).abs() < 1e-9);
            }
        }
    }
}

#[test]
fn rare_false_positives_need_enough_non_members() {
    let ramp = |n: u32| -> Vec<f64> { (0..n).map(f64::from).collect() };
    let measured = |others: u32| {
        let points = scores(&ramp(10), &ramp(others)).result().low_false_positives;
        points.iter().map(|point| point.measured.is_some()).collect::<Vec<_>>()
    };
    assert_eq!(measured(99), [false, false]);
    assert_eq!(measured(100), [true, false]);
    assert_eq!(measured(1000), [true, true]);
}

#[test]
fn an_attack_that_is_sure_of_a_few_is_seen_at_a_harmless_auc() {
    let mut members: Vec<f64> = (0..1000).map(|i| f64::from(i % 500)).collect();
    members[..80].fill(1e6);
    members[80..160].fill(-1e6);
    let others: Vec<f64> = (0..1000).map(|i| f64::from(i % 500)).collect();
    let found = scores(&members, &others).result();
    assert!(found.auc.estimate < 0.6 && found.grade == PrivacyGrade::B && found.vulnerable, "{found:?}");
    assert_eq!(found.low_false_positives[0].measured.unwrap().true_positive_rate.estimate, 0.09);
}

#[test]
fn guessing_is_not_rewarded_and_separation_is_found() {
    let even: Vec<f64> = (0..200).map(f64::from).collect();
    let found = scores(&even, &even).result();
    assert!((found.accuracy - 0.5).abs() < 0.03 && found.auc.estimate == 0.5 && !found.vulnerable);
    assert_eq!(found.grade.to_string(), "A (Excellent)");
    let apart = scores(&[3.0, 4.0, 5.0], &[0.0, 1.0, 2.0]).result();
    assert_eq!((apart.accuracy, apart.advantage, apart.auc.estimate), (1.0, 1.0, 1.0));
    assert!(apart.vulnerable && apart.grade == PrivacyGrade::F);
}

#[test]
fn unusable_scores_are_refused() {
    let new = |scores: &[f64], member: &[bool]| MembershipScores::new(scores.to_vec(), member.to_vec());
    assert!(matches!(new(&[0.0], &[true, false]), Err(EvalError::Lengths { .. })));
    assert!(matches!(
        new(&[0.0, f64::NAN, 0.0, 0.0], &[true, true, false, false]),
        Err(EvalError::Audit { .. })
    ));
    assert!(matches!(new(&[0.0; 3], &[true, true, false]), Err(EvalError::Audit { .. })));
    assert!(scores(&[0.0; 4], &[0.0; 4]).of_group(|image| image < 5).is_none());
    assert_eq!(scores(&[0.0; 4], &[0.0; 4]).of_group(|image| image < 6).unwrap().members(), 4);
}

#[test]
fn grades_have_the_documented_bounds() {
    use PrivacyGrade::{A, B, C, D, F};
    let found = [0.0, 0.5499, 0.55, 0.5999, 0.6, 0.6999, 0.7, 0.7999, 0.8, 1.0].map(PrivacyGrade::of);
    assert_eq!(found, [A, A, B, B, C, C, D, D, F, F]);
}

#[test]
fn the_ceiling_is_that_of_the_guarantee() {
    let ceiling =
        |epsilon: f64, delta: f64| DpCeiling::new(Epsilon::new(epsilon).unwrap(), Delta::new(delta).unwrap());
    let found = ceiling(1.0, 1e-5);
    assert!((found.true_positive_rate(0.01) - (1f64.exp() * 0.01 + 1e-5)).abs() < 1e-15);
    assert!((found.true_positive_rate(0.9) - (1.0 - (-1f64).exp() * (0.1 - 1e-5))).abs() < 1e-15);
    // Without loss only the diagonal is left, and with a large one everything.
    assert!((ceiling(0.0, 1e-300).auc() - 0.5).abs() < 1e-12);
    assert!(ceiling(30.0, 1e-5).auc() > 0.999_999);
    assert_eq!(ceiling(f64::INFINITY, 0.1).true_positive_rate(0.0), 1.0);
    for (epsilon, delta) in [(0.3, 1e-3), (2.0, 0.1), (8.0, 1e-5)] {
        let ceiling = ceiling(epsilon, delta);
        let steps = 200_000;
        let area: f64 =
            (0..steps).map(|i| ceiling.true_positive_rate((f64::from(i) + 0.5) / f64::from(steps))).sum();
        assert!((ceiling.auc() - area / f64::from(steps)).abs() < 1e-6, "{epsilon} {delta}");
    }
}

proptest! {
    #[test]
    fn curves_rise_from_one_corner_to_the_other(
        members in prop::collection::vec(-20i8..20, 2..300), others in prop::collection::vec(-20i8..20, 2..300),
    ) {
        let as_scores = |values: &[i8]| values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        let found = scores(&as_scores(&members), &as_scores(&others)).result();
        prop_assert!(found.roc.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][1] <= pair[1][1]));
        prop_assert!(found.roc[0] == [0.0, 0.0] && found.roc.last() == Some(&[1.0, 1.0]));
        prop_assert!((0.0..=1.0).contains(&found.accuracy));
        prop_assert!((found.advantage - (2.0 * found.accuracy - 1.0)).abs() < 1e-12);
        // The area under the corners, where none were left out, is the AUC.
        let area: f64 = found.roc.windows(2).map(|p| (p[1][0] - p[0][0]) * f64::midpoint(p[0][1], p[1][1])).sum();
        if others.len() <= 100 {
            prop_assert!((area - found.auc.estimate).abs() < 1e-9, "{} {}", area, found.auc.estimate);
        }
    }
}
