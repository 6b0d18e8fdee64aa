//! Manifests: a table with one line per image file.
//!
//! `file` and `label` are required; `patient_id`, `site`, `split`, `age`, `sex` are read where they are
//! there, and every further column is kept as an [`Attribute`]. Names are mapped by
//! [`ColumnNames`](crate::ColumnNames). Files are relative to the manifest and may not leave its folder.
//!
//! Labels that are all whole numbers from 0 or 1 are classes in that order, and a number that is left
//! out is an empty class; a column `class_name` or `folder_class` that names each number once gives
//! the names. Other labels are names; their order is alphabetical.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::dataset::{Attribute, Dataset, DatasetParts, MOST_CLASSES};
use crate::error::{DataError, DataWarning};
use crate::load::LoadOptions;
use crate::pictures::Pictures;
use crate::scan::{Origin, Scan, Sex, Split, parse_age};
use crate::table::{Row, Table};

/// Reads the manifest at `path`.
pub(crate) fn load(path: &Path, options: &LoadOptions) -> Result<Dataset, DataError> {
    let mut table = Table::open(path)?;
    let columns = Columns::find(&table, options)?;
    let mut lines = Lines::default();
    while let Some(row) = table.next_row()? {
        lines.push(&row, &columns)?;
    }
    if lines.scans.is_empty() {
        return Err(DataError::Empty { path: path.to_owned(), skipped: 0 });
    }
    let classes = lines.number_labels()?;
    let root = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let pictures = Pictures::read(root, &lines.files, options)?;
    let mut warnings = pictures.warnings;
    if let Some(line) = lines.first_repeated {
        warnings.push(DataWarning::RepeatedFiles { count: lines.repeated, line });
    }
    let named = columns.attributes.iter().map(|column| table.header()[*column].clone());
    Dataset::new(DatasetParts {
        name: if path.file_stem().is_some_and(|stem| stem == "metadata" || stem == "manifest") {
            crate::load::name_of(root)
        } else {
            crate::load::name_of(path)
        },
        shape: pictures.shape,
        classes,
        scans: lines.scans,
        pixels: pictures.pixels,
        attributes: named.zip(lines.attributes).map(|(name, values)| Attribute { name, values }).collect(),
        warnings,
    })
}

/// Where the columns are.
struct Columns {
    file: usize,
    label: usize,
    class_name: Option<usize>,
    patient: Option<usize>,
    site: Option<usize>,
    split: Option<usize>,
    age: Option<usize>,
    sex: Option<usize>,
    attributes: Vec<usize>,
}

impl Columns {
    fn find(table: &Table, options: &LoadOptions) -> Result<Self, DataError> {
        let names = &options.columns;
        let optional = |mapped: &Option<String>, defaults: &[&str]| match mapped {
            Some(name) => table.required(name).map(Some),
            None => Ok(defaults.iter().find_map(|name| table.find(name))),
        };
        let mut columns = Self {
            file: table.required(names.file.as_deref().unwrap_or("file"))?,
            label: table.required(names.label.as_deref().unwrap_or("label"))?,
            class_name: optional(&names.class_name, &["class_name", "folder_class"])?,
            patient: optional(&names.patient_id, &["patient_id"])?,
            site: optional(&names.site, &["site"])?,
            split: optional(&names.split, &["split"])?,
            age: optional(&names.age, &["age"])?,
            sex: optional(&names.sex, &["sex"])?,
            attributes: Vec::new(),
        };
        let taken = [columns.patient, columns.site, columns.split, columns.age, columns.sex];
        let taken: Vec<usize> = taken.into_iter().flatten().chain([columns.file, columns.label]).collect();
        columns.attributes = (0..table.header().len()).filter(|column| !taken.contains(column)).collect();
        Ok(columns)
    }
}

/// The lines read so far. Scans have no label yet.
#[derive(Default)]
struct Lines {
    files: Vec<PathBuf>,
    scans: Vec<Scan>,
    labels: Vec<Arc<str>>,
    class_names: Vec<Option<Arc<str>>>,
    /// `[attribute][scan]`.
    attributes: Vec<Vec<Option<Arc<str>>>>,
    seen: HashMap<PathBuf, (u64, Arc<str>)>,
    texts: HashSet<Arc<str>>,
    repeated: usize,
    first_repeated: Option<u64>,
}

impl Lines {
    /// One copy of each text, however many lines have it.
    fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&new));
        new
    }

    fn field(&mut self, row: &Row<'_>, column: Option<usize>) -> Option<Arc<str>> {
        column.and_then(|column| row.filled(column)).map(|text| self.intern(text))
    }

    fn push(&mut self, row: &Row<'_>, columns: &Columns) -> Result<(), DataError> {
        let file = inside(row.text(columns.file))
            .ok_or_else(|| row.fault(columns.file, "a file inside the manifest's folder"))?;
        let label = row.filled(columns.label).ok_or_else(|| row.fault(columns.label, "a class"))?;
        let label = self.intern(label);
        match self.seen.entry(file.clone()) {
            Entry::Occupied(earlier) => {
                let (first_line, first) = earlier.get();
                if *first != label {
                    return Err(row.contradiction(&file, *first_line, first, &label));
                }
                self.repeated += 1;
                self.first_repeated.get_or_insert(row.line);
                return Ok(());
            }
            Entry::Vacant(new) => new.insert((row.line, Arc::clone(&label))),
        };
        let mut scan = Scan::new(0, Origin::File(file.as_path().into()));
        scan.patient = self.field(row, columns.patient);
        scan.site = self.field(row, columns.site);
        if let Some(column) = columns.split {
            let split = Split::parse(row.text(column));
            scan.split = Some(split.ok_or_else(|| row.fault(column, "train, val or test"))?);
        }
        if let Some((column, text)) = columns.age.and_then(|column| Some((column, row.filled(column)?))) {
            let age = parse_age(text);
            scan.age = Some(age.ok_or_else(|| row.fault(column, "an age in years, 0 or more"))?);
        }
        if let Some((column, text)) = columns.sex.and_then(|column| Some((column, row.filled(column)?))) {
            let unknown = matches!(text.to_ascii_lowercase().as_str(), "u" | "unknown" | "na" | "n/a");
            let sex = Sex::parse(text);
            if sex.is_none() && !unknown {
                return Err(row.fault(column, "F, M, O or blank"));
            }
            scan.sex = sex;
        }
        let class_name = self.field(row, columns.class_name);
        self.attributes.resize_with(columns.attributes.len(), Vec::new);
        for (at, column) in columns.attributes.iter().enumerate() {
            let value = self.field(row, Some(*column));
            self.attributes[at].push(value);
        }
        self.files.push(file);
        self.scans.push(scan);
        self.labels.push(label);
        self.class_names.push(class_name);
        Ok(())
    }

    /// Numbers the labels; gives the classes' names.
    fn number_labels(&mut self) -> Result<Vec<String>, DataError> {
        let texts: BTreeSet<Arc<str>> = self.labels.iter().cloned().collect();
        let numbers: Option<BTreeMap<Arc<str>, u64>> =
            texts.iter().map(|text| Some((Arc::clone(text), whole_number(text)?))).collect();
        let first = numbers.as_ref().and_then(|numbers| numbers.values().min().copied());
        let (Some(numbers), Some(first @ (0 | 1))) = (numbers, first) else {
            let position: HashMap<&Arc<str>, u32> = texts.iter().zip(0..).collect();
            for (scan, label) in self.scans.iter_mut().zip(&self.labels) {
                scan.label = position[label];
            }
            return Ok(texts.iter().map(ToString::to_string).collect());
        };
        let last = numbers.values().max().copied().unwrap_or(first);
        if last - first >= MOST_CLASSES as u64 {
            let found = usize::try_from(last - first).map_or(usize::MAX, |span| span.saturating_add(1));
            return Err(DataError::ClassCount { found, most: MOST_CLASSES });
        }
        for (scan, label) in self.scans.iter_mut().zip(&self.labels) {
            scan.label = (numbers[label] - first) as u32;
        }
        let present: HashSet<u64> = numbers.values().copied().collect();
        if let Some(missing) = (first..=last).find(|number| !present.contains(number)) {
            return Err(DataError::EmptyClass { class: missing.to_string(), within: None });
        }
        let count = (last - first + 1) as usize;
        Ok(self.class_names(count).unwrap_or_else(|| (first..=last).map(|n| n.to_string()).collect()))
    }

    /// The classes' names, where every number has one and no two share one.
    fn class_names(&self, count: usize) -> Option<Vec<String>> {
        let mut names: Vec<Option<&Arc<str>>> = vec![None; count];
        for (scan, name) in self.scans.iter().zip(&self.class_names) {
            let known = &mut names[scan.label as usize];
            let name = name.as_ref()?;
            if known.is_some_and(|known| known != name) {
                return None;
            }
            *known = Some(name);
        }
        let names: Vec<String> = names.into_iter().flatten().map(ToString::to_string).collect();
        let distinct: HashSet<&String> = names.iter().collect();
        (distinct.len() == count).then_some(names)
    }
}

/// `3`, or `3.0` as a table program writes it.
fn whole_number(text: &str) -> Option<u64> {
    text.strip_suffix(".0").unwrap_or(text).parse().ok()
}

/// The path without `.` and `..`, if it is relative and stays inside.
fn inside(text: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in Path::new(text).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    (!path.as_os_str().is_empty()).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        assert_eq!(inside("a/./b/../c.png"), Some(PathBuf::from("a/c.png")));
        for bad in ["", ".", "/etc/passwd", "../a.png", "a/../../b.png", "a/.."] {
            assert_eq!(inside(bad), None, "{bad}");
        }
    }

    #[test]
    fn numbers_as_table_programs_write_them() {
        assert_eq!(whole_number("1.0"), Some(1));
        assert_eq!(whole_number("12"), Some(12));
        for text in ["-1", "1.5", "x", "", ".0"] {
            assert_eq!(whole_number(text), None, "{text}");
        }
    }
}
