//! What can be wrong with data, and what is worth a warning.

use std::path::PathBuf;

use medfed_types::SiteId;

use crate::scan::{Origin, Split};

/// Data that cannot be used. Messages name files, lines, arrays and columns, never a patient.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or folder cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The path is neither an archive, nor a manifest, nor an image folder.
    #[error("{} is {found}; expected {expected}", path.display())]
    Format {
        /// The path.
        path: PathBuf,
        /// What was expected there.
        expected: &'static str,
        /// What is there, in words.
        found: String,
    },
    /// An archive does not have an array that it needs.
    #[error("{} has no array {missing:?}; it has {}", path.display(), list(found))]
    MissingArray {
        /// The archive.
        path: PathBuf,
        /// The array.
        missing: String,
        /// The arrays that are there.
        found: Vec<String>,
    },
    /// An array of an archive is malformed or of the wrong type or shape.
    #[error("{}: array {array:?} {problem}", path.display())]
    Array {
        /// The archive.
        path: PathBuf,
        /// The array.
        array: String,
        /// What is wrong with it.
        problem: ArrayFault,
    },
    /// A table cannot be parsed.
    #[error("{}: not a table", path.display())]
    Table {
        /// The table.
        path: PathBuf,
        /// What is wrong, with its line.
        source: Box<csv::Error>,
    },
    /// A table lacks a column.
    #[error("{}, line 1: no column {expected:?}{}; the columns are {}", path.display(), nearest_hint(nearest.as_deref()), list(found))]
    MissingColumn {
        /// The table.
        path: PathBuf,
        /// The column looked for.
        expected: String,
        /// The column whose name is nearest, if any is near.
        nearest: Option<String>,
        /// The columns that are there.
        found: Vec<String>,
    },
    /// A field of a table is not what its column holds.
    #[error("{}, line {line}, column {column:?}: expected {expected}, found {found:?}", path.display())]
    Field {
        /// The table.
        path: PathBuf,
        /// Line, counted from 1.
        line: u64,
        /// The column.
        column: String,
        /// What the column holds.
        expected: &'static str,
        /// The field, shortened.
        found: String,
    },
    /// A table names one file twice with different labels.
    #[error("{}, line {line}: {file:?} was labelled {first:?} on line {first_line} and is labelled {second:?} here", path.display())]
    Contradiction {
        /// The table.
        path: PathBuf,
        /// Line of the second label, counted from 1.
        line: u64,
        /// The file that is labelled twice.
        file: String,
        /// Line of the first label.
        first_line: u64,
        /// The first label.
        first: String,
        /// The second label.
        second: String,
    },
    /// Images that cannot be decoded; at most ten are listed.
    #[error("{total} of {of} images cannot be used{}", bad_images(images, *total))]
    Images {
        /// The first of them, each with what is wrong.
        images: Vec<(PathBuf, ImageFault)>,
        /// How many there are.
        total: usize,
        /// How many images were tried.
        of: usize,
    },
    /// Nothing to train on.
    #[error("{} has no image{}", path.display(), skipped_hint(*skipped))]
    Empty {
        /// The file or folder.
        path: PathBuf,
        /// Files that are no PNG or JPEG.
        skipped: usize,
    },
    /// A class has no training image.
    #[error("class {class:?} has no {}image; every class needs one", within_hint(*within))]
    EmptyClass {
        /// The class.
        class: String,
        /// The split in which it is missing, where there are splits.
        within: Option<Split>,
    },
    /// All images have one label, or there are more classes than images could support.
    #[error("found {found} classes, expected 2 to {most}")]
    ClassCount {
        /// Number of classes found.
        found: usize,
        /// The most that are supported.
        most: usize,
    },
    /// The decoded images would take more memory than allowed.
    #[error("the decoded images would take {needed} bytes, the limit is {limit}")]
    TooLarge {
        /// Bytes needed; saturated.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// Parts of a data set that do not belong together.
    #[error("a data set with {what} {found}, expected {expected}")]
    Inconsistent {
        /// The quantity, in words.
        what: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A plan that cannot be carried out with any data.
    #[error("{what} must be {expected}, not {found}")]
    Plan {
        /// The quantity, in words.
        what: &'static str,
        /// Its range, in words.
        expected: &'static str,
        /// The value found.
        found: String,
    },
    /// There are not enough images to give every hospital its minimum.
    #[error("{found} training images cannot give {} hospitals at least {minimum} each{}", sites.len(), together_hint(*together))]
    TooFewImages {
        /// The hospitals.
        sites: Vec<SiteId>,
        /// The least that each should have.
        minimum: usize,
        /// Training images there are.
        found: usize,
        /// Whether patients are kept together.
        together: bool,
    },
    /// A column by which to split has no value for these hospitals.
    #[error("no image belongs to {} in column {column:?}; its values are {}", list(sites), list(found))]
    UnknownSites {
        /// The column.
        column: String,
        /// The hospitals without an image.
        sites: Vec<SiteId>,
        /// The column's values, at most twenty.
        found: Vec<String>,
    },
    /// A column has values that cannot be names of hospitals.
    #[error("column {column:?} cannot name hospitals")]
    SiteName {
        /// The column.
        column: String,
        /// What is wrong with the value.
        source: medfed_types::IdError,
    },
    /// A column by which to split is not there.
    #[error("no column {expected:?} to split by{}; there are {}", nearest_hint(nearest.as_deref()), list(found))]
    UnknownAttribute {
        /// The column.
        expected: String,
        /// The column whose name is nearest, if any is near.
        nearest: Option<String>,
        /// The columns that are there.
        found: Vec<String>,
    },
}

/// What is wrong with an array of an archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArrayFault {
    /// The compressed stream or the archive is damaged.
    #[error("is damaged")]
    Damaged(#[source] std::io::Error),
    /// The archive's directory or the array's entry is damaged.
    #[error("cannot be unpacked")]
    Entry(#[source] zip::result::ZipError),
    /// The header is not numpy's.
    #[error("is not a numpy array: {0}")]
    Header(&'static str),
    /// Elements of a type that is not read here.
    #[error("holds elements of type {found:?}, expected {expected}")]
    Type {
        /// The types that are read, in words.
        expected: &'static str,
        /// numpy's name of the type found.
        found: String,
    },
    /// A shape that is not read here.
    #[error("has the shape {found:?}, expected {expected}")]
    Shape {
        /// The shapes that are read, in words.
        expected: String,
        /// The shape found.
        found: Vec<u64>,
    },
    /// One image has several labels.
    #[error(
        "has {columns} labels per image; multi-label sets such as ChestMNIST are not supported, because every model here predicts one class per image"
    )]
    MultiLabel {
        /// Labels per image.
        columns: u64,
    },
    /// The declared and the real size differ.
    #[error("declares {expected} bytes of elements and has {}", at_least(*found, *expected))]
    Size {
        /// Bytes that shape and type call for; saturated.
        expected: u64,
        /// Bytes there are; one more than expected stands for any excess.
        found: u64,
    },
    /// A label that is no class.
    #[error("has the label {found} at index {index}, expected 0 to {most}")]
    Label {
        /// Index of the label.
        index: usize,
        /// The label.
        found: i128,
        /// The highest label supported.
        most: u32,
    },
}

/// What is wrong with one image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageFault {
    /// The file cannot be read.
    #[error("cannot be read ({0})")]
    Read(#[source] std::io::Error),
    /// The path leaves the data set's folder.
    #[error("lies outside the data set's folder")]
    Outside,
    /// Neither PNG nor JPEG.
    #[error("is neither PNG nor JPEG")]
    Format,
    /// Damaged, truncated or of an unsupported kind.
    #[error("cannot be decoded ({0})")]
    Decode(#[source] Box<image::ImageError>),
    /// The end of the file is missing.
    #[error("is truncated: its end marker is missing")]
    Truncated,
    /// The declared size is beyond the limit or absurd for so few bytes.
    #[error("declares {width}x{height} pixels in a file of {bytes} bytes")]
    Size {
        /// Declared columns.
        width: u32,
        /// Declared rows.
        height: u32,
        /// Bytes of the file.
        bytes: u64,
    },
    /// The file is too large to be one image.
    #[error("is a file of {bytes} bytes, the limit is {limit}")]
    FileSize {
        /// Bytes of the file.
        bytes: u64,
        /// Bytes allowed.
        limit: u64,
    },
}

/// Something the user should know that does not prevent training.
#[derive(Debug, Clone, PartialEq, thiserror::Error, serde::Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum DataWarning {
    /// Files that were passed over.
    #[error("{count} files were skipped: hidden, outside a class folder, or neither PNG nor JPEG")]
    SkippedFiles {
        /// How many.
        count: usize,
    },
    /// Folders beside `train` that are no split.
    #[error("folders beside the splits were ignored: {}", list(names))]
    IgnoredFolders {
        /// Their names.
        names: Vec<String>,
    },
    /// A table names a file more than once.
    #[error(
        "{count} lines name a file that an earlier line names, the first on line {line}; each file is used once"
    )]
    RepeatedFiles {
        /// How many lines.
        count: usize,
        /// The first such line.
        line: u64,
    },
    /// A patient table was found beside an archive.
    #[error("patients are taken from {file}; {unknown} of {images} images have no known patient")]
    PatientTable {
        /// Its file name.
        file: String,
        /// Images that it does not assign to a patient.
        unknown: usize,
        /// Images in all.
        images: usize,
    },
    /// Some images are in colour, some are not.
    #[error("{colour} of {images} images are in colour; all are used as {used}")]
    MixedColour {
        /// Images in colour.
        colour: usize,
        /// Images in all.
        images: usize,
        /// `grey` or `colour`.
        used: &'static str,
    },
    /// Images that came out almost black.
    #[error(
        "{count} images are almost black, such as {example}; 12-bit data in a 16-bit file looks like this"
    )]
    AlmostBlack {
        /// How many.
        count: usize,
        /// The first of them.
        example: String,
    },
    /// A class with too few images to split.
    #[error("class {class:?} has {images} image(s)")]
    RareClass {
        /// The class.
        class: String,
        /// Its images.
        images: usize,
    },
    /// A split in which all images have one label.
    #[error("the {split} split has only class {class:?}")]
    SingleClassSplit {
        /// The split.
        split: Split,
        /// The class.
        class: String,
    },
    /// Patients who occur in two splits of the data set.
    #[error("{patients} of {of} patients in {second} also occur in {first}")]
    PatientsCrossSplits {
        /// The one split.
        first: Split,
        /// The other split.
        second: Split,
        /// Patients in both.
        patients: usize,
        /// Patients in the second.
        of: usize,
    },
    /// Images of equal pixels.
    #[error(
        "{images} images repeat the pixels of an earlier one, {across} of them in another split, such as {example}"
    )]
    EqualImages {
        /// Images that repeat an earlier one.
        images: usize,
        /// Those whose first occurrence is in another split.
        across: usize,
        /// One pair, in words.
        example: String,
    },
    /// Images of equal pixels and different labels.
    #[error("{images} images repeat the pixels of an earlier one under another label, such as {example}")]
    EqualImagesOtherLabel {
        /// How many.
        images: usize,
        /// One pair, in words.
        example: String,
    },
    /// Ages that no human reaches.
    #[error("{count} images have an age above 120 years, such as {example}")]
    OddAges {
        /// How many.
        count: usize,
        /// The first of them.
        example: String,
    },
    /// Validation images left out because their patient is trained or tested on.
    #[error(
        "{images} validation images were left out: their patients ({patients}) also occur in the training or test images"
    )]
    ValidationPatientsElsewhere {
        /// Images left out.
        images: usize,
        /// Their patients.
        patients: usize,
    },
    /// Patients of the test set who are trained on.
    #[error(
        "{patients} patients of the test split also occur in the training split, so the test result is too good"
    )]
    TestPatientsInTraining {
        /// How many.
        patients: usize,
    },
    /// Patients whom two hospitals know.
    #[error(
        "{patients} patients have images at more than one hospital; the privacy of such a patient is the sum of what each hospital spends"
    )]
    PatientsAtSeveralSites {
        /// How many.
        patients: usize,
    },
    /// Images left out so that no patient is at two hospitals.
    #[error(
        "{images} images of {patients} patients were left out: most of the patient's images are at another hospital"
    )]
    PatientImagesElsewhere {
        /// Images left out.
        images: usize,
        /// Their patients.
        patients: usize,
    },
    /// Images that no hospital uses.
    #[error("{images} images are used by no hospital: {reason}")]
    Unused {
        /// How many.
        images: usize,
        /// Why.
        reason: UnusedReason,
    },
    /// A hospital has fewer images than it asked for.
    #[error("{site} asked for {asked} images and has {found}")]
    FewerThanAsked {
        /// The hospital.
        site: SiteId,
        /// Images asked for.
        asked: usize,
        /// Images it has.
        found: usize,
    },
    /// A hospital cannot validate.
    #[error("{site} has no validation image")]
    NoValidation {
        /// The hospital.
        site: SiteId,
    },
    /// A hospital sees one class only.
    #[error("{site} trains on class {class:?} alone")]
    SingleClassSite {
        /// The hospital.
        site: SiteId,
        /// The class.
        class: String,
    },
    /// Patients should be kept together and no patient is known.
    #[error("no patient is known, so every image counts as a patient of its own")]
    NoPatients,
}

/// Why images belong to no hospital.
#[derive(Debug, Clone, PartialEq, thiserror::Error, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnusedReason {
    /// The hospitals' `samples` cap them.
    #[error("the hospitals asked for fewer")]
    Capped,
    /// The column has no value for them.
    #[error("the column to split by is blank")]
    NoSite,
    /// Their hospital takes no part.
    #[error("their hospital takes no part or has too few images")]
    OtherSite,
}

fn list<T: std::fmt::Display>(items: &[T]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn nearest_hint(nearest: Option<&str>) -> String {
    nearest.map(|name| format!(" (nearest: {name:?})")).unwrap_or_default()
}

fn within_hint(within: Option<Split>) -> String {
    within.map(|split| format!("{split} ")).unwrap_or_default()
}

fn skipped_hint(skipped: usize) -> String {
    if skipped == 0 {
        String::new()
    } else {
        format!("; {skipped} files there are hidden, outside a class folder, or neither PNG nor JPEG")
    }
}

fn together_hint(together: bool) -> &'static str {
    if together { " while patients are kept together" } else { "" }
}

fn at_least(found: u64, expected: u64) -> String {
    if found > expected { "more".to_owned() } else { found.to_string() }
}

fn bad_images(images: &[(PathBuf, ImageFault)], total: usize) -> String {
    let mut lines: Vec<String> =
        images.iter().map(|(path, fault)| format!("\n  {} {fault}", path.display())).collect();
    if total > images.len() {
        lines.push(format!("\n  and {} more", total - images.len()));
    }
    lines.concat()
}

/// The name among `names` that is nearest to `wanted`, if one is near.
pub(crate) fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let wanted = wanted.to_lowercase();
    names
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&wanted, &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name.to_owned())
}

/// `first and second`, for warnings that show a pair.
pub(crate) fn pair(first: &Origin, second: &Origin) -> String {
    format!("{first} and {second}")
}
