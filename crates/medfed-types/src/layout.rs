//! Parameters are one flat `f32` buffer; the layout names its pieces.

use serde::{Deserialize, Serialize};

/// A layout that does not describe a buffer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// Two parameters have one name.
    #[error("parameter {name:?} appears twice")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// The shape is empty in one dimension or the total overflows.
    #[error("parameter {name:?} has the impossible shape {shape:?}")]
    Shape {
        /// The name.
        name: String,
        /// The shape.
        shape: Vec<usize>,
    },
}

/// One named parameter inside the flat buffer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterView {
    /// torchvision's name, `layer1.0.conv1.weight`.
    pub name: String,
    /// Shape, outermost first: a convolution is `[out, in, kernel height, kernel width]`.
    pub shape: Vec<usize>,
    /// Index of its first element in the flat buffer.
    pub offset: usize,
    /// Number of elements.
    pub len: usize,
}

impl ParameterView {
    /// The elements' indices in the flat buffer.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.len
    }
}

/// Names, shapes and offsets of all parameters of a network, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ParameterLayout {
    views: Vec<ParameterView>,
    len: usize,
}

impl ParameterLayout {
    /// Lays the parameters out one after the other.
    pub fn new(parameters: impl IntoIterator<Item = (String, Vec<usize>)>) -> Result<Self, LayoutError> {
        let mut layout = Self::default();
        let mut seen = std::collections::HashSet::new();
        for (name, shape) in parameters {
            let len = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).filter(|n| *n > 0);
            let end = len.and_then(|n| layout.len.checked_add(n));
            let (Some(len), Some(end)) = (len, end) else {
                return Err(LayoutError::Shape { name, shape });
            };
            if !seen.insert(name.clone()) {
                return Err(LayoutError::Duplicate { name });
            }
            layout.views.push(ParameterView { name, shape, offset: layout.len, len });
            layout.len = end;
        }
        Ok(layout)
    }

    /// All parameters, in buffer order.
    pub fn views(&self) -> &[ParameterView] {
        &self.views
    }

    /// The parameter of that name.
    pub fn find(&self, name: &str) -> Option<&ParameterView> {
        self.views.iter().find(|view| view.name == name)
    }

    /// Elements in the flat buffer.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no parameter.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_follow_and_bad_layouts_are_refused() {
        let p = |name: &str, shape: &[usize]| (name.to_owned(), shape.to_vec());
        let layout = ParameterLayout::new([p("a", &[2, 3]), p("b", &[4])]).unwrap();
        assert_eq!(layout.len(), 10);
        assert_eq!(layout.find("b").unwrap().range(), 6..10);
        assert!(ParameterLayout::new([p("a", &[1]), p("a", &[1])]).is_err());
        assert!(ParameterLayout::new([p("a", &[0])]).is_err());
        assert!(ParameterLayout::new([p("a", &[usize::MAX, 2])]).is_err());
    }
}
