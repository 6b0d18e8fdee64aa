//! The published data sets, where they are at hand.

#![expect(clippy::print_stdout, reason = "a skipped test says so")]

use std::path::PathBuf;

use medfed_data::inspect::Summary;
use medfed_data::{DataWarning, Dataset, LoadOptions, SitePlan, SiteRequest, Split, SplitKind, split_sites};
use medfed_types::{ImageShape, ImageSource, Seed, SiteId};
use serde::Deserialize;

/// The path below the shared data folder, unless this machine has none.
fn shared(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")).join(name);
    if !path.exists() {
        println!("skipped: {} is not here", path.display());
        return None;
    }
    Some(path)
}

#[test]
fn pneumonia_mnist_has_its_published_counts() {
    let Some(path) = shared("medmnist/pneumoniamnist.npz") else { return };
    let dataset = Dataset::load(&path, &LoadOptions::default()).unwrap();
    assert_eq!(dataset.shape(), ImageShape { channels: 1, height: 28, width: 28 });
    assert_eq!(dataset.classes(), ["normal", "pneumonia"]);
    let summary = Summary::of(&dataset);
    let counts: Vec<(usize, &[usize])> =
        summary.splits.iter().map(|split| (split.images, &split.images_per_class[..])).collect();
    assert_eq!(counts, [(4708, &[1214, 3494][..]), (524, &[135, 389]), (624, &[234, 390])]);
    let (first, second) = (Split::Train, Split::Validation);
    let crossing = DataWarning::PatientsCrossSplits { first, second, patients: 289, of: 468 };
    assert!(summary.warnings.contains(&crossing), "{:?}", summary.warnings);
    assert_eq!(summary.patients.unwrap().images_without, 67);

    let site = |at| SiteRequest { id: SiteId::try_from(format!("hospital_{at}")).unwrap(), samples: None };
    let plan = SitePlan {
        sites: (1..=3).map(site).collect(),
        kind: SplitKind::Dirichlet { alpha: 0.5 },
        minimum: None,
        keep_patients_together: true,
        train_fraction: 0.8,
        test_fraction: 0.15,
    };
    let sites = split_sites(&dataset, &plan, Seed(42)).unwrap();
    assert_eq!(sites.test.len(), 624);
    assert_eq!(sites.sites.iter().map(|site| site.train.len()).sum::<usize>(), 4708);
    let patients = |images: &[u32]| -> std::collections::HashSet<&str> {
        images.iter().filter_map(|index| dataset.scans()[*index as usize].patient.as_deref()).collect()
    };
    let trained: Vec<u32> = sites.sites.iter().flat_map(|site| site.train.clone()).collect();
    let validated: Vec<u32> = sites.sites.iter().flat_map(|site| site.validation.clone()).collect();
    assert!(patients(&trained).is_disjoint(&patients(&validated)));
    assert_eq!(validated.len() + sites.unused.len(), 524);
    assert!(validated.len() > 150, "{}", validated.len());
}

#[test]
fn the_nih_subset_has_its_patients_and_scanners() {
    let Some(path) = shared("cxr-nih") else { return };
    let dataset =
        Dataset::load(&path, &LoadOptions { image_size: Some(32), ..LoadOptions::default() }).unwrap();
    assert_eq!(dataset.name(), "cxr-nih");
    assert_eq!(dataset.shape(), ImageShape { channels: 1, height: 32, width: 32 });
    assert_eq!(dataset.classes(), ["No_findings", "Pneumonia"]);
    let summary = Summary::of(&dataset);
    assert_eq!(summary.images_per_class, [500, 500]);
    assert_eq!(summary.patients.as_ref().unwrap().known, 682);
    assert!(summary.sexes.iter().map(|part| part.images).sum::<usize>() == 1000);
    let plan = SitePlan {
        sites: Vec::new(),
        kind: SplitKind::Column("pixel_spacing_x".to_owned()),
        minimum: None,
        keep_patients_together: false,
        train_fraction: 0.8,
        test_fraction: 0.15,
    };
    let sites = split_sites(&dataset, &plan, Seed(1)).unwrap();
    assert!(sites.sites.len() >= 3);
    assert!(sites.sites.iter().any(|site| site.id.as_str() == "0.168"));
    assert!(dataset.len() == 1000);
}

#[derive(Deserialize)]
struct Vector {
    file: String,
    channels: usize,
    size: usize,
    pixels: Vec<u8>,
}

/// Decoding and stretching agree with Pillow's: JPEG decoders may differ by 1, and so may
/// bicubic rounding.
#[test]
fn pixels_agree_with_pillow() {
    let Some(root) = shared("cxr-nih") else { return };
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/data_pixels.json"))
            .unwrap();
    let vectors: Vec<Vector> = serde_json::from_str(&text).unwrap();
    assert!(vectors.len() >= 4);
    for Vector { file, channels, size, pixels } in vectors {
        let shape = ImageShape { channels, height: size, width: size };
        let ours = medfed_data::decode_image(&root.join(&file), shape).unwrap();
        assert_eq!(ours.len(), pixels.len());
        let worst = ours.iter().zip(&pixels).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(worst <= 2, "{file}: {worst}");
    }
}
