//! Which group each image belongs to.

use crate::EvalError;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The most groups of one attribute. A column with more (an age in years, a number measured by a device)
/// names no groups.
pub const MOST_GROUPS: usize = 50;

/// An attribute of patients: the name of its groups, and the group of each image, in the images' order.
/// An image whose value is not known belongs to none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    attribute: String,
    groups: Arc<[Arc<str>]>,
    member: Vec<Option<u16>>,
}

impl Partition {
    /// Groups images by `values`, one per image. The groups are in the order of their names.
    pub fn new(attribute: &str, values: &[Option<Arc<str>>]) -> Result<Self, EvalError> {
        let names: BTreeSet<&Arc<str>> = values.iter().flatten().collect();
        if names.len() > MOST_GROUPS {
            let (attribute, found) = (attribute.to_owned(), names.len());
            return Err(EvalError::TooManyGroups { attribute, found, most: MOST_GROUPS });
        }
        let groups: Arc<[Arc<str>]> = names.into_iter().cloned().collect();
        let position = |value: &Arc<str>| groups.binary_search(value).ok().map(|at| at as u16);
        let member = values.iter().map(|value| value.as_ref().and_then(position)).collect();
        Ok(Self { attribute: attribute.to_owned(), groups, member })
    }

    /// The partition of some of the images, in the order given. An index without image belongs to no
    /// group.
    #[must_use]
    pub fn select(&self, images: &[u32]) -> Self {
        let member = images.iter().map(|at| self.member.get(*at as usize).copied().flatten()).collect();
        Self { attribute: self.attribute.clone(), groups: Arc::clone(&self.groups), member }
    }

    /// The attribute's name.
    pub fn attribute(&self) -> &str {
        &self.attribute
    }

    /// The groups' names.
    pub fn groups(&self) -> &[Arc<str>] {
        &self.groups
    }

    /// The group of each image, as a position in [`groups`](Self::groups).
    pub(crate) fn member(&self) -> &[Option<u16>] {
        &self.member
    }
}
