//! Groups of patients: age group, sex, hospital, or whatever else a manifest says about an image.

use crate::dataset::Dataset;
use std::collections::HashMap;
use std::sync::Arc;

/// Ages in years from which on the next group begins, with the group's name. The upper end is excluded.
const AGE_GROUPS: [(f32, &str); 4] = [(0.0, "0-18"), (18.0, "18-40"), (40.0, "40-60"), (60.0, "60+")];

impl Dataset {
    /// The group of every image by an attribute, `None` where it is not known; nothing at all where the data
    /// do not have the attribute.
    ///
    /// A further column of the manifest comes first; then `age_group` (`0-18`, `18-40`, `40-60`, `60+`,
    /// from the age), `sex` (`F`, `M`, `O`) and `hospital` (the manifest's site).
    pub fn groups_by(&self, attribute: &str) -> Option<Vec<Option<Arc<str>>>> {
        if let Some(column) = self.attributes().iter().find(|column| column.name == attribute) {
            return Some(column.values.clone());
        }
        let groups: Vec<Option<Arc<str>>> = match attribute {
            "age_group" => {
                let names: Vec<Arc<str>> = AGE_GROUPS.iter().map(|(_, name)| Arc::from(*name)).collect();
                let group = |age: f32| {
                    let at = AGE_GROUPS.iter().rposition(|(from, _)| age >= *from);
                    at.map(|at| Arc::clone(&names[at]))
                };
                self.scans().iter().map(|scan| scan.age.and_then(group)).collect()
            }
            "sex" => {
                let [female, male, other] = ["F", "M", "O"].map(Arc::<str>::from);
                let group = |sex| match sex {
                    crate::Sex::Female => Arc::clone(&female),
                    crate::Sex::Male => Arc::clone(&male),
                    crate::Sex::Other => Arc::clone(&other),
                };
                self.scans().iter().map(|scan| scan.sex.map(group)).collect()
            }
            "hospital" => self.scans().iter().map(|scan| scan.site.clone()).collect(),
            _ => return None,
        };
        groups.iter().any(Option::is_some).then_some(groups)
    }

    /// The attributes that [`groups_by`](Self::groups_by) knows in these data.
    pub fn group_attributes(&self) -> Vec<String> {
        let further = self.attributes().iter().map(|column| column.name.clone());
        let usual = ["age_group", "sex", "hospital"].map(str::to_owned).into_iter();
        let mut names: Vec<String> =
            usual.chain(further).filter(|name| self.groups_by(name).is_some()).collect();
        names.dedup();
        names
    }

    /// A number for every image that images of one patient share and no others. An image whose patient is
    /// not known has its own.
    pub fn patient_numbers(&self) -> Vec<u32> {
        let mut known: HashMap<&str, u32> = HashMap::new();
        let mut next = 0;
        let mut number = || {
            next += 1;
            next - 1
        };
        let scans = self.scans().iter();
        scans
            .map(|scan| match scan.patient.as_deref() {
                Some(patient) => *known.entry(patient).or_insert_with(&mut number),
                None => number(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attribute, DatasetParts, Origin, Scan, Sex};
    use medfed_types::ImageShape;

    #[test]
    fn groups_follow_from_what_is_known() {
        let ages = [Some(17.9), Some(18.0), Some(59.5), Some(60.0), None];
        let scans = ages.iter().zip(0..).map(|(age, index)| Scan {
            age: *age,
            sex: [Some(Sex::Female), None][index as usize % 2],
            patient: [Some("p".into()), None][index as usize % 2].clone(),
            ..Scan::new(index % 2, Origin::Drawn(index))
        });
        let dataset = Dataset::new(DatasetParts {
            name: "test".to_owned(),
            shape: ImageShape { channels: 1, height: 1, width: 1 },
            classes: vec!["a".to_owned(), "b".to_owned()],
            scans: scans.collect(),
            pixels: vec![0; 5],
            attributes: vec![Attribute { name: "view".to_owned(), values: vec![None; 5] }],
            warnings: Vec::new(),
        })
        .unwrap();
        let names = |attribute| -> Option<Vec<String>> {
            let groups = dataset.groups_by(attribute)?;
            Some(groups.into_iter().map(|group| group.map_or("-".to_owned(), |g| g.to_string())).collect())
        };
        assert_eq!(names("age_group").unwrap(), ["0-18", "18-40", "40-60", "60+", "-"]);
        assert_eq!(names("sex").unwrap(), ["F", "-", "F", "-", "F"]);
        assert_eq!(names("view").unwrap(), ["-"; 5]);
        assert_eq!((names("hospital"), names("race")), (None, None));
        assert_eq!(dataset.group_attributes(), ["age_group", "sex", "view"]);
        assert_eq!(dataset.patient_numbers(), [0, 1, 0, 2, 0]);
    }
}
