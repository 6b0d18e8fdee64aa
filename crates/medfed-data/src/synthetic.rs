//! Synthetic chest radiographs: a data set to try everything on without anyone's images.
//!
//! What enters: [`SyntheticOptions`] and a [`Seed`]. What leaves: a [`Dataset`] of grey frontal
//! radiographs with site, patient, sex and age, drawn as the beam would see them: attenuation is summed
//! over trunk, lungs, heart, vessels and bones, then developed like film.
//!
//! Some patients have two or three images: the same anatomy and diagnosis in another pose and exposure.
//! Every image is drawn from a stream of its own, so the bits depend on the seed and the options alone,
//! not on the number of threads.
//!
//! **How hard it is.** Each finding has a severity, normal with standard deviation 1 around
//! ±2 (1 − `class_overlap`): + in patients who have it, − in the others. The AUROC of an ideal reader of
//! one finding is therefore Φ(2√2 (1 − `class_overlap`)): 0.998 at overlap 0, 0.98 at 0.3, 0.5 at 1.
//!
//! The pictures are for software, not for medicine: nothing learned from them is of use to a patient.

mod anatomy;
mod canvas;
mod film;
mod finding;
mod options;
mod skeleton;
mod thorax;
mod vessels;

use crate::{DataError, Dataset, DatasetParts, Origin, Scan, Sex};
use anatomy::{Anatomy, normal};
use canvas::{Layer, View, shrink};
use film::Exposure;
use finding::{Consolidation, Severity};
use medfed_types::{ImageShape, Seed, SimulationRng};
pub use options::{Ages, Demographics, DomainShift, Finding, SyntheticOptions, SyntheticSite};
use rand::RngExt;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use std::sync::Arc;

/// The class of a patient with that finding, or of a healthy one.
fn label(diagnosis: Option<Finding>, classes: usize) -> u32 {
    match diagnosis {
        None => 0,
        Some(Finding::Cardiomegaly) if classes == 3 => 2,
        Some(Finding::Pneumonia | Finding::Cardiomegaly) => 1,
    }
}

/// One image to draw.
struct Order<'a> {
    site: &'a SyntheticSite,
    site_number: u64,
    /// Within the site.
    index: u64,
    patient: u64,
    patient_name: Arc<str>,
    diagnosis: Option<Finding>,
}

/// Draws the data set. The images lie hospital after hospital; none has a published split.
pub fn generate(options: &SyntheticOptions, seed: Seed) -> Result<Dataset, DataError> {
    options::check(options)?;
    let orders: Vec<Order<'_>> = (0u64..)
        .zip(&options.sites)
        .flat_map(|(number, site)| site_orders(site, number, options.classes, seed))
        .collect();
    let shape = ImageShape { channels: 1, height: options.image_size, width: options.image_size };
    let mut pixels = vec![0; orders.len() * shape.len()];
    let scans = pixels
        .par_chunks_mut(shape.len())
        .zip(&orders)
        .enumerate()
        .map(|(number, (pixels, order))| draw(order, options, seed, number as u32, pixels))
        .collect();
    let classes: &[&str] =
        if options.classes == 3 { &["normal", "pneumonia", "cardiomegaly"] } else { &["normal", "abnormal"] };
    Dataset::new(DatasetParts {
        name: "synthetic chest radiographs".to_owned(),
        shape,
        classes: classes.iter().map(|name| (*name).to_owned()).collect(),
        scans,
        pixels,
        attributes: Vec::new(),
        warnings: Vec::new(),
    })
}

/// Share of patients with a finding.
fn prevalence(bias: f64, classes: usize) -> f64 {
    let even = 1.0 - 1.0 / classes as f64;
    even + if bias > 0.0 { bias * (0.95 - even) } else { bias * (even - 0.05) }
}

/// Divides a hospital's images between patients and the patients between diagnoses.
fn site_orders(site: &SyntheticSite, site_number: u64, classes: usize, seed: Seed) -> Vec<Order<'_>> {
    let mut rng = seed.generator("synthetic site", &[site_number]);
    let mut images_of = Vec::new();
    let mut left = site.samples;
    while left > 0 {
        let images = match rng.random_range(0.0..1.0) {
            x if x < 0.80 => 1,
            x if x < 0.93 => 2,
            _ => 3usize,
        }
        .min(left);
        images_of.push(images);
        left -= images;
    }
    // Exact shares rather than chance: a small hospital must not end up without a class.
    let patients = images_of.len();
    let ill = ((prevalence(site.pathology_bias, classes) * patients as f64).round() as usize)
        .clamp(usize::from(patients > 1), (patients - 1).max(1));
    let leading = (0.8 * ill as f64).round() as usize;
    let pneumonia = match site.leading_finding {
        None => ill.div_ceil(2),
        Some(Finding::Pneumonia) => leading,
        Some(Finding::Cardiomegaly) => ill - leading,
    };
    let pneumonia = if ill > 1 { pneumonia.clamp(1, ill - 1) } else { pneumonia };
    let mut diagnoses = vec![None; patients];
    diagnoses[..ill].fill(Some(Finding::Cardiomegaly));
    diagnoses[..pneumonia].fill(Some(Finding::Pneumonia));
    diagnoses.shuffle(&mut rng);
    let mut orders = Vec::with_capacity(site.samples);
    for (patient, (images, diagnosis)) in images_of.into_iter().zip(diagnoses).enumerate() {
        let patient_name: Arc<str> = format!("{}-{:05}", site.id, patient + 1).into();
        for _ in 0..images {
            orders.push(Order {
                site,
                site_number,
                index: orders.len() as u64,
                patient: patient as u64,
                patient_name: Arc::clone(&patient_name),
                diagnosis,
            });
        }
    }
    orders
}

/// Draws one image into `pixels`; `number` counts over the whole set.
fn draw(order: &Order<'_>, options: &SyntheticOptions, seed: Seed, number: u32, pixels: &mut [u8]) -> Scan {
    let site = order.site;
    let mut patient_rng = seed.generator("synthetic patient", &[order.site_number, order.patient]);
    let people = &site.demographics;
    let female = patient_rng.random_bool(people.female_fraction);
    let age = age(people.ages, &mut patient_rng);
    let anatomy = Anatomy::draw(female, age, &mut patient_rng);

    let mut rng = seed.generator("synthetic", &[order.site_number, order.index]);
    let separation = 4.0 * (1.0 - options.class_overlap as f32);
    let severity = Severity::draw(order.diagnosis, separation, &mut rng);
    let film = radiograph(&anatomy, severity, site, options, &mut rng);
    pixels.copy_from_slice(&film);

    // A stream of its own: the same pictures whatever the label noise.
    let mut noise = seed.generator("synthetic label noise", &[order.site_number, order.index]);
    let classes = options.classes as u32;
    let truth = label(order.diagnosis, options.classes);
    let wrong = noise.random_bool(options.label_noise);
    let label = if wrong { (truth + noise.random_range(1..classes)) % classes } else { truth };
    Scan {
        label,
        patient: Some(Arc::clone(&order.patient_name)),
        site: Some(site.id.as_str().into()),
        split: None,
        sex: Some(if female { Sex::Female } else { Sex::Male }),
        age: Some(age),
        origin: Origin::Drawn(number),
    }
}

/// An age in whole years.
fn age(ages: Ages, rng: &mut SimulationRng) -> f32 {
    let years = match ages {
        Ages::Normal { mean, deviation } => mean + deviation * f64::from(normal(rng)),
        Ages::Groups(shares) => {
            let mut place = rng.random_range(0.0..1.0) * shares.iter().sum::<f64>();
            let mut group = 0;
            while group < 2 && place >= shares[group] {
                place -= shares[group];
                group += 1;
            }
            let (from, to) = [(18.0, 40.0), (40.0, 60.0), (60.0, 90.0)][group];
            rng.random_range(from..to)
        }
    };
    years.clamp(18.0, 95.0).floor() as f32
}

/// One radiograph, `[size, size]`.
fn radiograph(
    anatomy: &Anatomy,
    severity: Severity,
    site: &SyntheticSite,
    options: &SyntheticOptions,
    rng: &mut SimulationRng,
) -> Vec<u8> {
    let realistic = options.realistic;
    let size = options.image_size;
    // Small images are drawn larger and averaged, so that ribs and vessels do not alias.
    let factor = if size < 128 { 2 } else { 1 };
    let scale = 1.04 + 0.04 * normal(rng).clamp(-2.5, 2.5);
    let shift = [0.025 * normal(rng), 0.04 * normal(rng)];
    let view = View::new(size * factor, scale, 0.025 * normal(rng), shift);
    let breath = 0.03 * normal(rng);
    let mut anatomy = anatomy.clone();
    anatomy.domes.iter_mut().for_each(|dome| *dome += breath);

    let heart =
        thorax::Heart::new(&anatomy, severity.cardiothoracic_ratio(), -0.20 + 0.02 * normal(rng) + breath);
    let exposure = Exposure {
        shift: 0.10 * normal(rng),
        contrast: (0.06 * normal(rng)).exp(),
        tilt: 0.05 * normal(rng),
        blades: std::array::from_fn(|_| {
            if realistic && rng.random_bool(0.08) { rng.random_range(0.01..0.05) } else { 0.0 }
        }),
        marker: realistic && rng.random_bool(0.5),
    };
    let consolidations = Consolidation::draw(&anatomy, severity, view, rng);
    let detail: Option<(Layer, Layer)> =
        realistic.then(|| (skeleton::draw(&anatomy, view), vessels::draw(&anatomy, view, rng)));

    let side = size * factor;
    let mut attenuation = Vec::with_capacity(side * side);
    for row in 0..side {
        for column in 0..side {
            let index = row * side + column;
            let point = view.point_of(column, row);
            let tissue = thorax::tissue(&anatomy, &heart, point, view.pixel, realistic);
            let mut air = tissue.air;
            if air > 0.0 {
                for consolidation in &consolidations {
                    air *= 1.0 - consolidation.at(&anatomy, point, index);
                }
            }
            let mut total = tissue.solid - air;
            if let Some((bones, vessels)) = &detail
                && tissue.body > 0.0
            {
                total += 0.16 * anatomy.bone * bones.values[index] * tissue.body;
                total += 0.50 * air * vessels.values[index].min(1.0);
                total += 0.035 * anatomy.pattern.at(point, 5.0, 3) * tissue.body;
            }
            attenuation.push(total);
        }
    }
    let attenuation = if factor > 1 { shrink(&attenuation, size, factor) } else { attenuation };
    film::develop(attenuation, size, &site.shift, exposure, rng)
}

#[cfg(test)]
mod tests {
    use super::*;
    use medfed_types::ImageSource;
    use proptest::prelude::*;

    fn options(samples: usize) -> SyntheticOptions {
        SyntheticOptions { image_size: 28, label_noise: 0.0, ..SyntheticOptions::hospitals(3, samples) }
    }

    fn labels(data: &Dataset) -> Vec<u32> {
        data.scans().iter().map(|scan| scan.label).collect()
    }

    fn mean(values: impl Iterator<Item = f64>) -> f64 {
        let (sum, n) = values.fold((0.0, 0.0), |(sum, n), v| (sum + v, n + 1.0));
        sum / n
    }

    fn brightness(data: &Dataset, index: usize) -> f64 {
        mean(data.pixels(index).iter().map(|p| f64::from(*p)))
    }

    /// Probability that a positive scores above a negative, ties one half.
    fn area(scores: &[f64], labels: &[u32]) -> f64 {
        let pick = |class| scores.iter().zip(labels).filter(move |(_, l)| **l == class).map(|(s, _)| *s);
        mean(
            pick(1).flat_map(|p| {
                pick(0).map(move |n| if p > n { 1.0 } else { f64::from(u8::from(p == n)) / 2.0 })
            }),
        )
    }

    /// Area of the scores against the difference of class means, learned on even and measured on odd images.
    fn template_area(data: &Dataset) -> f64 {
        let learned = |class| {
            let mut sum = vec![0.0; data.shape().len()];
            let chosen: Vec<usize> = (0..data.len()).step_by(2).filter(|i| data.label(*i) == class).collect();
            for i in &chosen {
                sum.iter_mut()
                    .zip(data.pixels(*i))
                    .for_each(|(s, p)| *s += f64::from(*p) / chosen.len() as f64);
            }
            sum
        };
        let template: Vec<f64> = learned(1).iter().zip(learned(0)).map(|(a, b)| a - b).collect();
        let scores: Vec<f64> = (1..data.len())
            .step_by(2)
            .map(|i| template.iter().zip(data.pixels(i)).map(|(t, p)| t * f64::from(*p)).sum())
            .collect();
        let odd: Vec<u32> = labels(data).into_iter().skip(1).step_by(2).collect();
        area(&scores, &odd)
    }

    #[test]
    fn the_bits_depend_on_the_seed_alone() {
        let with_threads = |threads, seed| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let data = pool.install(|| generate(&options(11), Seed(seed))).unwrap();
            let pixels: Vec<Vec<u8>> = (0..data.len()).map(|i| data.pixels(i).to_vec()).collect();
            (pixels, data.scans().to_vec())
        };
        assert_eq!(with_threads(1, 5), with_threads(3, 5));
        assert_ne!(with_threads(1, 5), with_threads(1, 6));
    }

    #[test]
    fn a_hospitals_images_do_not_depend_on_the_others() {
        let three = generate(&options(6), Seed(1)).unwrap();
        let mut alone = options(6);
        alone.sites.truncate(1);
        let one = generate(&alone, Seed(1)).unwrap();
        assert!((0..6).all(|i| one.pixels(i) == three.pixels(i) && one.scans()[i] == three.scans()[i]));
    }

    #[test]
    fn prevalence_follows_the_bias() {
        for (classes, bias, expected) in [
            (2, -1.0, 0.05),
            (2, 0.0, 0.5),
            (2, 0.5, 0.725),
            (2, 1.0, 0.95),
            (3, 0.0, 2.0 / 3.0),
            (3, -0.5, 0.358),
        ] {
            let mut options = SyntheticOptions { classes, realistic: false, ..options(240) };
            options.sites.truncate(1);
            options.sites[0].pathology_bias = bias;
            let data = generate(&options, Seed(2)).unwrap();
            let ill = mean(labels(&data).iter().map(|l| f64::from(u8::from(*l > 0))));
            // Shares are exact over patients; patients differ in how many images they have.
            assert!((ill - expected).abs() < 0.06, "{classes} classes, bias {bias}: {ill}");
            if classes == 3 {
                let findings = |class| labels(&data).iter().filter(|l| **l == class).count() as f64;
                assert!((findings(1) / findings(2)).ln().abs() < 0.5);
            }
        }
    }

    #[test]
    fn a_leading_finding_is_four_in_five() {
        for (leading, expected) in [(Finding::Pneumonia, 0.8), (Finding::Cardiomegaly, 0.2)] {
            let mut options = SyntheticOptions { classes: 3, realistic: false, ..options(240) };
            options.sites.truncate(1);
            options.sites[0].leading_finding = Some(leading);
            let found = labels(&generate(&options, Seed(8)).unwrap());
            let of = |class| found.iter().filter(|l| **l == class).count() as f64;
            assert!((of(1) / (of(1) + of(2)) - expected).abs() < 0.08);
        }
    }

    #[test]
    fn label_noise_changes_labels_and_nothing_else() {
        let clean = generate(&options(200), Seed(3)).unwrap();
        let noisy = generate(&SyntheticOptions { label_noise: 0.2, ..options(200) }, Seed(3)).unwrap();
        let wrong = labels(&clean).iter().zip(labels(&noisy)).filter(|(a, b)| **a != *b).count();
        // 600 images at 0.2: 120, standard deviation 9.8; five deviations.
        assert!((71..=169).contains(&wrong), "{wrong}");
        assert!((0..clean.len()).all(|i| clean.pixels(i) == noisy.pixels(i)));
    }

    #[test]
    fn overlap_makes_the_task_harder_and_brightness_does_not_solve_it() {
        let at =
            |class_overlap| generate(&SyntheticOptions { class_overlap, ..options(200) }, Seed(4)).unwrap();
        let areas: Vec<f64> = [0.0, 0.5, 1.0].map(|overlap| template_area(&at(overlap))).to_vec();
        assert!(areas[0] > areas[1] + 0.03 && areas[1] > areas[2] + 0.03, "{areas:?}");
        // 300 images with chance labels: standard deviation 0.033; four deviations.
        assert!(areas[0] > 0.70 && (areas[2] - 0.5).abs() < 0.135, "{areas:?}");
        let data = at(SyntheticOptions::hospitals(1, 1).class_overlap);
        let scores: Vec<f64> = (0..data.len()).map(|i| brightness(&data, i)).collect();
        let by_brightness = area(&scores, &labels(&data));
        assert!((0.4..0.8).contains(&by_brightness), "{by_brightness}");
    }

    #[test]
    fn patients_follow_the_demographics_and_stay_themselves() {
        let mut options = SyntheticOptions { realistic: false, ..options(300) };
        options.sites[1].demographics =
            Demographics { ages: Ages::Normal { mean: 70.0, deviation: 5.0 }, female_fraction: 0.2 };
        options.sites[2].demographics.ages = Ages::Groups([0.6, 0.0, 0.2]);
        let data = generate(&options, Seed(5)).unwrap();
        let site = &data.scans()[300..600];
        assert!(site.iter().all(|scan| scan.site.as_deref() == Some("hospital_2")));
        let age = mean(site.iter().map(|scan| f64::from(scan.age.unwrap())));
        let women = mean(site.iter().map(|scan| f64::from(u8::from(scan.sex == Some(Sex::Female)))));
        // About 235 patients: standard deviations 0.33 years and 0.026.
        assert!((age - 69.5).abs() < 2.0 && (women - 0.2).abs() < 0.13, "{age} {women}");

        // Shares 3 : 0 : 1; the standard deviation is 0.03.
        let ages: Vec<f32> = data.scans()[600..].iter().map(|scan| scan.age.unwrap()).collect();
        let young = mean(ages.iter().map(|age| f64::from(u8::from(*age < 40.0))));
        assert!((young - 0.75).abs() < 0.15 && ages.iter().all(|age| *age < 40.0 || *age >= 60.0), "{young}");

        let mut patients = std::collections::HashMap::new();
        for (index, scan) in data.scans().iter().enumerate() {
            patients.entry(scan.patient.clone().unwrap()).or_insert_with(Vec::new).push(index);
        }
        let several: Vec<_> = patients.values().filter(|images| images.len() > 1).collect();
        assert!(several.len() > 50 && several.iter().all(|images| images.len() <= 3));
        for images in several {
            let (a, b) = (&data.scans()[images[0]], &data.scans()[images[1]]);
            assert_eq!((&a.site, a.sex, a.age, a.label), (&b.site, b.sex, b.age, b.label));
            assert_ne!(data.pixels(images[0]), data.pixels(images[1]));
        }
    }

    #[test]
    fn the_heart_lies_on_the_images_right_and_grows_with_cardiomegaly() {
        let options = SyntheticOptions { classes: 3, image_size: 64, class_overlap: 0.0, ..options(80) };
        let data = generate(&options, Seed(6)).unwrap();
        // Mean grey of a patch of 5 × 5 pixels around the place, over the images of a class.
        let grey = |class: u32, column: usize, row: usize| {
            mean((0..data.len()).filter(|i| data.label(*i) == class).flat_map(|i| {
                let pixels = data.pixels(i);
                (row - 2..=row + 2)
                    .flat_map(move |r| (column - 2..=column + 2).map(move |c| f64::from(pixels[64 * r + c])))
            }))
        };
        let (right, left) = (42, 21);
        assert!(grey(0, right - 4, 40) > grey(0, left + 4, 40) + 15.0);
        assert!(grey(2, right, 38) > grey(0, right, 38) + 25.0);
        // Lungs are darker than the mediastinum between them and the abdomen below.
        assert!(grey(0, 16, 26) + 40.0 < grey(0, 32, 36) && grey(0, 16, 26) + 40.0 < grey(0, 32, 58));
    }

    #[test]
    fn hospitals_machines_differ_as_asked() {
        let with = |shift: DomainShift| {
            let mut options = options(24);
            options.sites.truncate(1);
            options.sites[0].shift = shift;
            generate(&options, Seed(7)).unwrap()
        };
        let grey = |data: &Dataset| mean((0..data.len()).map(|i| brightness(data, i)));
        // Mean step between neighbours: noise and contrast raise it, blur lowers it.
        let steps = |data: &Dataset| {
            mean((0..data.len()).flat_map(|i| {
                data.pixels(i)
                    .chunks_exact(28)
                    .flat_map(|row| row.windows(2))
                    .map(|w| f64::from(w[0].abs_diff(w[1])))
            }))
        };
        let plain = DomainShift::default();
        let base = with(plain);
        assert!(grey(&with(DomainShift { exposure: 0.5, ..plain })) < grey(&base) - 10.0);
        assert!(steps(&with(DomainShift { noise: 0.8, ..plain })) > 1.2 * steps(&base));
        assert!(steps(&with(DomainShift { blur: 0.03, ..plain })) < 0.9 * steps(&base));
        assert!(steps(&with(DomainShift { contrast: 1.6, ..plain })) > 1.1 * steps(&base));
    }

    #[test]
    fn options_out_of_range_are_refused() {
        type Change = fn(&mut SyntheticOptions);
        let changes: [(&str, Change); 21] = [
            ("image size", |o| o.image_size = 27),
            ("image size", |o| o.image_size = 513),
            ("number of classes", |o| o.classes = 4),
            ("label noise", |o| o.label_noise = 0.6),
            ("label noise", |o| o.label_noise = f64::NAN),
            ("class overlap", |o| o.class_overlap = -0.1),
            ("synthetic set", |o| o.sites.clear()),
            ("synthetic set", |o| o.sites[0].samples = usize::MAX),
            ("hospital's images", |o| o.sites[0].samples = 0),
            ("hospitals' names", |o| o.sites[1].id = o.sites[0].id.clone()),
            ("pathology bias", |o| o.sites[0].pathology_bias = 1.1),
            ("mean age", |o| o.sites[0].demographics.ages = Ages::Normal { mean: 7.0, deviation: 1.0 }),
            ("age's deviation", |o| {
                o.sites[0].demographics.ages = Ages::Normal { mean: 50.0, deviation: -1.0 }
            }),
            ("share of an age group", |o| o.sites[0].demographics.ages = Ages::Groups([0.5, f64::NAN, 0.0])),
            ("age groups' shares", |o| o.sites[0].demographics.ages = Ages::Groups([0.0; 3])),
            ("share of women", |o| o.sites[0].demographics.female_fraction = f64::NAN),
            ("exposure", |o| o.sites[0].shift.exposure = 2.0),
            ("contrast", |o| o.sites[0].shift.contrast = 0.0),
            ("noise", |o| o.sites[0].shift.noise = f64::INFINITY),
            ("blur", |o| o.sites[0].shift.blur = 0.2),
            ("number of classes", |o| o.classes = 0),
        ];
        for (what, change) in changes {
            let mut options = options(4);
            change(&mut options);
            let message = generate(&options, Seed(0)).unwrap_err().to_string();
            assert!(message.contains(what), "{message}");
        }
        let mut single = options(1);
        single.sites.truncate(1);
        assert!(matches!(generate(&single, Seed(0)), Err(DataError::EmptyClass { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_options_in_range_draw_a_complete_set(
            seed: u64,
            samples in 4usize..7,
            image_size in 28usize..48,
            classes in 2usize..=3,
            overlap in 0.0..=1.0,
            bias in -1.0..=1.0,
            (mean, deviation, female_fraction) in (18.0..=95.0, 0.0..=40.0, 0.0..=1.0),
            (exposure, contrast, noise, blur) in (-1.0..=1.0, 0.4..=2.5, 0.0..=2.0, 0.0..=0.05),
            realistic: bool,
        ) {
            let mut options = SyntheticOptions { image_size, classes, realistic, ..SyntheticOptions::hospitals(2, samples) };
            options.class_overlap = overlap;
            options.label_noise = 0.0;
            options.sites[0].pathology_bias = bias;
            options.sites[0].demographics =
                Demographics { ages: Ages::Normal { mean, deviation }, female_fraction };
            options.sites[0].shift = DomainShift { exposure, contrast, noise, blur };
            match generate(&options, Seed(seed)) {
                Ok(data) => {
                    prop_assert_eq!(data.len(), 2 * samples);
                    prop_assert!(data.scans().iter().all(|scan| (18.0..=95.0).contains(&scan.age.unwrap())));
                }
                // So few patients may not show every class.
                Err(DataError::EmptyClass { .. }) => {}
                Err(other) => prop_assert!(false, "{other}"),
            }
        }
    }
}
