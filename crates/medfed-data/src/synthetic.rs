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
mod skeleton;
mod thorax;
mod vessels;

use crate::{DataError, Dataset, DatasetParts, Origin, Scan, Sex};
use anatomy::{Anatomy, normal};
use canvas::{Layer, View, shrink};
use film::Exposure;
use finding::{Consolidation, Severity};
use medfed_types::{ImageShape, Seed, SimulationRng, SiteId};
use rand::RngExt;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// The most images one call draws.
const MOST_IMAGES: usize = 1_000_000;

/// The patients of a hospital.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demographics {
    /// Mean age in years, 18 to 95.
    pub age_mean: f64,
    /// Standard deviation of the age in years, 0 to 40; ages are kept within 18 to 95.
    pub age_std: f64,
    /// Share of women, 0 to 1.
    pub female_fraction: f64,
}

impl Default for Demographics {
    fn default() -> Self {
        Self { age_mean: 55.0, age_std: 16.0, female_fraction: 0.5 }
    }
}

/// How a hospital's machines differ from the average.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DomainShift {
    /// −1 (bright films) to 1 (dark films); 0 is the average.
    pub exposure: f64,
    /// Factor on the contrast, 0.4 to 2.5.
    pub contrast: f64,
    /// Noise beyond the unavoidable: standard deviation in tenths of full scale, 0 to 2.
    pub noise: f64,
    /// Standard deviation of the blur as a share of the image's side, 0 to 0.05.
    pub blur: f64,
}

impl Default for DomainShift {
    fn default() -> Self {
        Self { exposure: 0.0, contrast: 1.0, noise: 0.0, blur: 0.0 }
    }
}

/// One hospital of the synthetic set.
#[derive(Debug, Clone, PartialEq)]
pub struct SyntheticSite {
    /// Its name.
    pub id: SiteId,
    /// Images to draw, at least 1.
    pub samples: usize,
    /// −1 to 1: 0 gives every class its even share, 1 makes 95 % of the patients ill, −1 only 5 %.
    pub pathology_bias: f64,
    /// Its patients.
    pub demographics: Demographics,
    /// Its machines.
    pub shift: DomainShift,
}

impl SyntheticSite {
    /// Hospital `number` (counted from 1) of a federation without further wishes: `hospital_1`, with
    /// patients and machines that differ from its neighbours'.
    pub fn numbered(number: usize, samples: usize) -> Self {
        // Fixed patterns of different lengths, so that many hospitals still differ.
        let pick = |values: &[f64]| values[number.saturating_sub(1) % values.len()];
        Self {
            id: SiteId::try_from(format!("hospital_{number}"))
                .expect("letters, an underscore and at most 20 digits make a name"),
            samples,
            pathology_bias: pick(&[0.0, 0.3, -0.3, 0.15, -0.15]),
            demographics: Demographics {
                age_mean: pick(&[55.0, 66.0, 44.0, 60.0]),
                age_std: pick(&[16.0, 13.0, 14.0]),
                female_fraction: pick(&[0.5, 0.42, 0.6, 0.55]),
            },
            shift: DomainShift {
                exposure: pick(&[0.0, 0.25, -0.25, 0.1]),
                contrast: pick(&[1.0, 0.88, 1.12]),
                noise: pick(&[0.1, 0.25, 0.05, 0.2]),
                blur: pick(&[0.0, 0.004, 0.002, 0.006]),
            },
        }
    }
}

/// What to draw.
#[derive(Debug, Clone, PartialEq)]
pub struct SyntheticOptions {
    /// The hospitals, at least one, of different names.
    pub sites: Vec<SyntheticSite>,
    /// Side of the square images in pixels, 28 to 512.
    pub image_size: usize,
    /// 2 (`normal`, `abnormal`) or 3 (`normal`, `pneumonia`, `cardiomegaly`).
    pub classes: usize,
    /// Share of images with a wrong label, 0 to 0.5.
    pub label_noise: f64,
    /// 0 (as clear as it gets) to 1 (indistinguishable); see the module's documentation.
    pub class_overlap: f64,
    /// Whether to draw bones, vessels, breasts, gas and markers too; without them only the large organs.
    pub realistic: bool,
}

impl SyntheticOptions {
    /// Differing hospitals named `hospital_1`, `hospital_2`, …, and the defaults: 64 px, two classes.
    pub fn hospitals(count: usize, samples_each: usize) -> Self {
        Self {
            sites: (1..=count).map(|number| SyntheticSite::numbered(number, samples_each)).collect(),
            image_size: 64,
            classes: 2,
            label_noise: 0.02,
            class_overlap: 0.25,
            realistic: true,
        }
    }
}

/// What a patient has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Diagnosis {
    Normal,
    Pneumonia,
    Cardiomegaly,
}

impl Diagnosis {
    fn label(self, classes: usize) -> u32 {
        match self {
            Self::Normal => 0,
            Self::Cardiomegaly if classes == 3 => 2,
            Self::Pneumonia | Self::Cardiomegaly => 1,
        }
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
    diagnosis: Diagnosis,
}

/// Draws the data set. The images lie hospital after hospital; none has a published split.
pub fn generate(options: &SyntheticOptions, seed: Seed) -> Result<Dataset, DataError> {
    check(options)?;
    let orders: Vec<Order<'_>> = (0u64..)
        .zip(&options.sites)
        .flat_map(|(number, site)| site_orders(site, number, options.classes, seed))
        .collect();
    let shape = ImageShape { channels: 1, height: options.image_size, width: options.image_size };
    let mut pixels = vec![0; orders.len() * shape.len()];
    let mut scans: Vec<Scan> = pixels
        .par_chunks_mut(shape.len())
        .zip(&orders)
        .map(|(pixels, order)| draw(order, options, seed, pixels))
        .collect();
    for (number, scan) in (0u32..).zip(&mut scans) {
        scan.origin = Origin::Drawn(number);
    }
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

fn check(options: &SyntheticOptions) -> Result<(), DataError> {
    let plan = |what, expected, found: String| Err(DataError::Plan { what, expected, found });
    if !(28..=512).contains(&options.image_size) {
        return plan("the image size", "28 to 512 pixels", options.image_size.to_string());
    }
    if !matches!(options.classes, 2 | 3) {
        return plan("the number of classes", "2 or 3 for synthetic radiographs", options.classes.to_string());
    }
    if options.sites.is_empty() {
        return plan("a synthetic set", "at least one hospital", "none".to_owned());
    }
    let total = options.sites.iter().try_fold(0usize, |sum, site| sum.checked_add(site.samples));
    if total.is_none_or(|total| total > MOST_IMAGES) {
        return plan("a synthetic set", "at most 1000000 images", format!("{total:?}"));
    }
    let number = |what, expected, range: RangeInclusive<f64>, found: f64| {
        if range.contains(&found) { Ok(()) } else { plan(what, expected, found.to_string()) }
    };
    number("the label noise", "0 to 0.5", 0.0..=0.5, options.label_noise)?;
    number("the class overlap", "0 to 1", 0.0..=1.0, options.class_overlap)?;
    for (position, site) in options.sites.iter().enumerate() {
        if options.sites[..position].iter().any(|other| other.id == site.id) {
            return plan("the hospitals' names", "all different", format!("{} twice", site.id));
        }
        if site.samples == 0 {
            return plan("a hospital's images", "at least 1", format!("0 for {}", site.id));
        }
        number("the pathology bias", "-1 to 1", -1.0..=1.0, site.pathology_bias)?;
        number("the mean age", "18 to 95 years", 18.0..=95.0, site.demographics.age_mean)?;
        number("the age's deviation", "0 to 40 years", 0.0..=40.0, site.demographics.age_std)?;
        number("the share of women", "0 to 1", 0.0..=1.0, site.demographics.female_fraction)?;
        number("the exposure shift", "-1 to 1", -1.0..=1.0, site.shift.exposure)?;
        number("the contrast factor", "0.4 to 2.5", 0.4..=2.5, site.shift.contrast)?;
        number("the added noise", "0 to 2 tenths of full scale", 0.0..=2.0, site.shift.noise)?;
        number("the added blur", "0 to 0.05 of the side", 0.0..=0.05, site.shift.blur)?;
    }
    Ok(())
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
    let mut diagnoses: Vec<Diagnosis> = (0..patients)
        .map(|patient| match patient {
            p if p >= ill => Diagnosis::Normal,
            p if p % 2 == 0 => Diagnosis::Pneumonia,
            _ => Diagnosis::Cardiomegaly,
        })
        .collect();
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

fn draw(order: &Order<'_>, options: &SyntheticOptions, seed: Seed, pixels: &mut [u8]) -> Scan {
    let site = order.site;
    let mut patient_rng = seed.generator("synthetic patient", &[order.site_number, order.patient]);
    let people = &site.demographics;
    let female = patient_rng.random_bool(people.female_fraction);
    let age = (people.age_mean + people.age_std * f64::from(normal(&mut patient_rng))).clamp(18.0, 95.0).floor();
    let anatomy = Anatomy::draw(female, age as f32, &mut patient_rng);

    let mut rng = seed.generator("synthetic", &[order.site_number, order.index]);
    let separation = 4.0 * (1.0 - options.class_overlap as f32);
    let has = |finding| order.diagnosis == finding;
    let severity =
        Severity::draw(has(Diagnosis::Pneumonia), has(Diagnosis::Cardiomegaly), separation, &mut rng);
    let film = radiograph(&anatomy, severity, site, options, &mut rng);
    pixels.copy_from_slice(&film);

    // A stream of its own: the same pictures whatever the label noise.
    let mut noise = seed.generator("synthetic label noise", &[order.site_number, order.index]);
    let classes = options.classes as u32;
    let truth = order.diagnosis.label(options.classes);
    let wrong = noise.random_bool(options.label_noise);
    let label = if wrong { (truth + noise.random_range(1..classes)) % classes } else { truth };
    Scan {
        label,
        patient: Some(Arc::clone(&order.patient_name)),
        site: Some(site.id.as_str().into()),
        split: None,
        sex: Some(if female { Sex::Female } else { Sex::Male }),
        age: Some(age as f32),
        origin: Origin::Drawn(0),
    }
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
        exposure: 0.16 * normal(rng),
        contrast: (0.08 * normal(rng)).exp(),
        tilt: 0.08 * normal(rng),
        blades: std::array::from_fn(|_| {
            if realistic && rng.random_bool(0.08) { rng.random_range(0.01..0.05) } else { 0.0 }
        }),
        marker: realistic && rng.random_bool(0.5),
    };
    let consolidation = Consolidation::draw(&anatomy, severity, view, rng);
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
            if air > 0.0
                && let Some(consolidation) = &consolidation
            {
                air *= 1.0 - consolidation.at(&anatomy, point, index);
            }
            let mut total = tissue.solid - air;
            if let Some((bones, vessels)) = &detail
                && tissue.body > 0.0
            {
                total += 0.105 * anatomy.bone * bones.values[index] * tissue.body;
                total += 0.62 * air * vessels.values[index].min(1.0);
                total += 0.035 * anatomy.pattern.at(point, 5.0, 3) * tissue.body;
            }
            attenuation.push(total);
        }
    }
    let attenuation = if factor > 1 { shrink(&attenuation, size, factor) } else { attenuation };
    film::develop(attenuation, size, &site.shift, exposure, rng)
}
