//! Which parameters are trained.

use crate::network::Network;
use std::ops::Range;

/// The parameters that move. The others get a zero gradient and do not enter any norm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trainable {
    /// One flag per view of the layout.
    views: Vec<bool>,
    ranges: Vec<Range<usize>>,
}

impl Trainable {
    /// Every parameter.
    pub fn all(network: &Network) -> Self {
        Self::of(network, |_| true)
    }

    /// The last linear layer only: the rest of the network is frozen.
    pub fn head_only(network: &Network) -> Self {
        let head = network.head();
        Self::of(network, |name| name.strip_prefix(head).is_some_and(|rest| rest.starts_with('.')))
    }

    fn of(network: &Network, chosen: impl Fn(&str) -> bool) -> Self {
        let views: Vec<bool> = network.layout().views().iter().map(|view| chosen(&view.name)).collect();
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for (view, _) in network.layout().views().iter().zip(&views).filter(|(_, chosen)| **chosen) {
            match ranges.last_mut() {
                Some(last) if last.end == view.offset => last.end += view.len,
                _ => ranges.push(view.range()),
            }
        }
        Self { views, ranges }
    }

    /// Index ranges in the flat buffer, ascending, without overlap.
    pub fn ranges(&self) -> &[Range<usize>] {
        &self.ranges
    }

    /// Whether the parameter at this position of the layout's views is trained.
    pub(crate) fn view(&self, view: usize) -> bool {
        self.views[view]
    }

    /// Whether it was made for this network.
    pub(crate) fn fits(&self, network: &Network) -> bool {
        self.views.len() == network.layout().views().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{Architecture, ModelSpec};
    use medfed_types::ImageShape;

    #[test]
    fn ranges_cover_what_is_trained() {
        let spec = ModelSpec {
            architecture: Architecture::SimpleCnn,
            input: ImageShape { channels: 1, height: 8, width: 8 },
            classes: 3,
            dropout: 0.0,
            channels: Some(vec![4]),
        };
        let network = spec.build().unwrap();
        let len = network.layout().len();
        let first = |trainable: Trainable| (trainable.ranges().len(), trainable.ranges()[0].clone());
        assert_eq!(first(Trainable::all(&network)), (1, 0..len));
        assert_eq!(first(Trainable::head_only(&network)), (1, len - 15..len));
    }
}
