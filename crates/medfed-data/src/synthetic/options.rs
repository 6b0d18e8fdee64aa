//! What to draw: hospitals, their patients and machines, and how hard the task is.

use crate::DataError;
use medfed_types::SiteId;
use std::ops::RangeInclusive;

/// The most bytes of pixels one call draws: 4 GiB.
const MOST_BYTES: u64 = 1 << 32;

/// How old the patients of a hospital are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ages {
    /// Normally distributed, kept within 18 to 95 years.
    Normal {
        /// Mean in years, 18 to 95.
        mean: f64,
        /// Standard deviation in years, 0 to 40.
        deviation: f64,
    },
    /// Shares of the ages 18 to 39, 40 to 59, and 60 to 89, in proportion to each other; even within a
    /// group.
    Groups([f64; 3]),
}

/// The patients of a hospital.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demographics {
    /// Their ages.
    pub ages: Ages,
    /// Share of women, 0 to 1.
    pub female_fraction: f64,
}

impl Default for Demographics {
    fn default() -> Self {
        Self { ages: Ages::Normal { mean: 55.0, deviation: 16.0 }, female_fraction: 0.5 }
    }
}

/// What an ill patient has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Consolidated patches of lung.
    Pneumonia,
    /// An enlarged heart.
    Cardiomegaly,
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
    /// The finding of four in five of the ill; without one, both are equally common.
    pub leading_finding: Option<Finding>,
    /// Its patients.
    pub demographics: Demographics,
    /// Its machines.
    pub shift: DomainShift,
}

impl SyntheticSite {
    /// Hospital `number` (counted from 1) of a federation without further wishes: `hospital_1`, with
    /// patients and machines that differ from its neighbours'.
    #[expect(clippy::missing_panics_doc, reason = "the name is always valid")]
    pub fn numbered(number: usize, samples: usize) -> Self {
        // Fixed patterns of different lengths, so that many hospitals still differ.
        let pick = |values: &[f64]| values[number.saturating_sub(1) % values.len()];
        Self {
            id: SiteId::try_from(format!("hospital_{number}"))
                .expect("letters, an underscore and at most 20 digits make a name"),
            samples,
            pathology_bias: pick(&[0.0, 0.3, -0.3, 0.15, -0.15]),
            leading_finding: None,
            demographics: Demographics {
                ages: Ages::Normal {
                    mean: pick(&[55.0, 66.0, 44.0, 60.0]),
                    deviation: pick(&[16.0, 13.0, 14.0]),
                },
                female_fraction: pick(&[0.5, 0.42, 0.6, 0.55]),
            },
            shift: DomainShift {
                exposure: pick(&[0.0, 0.15, -0.15, 0.1]),
                contrast: pick(&[1.0, 0.88, 1.12]),
                noise: pick(&[0.05, 0.15, 0.02, 0.1]),
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
            class_overlap: 0.2,
            realistic: true,
        }
    }
}

/// Refuses options outside the ranges that their fields state.
pub(super) fn check(options: &SyntheticOptions) -> Result<(), DataError> {
    let plan = |what, expected, found: String| Err(DataError::Plan { what, expected, found });
    if !(28..=512).contains(&options.image_size) {
        return plan("the image size", "28 to 512 pixels", options.image_size.to_string());
    }
    if !matches!(options.classes, 2 | 3) {
        return plan(
            "the number of classes",
            "2 or 3 for synthetic radiographs",
            options.classes.to_string(),
        );
    }
    if options.sites.is_empty() {
        return plan("a synthetic set", "at least one hospital", "none".to_owned());
    }
    let images = options.sites.iter().fold(0u64, |sum, site| sum.saturating_add(site.samples as u64));
    if images > MOST_BYTES / (options.image_size * options.image_size) as u64 {
        return plan("a synthetic set", "at most 4 GiB of pixels", format!("{images} images"));
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
        match site.demographics.ages {
            Ages::Normal { mean, deviation } => {
                number("the mean age", "18 to 95 years", 18.0..=95.0, mean)?;
                number("the age's deviation", "0 to 40 years", 0.0..=40.0, deviation)?;
            }
            Ages::Groups(shares) => {
                for share in shares {
                    number("the share of an age group", "0 to 1", 0.0..=1.0, share)?;
                }
                number(
                    "the sum of the age groups' shares",
                    "above 0",
                    f64::MIN_POSITIVE..=3.0,
                    shares.iter().sum(),
                )?;
            }
        }
        number("the share of women", "0 to 1", 0.0..=1.0, site.demographics.female_fraction)?;
        number("the exposure shift", "-1 to 1", -1.0..=1.0, site.shift.exposure)?;
        number("the contrast factor", "0.4 to 2.5", 0.4..=2.5, site.shift.contrast)?;
        number("the added noise", "0 to 2 tenths of full scale", 0.0..=2.0, site.shift.noise)?;
        number("the added blur", "0 to 0.05 of the side", 0.0..=0.05, site.shift.blur)?;
    }
    Ok(())
}
