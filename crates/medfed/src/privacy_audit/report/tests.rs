use super::*;

fn report(aucs: &[(Attack, f64)], claim: Option<Claim>) -> Report {
    let entry = |auc: f64| {
        let mut result =
            MembershipScores::new(vec![0.0; 4], vec![true, true, false, false]).unwrap().result();
        result.auc = Interval { estimate: auc, lower: auc - 0.01, upper: auc + 0.01 };
        result.accuracy = auc + 0.0034;
        result.grade = PrivacyGrade::of(auc);
        result.vulnerable = auc >= 0.6;
        AttackEntry { result, classes: Vec::new(), hospitals: Vec::new() }
    };
    let targets = Targets {
        images: vec![0, 1, 2, 3],
        member: vec![true, true, false, false],
        counted: vec![true; 4],
        sites: vec![None; 4],
        others_from: "the validation images".to_owned(),
        warnings: Vec::new(),
    };
    let baseline = Baseline { auc_roc: 0.5, auc_interval: [0.4, 0.6], above_guessing: false };
    let attacks = aucs.iter().map(|(attack, auc)| (*attack, entry(*auc))).collect();
    Report::new(&targets, baseline, attacks, None).about(None, claim)
}

fn claim() -> Claim {
    Claim { epsilon: 8.0, delta: 1e-5, unit: "image".to_owned(), reproducible_noise: false }
}

#[test]
fn the_console_report_is_the_documented_one() {
    let text = report(&[(Attack::Threshold, 0.5089), (Attack::LossBased, 0.52)], Some(claim())).text();
    let expected = "\
======================================================================
PRIVACY AUDIT REPORT - Membership Inference Attack Results
======================================================================

--- THRESHOLD Attack ---
  Accuracy:           0.5123
  AUC-ROC:            0.5089
  Privacy Grade:      A (Excellent)
  Is Vulnerable:      No

--- LOSS_BASED Attack ---
  Accuracy:           0.5234
  AUC-ROC:            0.5200
  Privacy Grade:      A (Excellent)
  Is Vulnerable:      No

INTERPRETATION: AUC ≈ 0.5 means attacker is no better than random guessing
               The differential privacy is working effectively!
======================================================================
";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn privacy_is_praised_only_where_there_is_some_and_it_works() {
    let second = |auc, claim| report(&[(Attack::LossBased, auc)], claim).interpreted()[1].clone();
    assert!(second(0.51, Some(claim())).contains("working effectively"));
    assert!(!second(0.57, Some(claim())).contains("working effectively"));
    assert!(second(0.51, None).contains("without differential privacy"));
    assert!(second(0.9, None).contains("gives patients away"));
    assert!(second(0.9, Some(claim())).contains("gives patients away"));
}

#[test]
fn json_has_the_names_of_the_attacks_in_their_order() {
    let report = report(&[(Attack::Threshold, 0.5), (Attack::Lira, 0.7)], None);
    let json: serde_json::Value = serde_json::from_str(&report.to_json().unwrap()).unwrap();
    assert_eq!(json["attacks"]["lira"]["auc_roc"], 0.7);
    assert_eq!(json["attacks"]["lira"]["privacy_grade"], "D (Poor)");
    assert_eq!(json["attacks"]["threshold"]["is_vulnerable"], false);
    assert!(json["is_vulnerable"].as_bool().unwrap() && json["claim"].is_null());
    assert!(json["attacks"]["lira"]["low_false_positives"][1]["measured"].is_null());
}

#[test]
fn a_bound_above_the_claim_fails() {
    use medfed_eval::one_run::ScoredCanary;
    let canaries: Vec<ScoredCanary> = (0..200)
        .map(|index| ScoredCanary { score: f64::from(index % 2), included: index % 2 == 1 })
        .collect();
    let audit = OneRunAudit::of(&canaries, 1e-5).unwrap();
    let measured = |claim: Option<&Claim>| MeasuredPrivacy::new(audit.clone(), CanaryKind::Pattern, claim);
    let small = Claim { epsilon: 1.0, ..claim() };
    assert!(measured(Some(&small)).verdict().is_err());
    assert!(measured(Some(&small)).lines().concat().contains("does not hold"));
    assert!(measured(Some(&claim())).verdict().is_ok());
    assert!(measured(None).verdict().is_ok());
}
