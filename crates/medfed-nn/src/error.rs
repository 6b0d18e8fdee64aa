//! What can go wrong in describing and running a network.

use medfed_types::{ImageShape, LayoutError};

/// A network that cannot be built, or a call that does not fit it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NnError {
    /// The architecture's name is not known.
    #[error("there is no architecture {found:?}; known are simple_cnn, resnet18 and densenet121")]
    UnknownArchitecture {
        /// The name found.
        found: String,
    },
    /// A number in the model's description is out of range.
    #[error("{what} must be {expected}, not {found}")]
    Setting {
        /// The quantity, in words.
        what: &'static str,
        /// Its range, in words.
        expected: &'static str,
        /// The value found.
        found: f64,
    },
    /// Block widths were given for an architecture that has its own.
    #[error("channels can be chosen for simple_cnn only")]
    FixedChannels,
    /// The parameters cannot be laid out.
    #[error("the network's parameters cannot be laid out")]
    Layout(#[from] LayoutError),
    /// The parameter buffer has another length than the network's layout.
    #[error("the network has {expected} parameters, {found} were given")]
    Parameters {
        /// Elements of the layout.
        expected: usize,
        /// Elements found.
        found: usize,
    },
    /// The selection of trained parameters was made for another network.
    #[error("the selection of trained parameters was made for another network")]
    Trainable,
    /// The images have another shape than the network's input.
    #[error(
        "the network takes images of {}x{}x{}, these have {}x{}x{} (channels, height, width)",
        expected.channels, expected.height, expected.width, found.channels, found.height, found.width
    )]
    ImageShape {
        /// The network's input.
        expected: ImageShape,
        /// Shape of the images.
        found: ImageShape,
    },
    /// An image is asked for that the source does not have.
    #[error("image {index} is asked for, there are {len}")]
    ImageIndex {
        /// The index.
        index: usize,
        /// Images in the source.
        len: usize,
    },
    /// An image has a label that is no class of the network.
    #[error("image {image} has class {label}, the network has {classes} classes")]
    Label {
        /// Index of the image in its source.
        image: usize,
        /// Its label, counted from 0.
        label: u32,
        /// Classes of the network.
        classes: usize,
    },
}
