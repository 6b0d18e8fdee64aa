use std::collections::{BTreeSet, HashMap, HashSet};

use medfed_types::ImageShape;
use proptest::prelude::*;

use super::*;
use crate::{Attribute, DatasetParts, Origin, Scan, Split};

/// Label, patient, site, split.
type About = (u32, Option<u32>, Option<&'static str>, Option<Split>);

/// Images of one pixel.
fn dataset(classes: usize, about: &[About]) -> Dataset {
    let scans: Vec<Scan> = about
        .iter()
        .zip(0..)
        .map(|((label, patient, site, split), at)| Scan {
            patient: patient.map(|patient| format!("p{patient}").into()),
            site: site.map(Into::into),
            split: *split,
            ..Scan::new(*label, Origin::Drawn(at))
        })
        .collect();
    let scanner = Attribute {
        name: "scanner".to_owned(),
        values: scans.iter().map(|scan| scan.site.clone()).collect(),
    };
    Dataset::new(DatasetParts {
        name: "test".to_owned(),
        shape: ImageShape { channels: 1, height: 1, width: 1 },
        classes: (0..classes).map(|class| class.to_string()).collect(),
        pixels: vec![0; scans.len()],
        scans,
        attributes: vec![scanner],
        warnings: Vec::new(),
    })
    .unwrap()
}

fn plan(sites: usize, kind: SplitKind) -> SitePlan {
    let request = |at| SiteRequest { id: SiteId::try_from(format!("h{at}")).unwrap(), samples: None };
    SitePlan {
        sites: (0..sites).map(request).collect(),
        kind,
        minimum: None,
        keep_patients_together: false,
        train_fraction: 0.8,
        test_fraction: 0.15,
    }
}

fn share(site: &SiteData) -> Vec<u32> {
    [site.train.clone(), site.validation.clone()].concat()
}

fn assert_partition(sites: &Sites, images: usize) {
    let lists = sites.sites.iter().flat_map(share).chain(sites.test.clone()).chain(sites.unused.clone());
    let mut all: Vec<u32> = lists.collect();
    all.sort_unstable();
    assert_eq!(all, (0..images as u32).collect::<Vec<_>>(), "every image once");
}

fn kinds() -> impl Strategy<Value = SplitKind> {
    prop_oneof![
        Just(SplitKind::Iid),
        prop_oneof![Just(0.01), Just(0.5), Just(100.0)].prop_map(|alpha| SplitKind::Dirichlet { alpha }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// No image is lost or doubled, every hospital has its minimum, patients stay together when asked
    /// and on one side of each cut always, and the seed decides.
    #[test]
    fn divisions_are_exact(
        kind in kinds(),
        count in 60usize..300,
        people in 1u32..400,
        classes in 2usize..5,
        hospitals in 1usize..6,
        together: bool,
        split: bool,
        seed in 0u64..1000,
    ) {
        let mut about: Vec<About> = (0..count)
            .map(|at| {
                let number = (at as u32).wrapping_mul(2_654_435_761) >> 8;
                let split = split.then(|| Split::ALL[(number % 8).saturating_sub(5) as usize]);
                let patient = (!number.is_multiple_of(7)).then_some(number % people);
                ((number / 64) % classes as u32, patient, None, split)
            })
            .collect();
        for (class, scan) in about.iter_mut().enumerate().take(classes) {
            *scan = (class as u32, None, None, split.then_some(Split::Train));
        }
        let dataset = dataset(classes, &about);
        let plan = SitePlan { keep_patients_together: together, ..plan(hospitals, kind) };
        let sites = match split_sites(&dataset, &plan, Seed(seed)) {
            Ok(sites) => sites,
            Err(DataError::TooFewImages { .. }) if together => return Ok(()),
            Err(error) => panic!("{error}"),
        };
        assert_partition(&sites, count);
        prop_assert_eq!(&sites, &split_sites(&dataset, &plan, Seed(seed)).unwrap());

        let patients = |images: &[u32]| -> HashSet<u32> {
            images.iter().filter_map(|index| about[*index as usize].1).collect()
        };
        let pool: usize = sites.sites.iter().map(|site| site.train.len()).sum();
        for site in &sites.sites {
            let own = if split { site.train.len() } else { share(site).len() };
            prop_assert!(own >= 10.min(pool / (2 * hospitals)).max(1), "{} of {pool}", own);
            prop_assert!(patients(&site.train).is_disjoint(&patients(&site.validation)));
            if !split {
                prop_assert!(patients(&share(site)).is_disjoint(&patients(&sites.test)));
            }
        }
        if together {
            let mut home = HashMap::new();
            for (at, site) in sites.sites.iter().enumerate() {
                for patient in patients(&share(site)) {
                    prop_assert_eq!(*home.entry(patient).or_insert(at), at);
                }
            }
        }
    }

    /// Alike means alike: every hospital's count of every class is within one of its share.
    #[test]
    fn iid_shares_are_proportional(count in 60u32..400, hospitals in 1usize..7, seed in 0u64..100) {
        let about: Vec<_> = (0..count).map(|at| (u32::from(at % 3 == 0), None, None, None)).collect();
        let plan = SitePlan { test_fraction: 0.0, ..plan(hospitals, SplitKind::Iid) };
        let sites = split_sites(&dataset(2, &about), &plan, Seed(seed)).unwrap();
        for site in &sites.sites {
            for class in 0..2 {
                let of = |images: &[u32]| {
                    images.iter().filter(|index| about[**index as usize].0 == class).count() as f64
                };
                let all: Vec<u32> = (0..count).collect();
                let expected = of(&all) / hospitals as f64;
                prop_assert!((of(&share(site)) - expected).abs() < 2.0);
            }
        }
        prop_assert!(sites.test.is_empty());
    }
}

fn plain(count: u32) -> Dataset {
    dataset(2, &(0..count).map(|at| (at % 2, None, None, None)).collect::<Vec<_>>())
}

#[test]
fn held_out_parts_have_their_fractions() {
    let sites = split_sites(&plain(1000), &plan(4, SplitKind::Iid), Seed(1)).unwrap();
    assert_eq!(sites.test.len(), 150);
    for site in &sites.sites {
        let share = site.train.len() + site.validation.len();
        assert!((212..=213).contains(&share), "{share}");
        assert!((42..=43).contains(&site.validation.len()), "{}", site.validation.len());
    }
    let ones = sites.test.iter().filter(|index| *index % 2 == 1).count();
    assert_eq!(ones, 75);
    assert_eq!(sites.warnings, []);
}

#[test]
fn a_small_alpha_is_one_sided_and_seeds_differ() {
    let dataset = plain(2000);
    let skew = |alpha: f64, seed| {
        let sites = split_sites(&dataset, &plan(5, SplitKind::Dirichlet { alpha }), Seed(seed)).unwrap();
        let share = |site: &SiteData| {
            site.train.iter().filter(|index| *index % 2 == 1).count() as f64 / site.train.len() as f64
        };
        sites.sites.iter().map(|site| (share(site) - 0.5).abs()).sum::<f64>()
    };
    let mean = |alpha| (0..20).map(|seed| skew(alpha, seed)).sum::<f64>() / 20.0;
    assert!(mean(0.1) > 1.2, "{}", mean(0.1));
    assert!(mean(1000.0) < 0.2, "{}", mean(1000.0));
    assert_ne!(skew(0.5, 1), skew(0.5, 2));
}

#[test]
fn samples_cap_and_are_told() {
    let mut plan = plan(3, SplitKind::Iid);
    plan.sites[0].samples = Some(50);
    plan.sites[1].samples = Some(30);
    plan.sites[2].samples = Some(4);
    let sites = split_sites(&plain(200), &plan, Seed(1)).unwrap();
    assert_partition(&sites, 200);
    assert_eq!(sites.sites.iter().map(|site| share(site).len()).collect::<Vec<_>>(), [50, 30, 4]);
    let capped = DataWarning::Unused { images: 170 - 84, reason: crate::error::UnusedReason::Capped };
    assert!(sites.warnings.contains(&capped), "{:?}", sites.warnings);

    plan.sites[2].samples = None;
    let sites = split_sites(&plain(200), &plan, Seed(1)).unwrap();
    assert_eq!(sites.sites.iter().map(|site| share(site).len()).collect::<Vec<_>>(), [50, 30, 90]);

    plan.sites[0].samples = Some(500);
    let sites = split_sites(&plain(200), &plan, Seed(1)).unwrap();
    assert!(
        matches!(sites.warnings[0], DataWarning::FewerThanAsked { asked: 500, .. }),
        "{:?}",
        sites.warnings
    );
}

#[test]
fn an_own_validation_split_is_used_but_not_for_known_patients() {
    let mut about = Vec::new();
    for at in 0..200 {
        about.push((at % 2, Some(at / 2), None, Some(Split::Train)));
    }
    for at in 0..40 {
        // Patients 90 to 99 are trained on.
        about.push((at % 2, Some(90 + at / 2), None, Some(Split::Validation)));
    }
    about.extend((0..10).map(|at| (at % 2, Some(at), None, Some(Split::Test))));
    let sites = split_sites(&dataset(2, &about), &plan(2, SplitKind::Iid), Seed(1)).unwrap();
    assert_partition(&sites, 250);
    assert_eq!(sites.unused, (200..220).collect::<Vec<_>>());
    let validated: BTreeSet<u32> = sites.sites.iter().flat_map(|site| site.validation.clone()).collect();
    assert_eq!(validated, (220..240).collect());
    assert!(sites.sites.iter().all(|site| site.train.len() == 100 && site.validation.len() == 10));
    assert!(sites.warnings.contains(&DataWarning::ValidationPatientsElsewhere { images: 20, patients: 10 }));
    assert!(sites.warnings.contains(&DataWarning::TestPatientsInTraining { patients: 10 }));
}

#[test]
fn a_column_makes_its_values_hospitals() {
    let sites_of = |at: u32| match at % 10 {
        0 => None,
        9 if at == 9 => Some("Tiny"),
        1..=4 => Some("North"),
        _ => Some("South"),
    };
    let about: Vec<_> = (0..200).map(|at| ((at / 10) % 2, Some(at / 3), sites_of(at), None)).collect();
    let dataset = dataset(2, &about);
    let mut plan = plan(0, SplitKind::Column("scanner".to_owned()));
    let sites = split_sites(&dataset, &plan, Seed(1)).unwrap();
    assert_partition(&sites, 200);
    let names: Vec<&str> = sites.sites.iter().map(|site| site.id.as_str()).collect();
    assert_eq!(names, ["North", "South"]);
    for site in &sites.sites {
        assert!(share(site).iter().all(|index| sites_of(*index) == Some(site.id.as_str())));
    }
    assert!(sites.warnings.iter().any(|w| matches!(w, DataWarning::PatientsAtSeveralSites { .. })));

    plan.keep_patients_together = true;
    let sites = split_sites(&dataset, &plan, Seed(1)).unwrap();
    assert_partition(&sites, 200);
    assert!(!sites.warnings.iter().any(|w| matches!(w, DataWarning::PatientsAtSeveralSites { .. })));
    assert!(sites.warnings.iter().any(|w| matches!(w, DataWarning::PatientImagesElsewhere { .. })));

    plan.kind = SplitKind::Column("scaner".to_owned());
    let error = split_sites(&dataset, &plan, Seed(1)).unwrap_err().to_string();
    assert_eq!(error, "no column \"scaner\" to split by (nearest: \"scanner\"); there are site, scanner");

    plan.keep_patients_together = false;
    plan.kind = SplitKind::Column("site".to_owned());
    plan.sites = vec![SiteRequest { id: SiteId::try_from("East").unwrap(), samples: None }];
    let error = split_sites(&dataset, &plan, Seed(1)).unwrap_err().to_string();
    assert_eq!(error, "no image belongs to East in column \"site\"; its values are North, South, Tiny");
}

#[test]
fn impossible_plans_are_refused() {
    let dataset = plain(40);
    let refuse = |change: &dyn Fn(&mut SitePlan)| {
        let mut plan = plan(3, SplitKind::Iid);
        change(&mut plan);
        split_sites(&dataset, &plan, Seed(1)).unwrap_err()
    };
    for bad in [0.0, -1.0, 1.5, f64::NAN] {
        assert!(matches!(refuse(&|plan| plan.train_fraction = bad), DataError::Plan { .. }));
    }
    for bad in [1.0, -0.1, f64::NAN] {
        assert!(matches!(refuse(&|plan| plan.test_fraction = bad), DataError::Plan { .. }));
    }
    for alpha in [0.0, f64::INFINITY, f64::NAN] {
        assert!(matches!(refuse(&|plan| plan.kind = SplitKind::Dirichlet { alpha }), DataError::Plan { .. }));
    }
    assert!(matches!(refuse(&|plan| plan.sites.clear()), DataError::Plan { .. }));
    assert!(matches!(refuse(&|plan| plan.sites[1].id = plan.sites[0].id.clone()), DataError::Plan { .. }));
    assert!(matches!(refuse(&|plan| plan.sites[1].samples = Some(0)), DataError::Plan { .. }));
    let error = refuse(&|plan| plan.minimum = Some(12));
    assert_eq!(error.to_string(), "34 training images cannot give 3 hospitals at least 12 each");
}
