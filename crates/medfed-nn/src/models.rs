//! The three architectures.

mod densenet121;
mod resnet18;
mod simple_cnn;

use crate::error::NnError;
use crate::network::Network;
use medfed_types::ImageShape;
use serde::{Deserialize, Serialize};

/// A family of networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Architecture {
    /// Blocks of convolution, GroupNorm, ReLU and pooling; the fastest, made for small images.
    #[serde(rename = "simple_cnn")]
    SimpleCnn,
    /// ResNet-18 (He et al. 2016) with GroupNorm.
    #[serde(rename = "resnet18")]
    ResNet18,
    /// DenseNet-121 (Huang et al. 2017) with GroupNorm.
    #[serde(rename = "densenet121")]
    DenseNet121,
}

impl std::fmt::Display for Architecture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::SimpleCnn => "simple_cnn",
            Self::ResNet18 => "resnet18",
            Self::DenseNet121 => "densenet121",
        })
    }
}

impl std::str::FromStr for Architecture {
    type Err = NnError;

    fn from_str(name: &str) -> Result<Self, NnError> {
        match name {
            "simple_cnn" => Ok(Self::SimpleCnn),
            "resnet18" => Ok(Self::ResNet18),
            "densenet121" => Ok(Self::DenseNet121),
            _ => Err(NnError::UnknownArchitecture { found: name.to_owned() }),
        }
    }
}

/// Everything that decides a network's shape. [`build`](Self::build) checks it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelSpec {
    /// The family.
    pub architecture: Architecture,
    /// Shape of the images: 1 or 3 channels, 8 to 512 pixels on each side.
    pub input: ImageShape,
    /// Classes, 2 to 1000.
    pub classes: usize,
    /// Probability with which a feature is dropped before the last layer, in `[0, 1)`.
    pub dropout: f32,
    /// Widths of SimpleCNN's blocks, 1 to 8 of them, 1 to 2048 each; 32, 64, 128, 256, 512 if absent.
    /// The other architectures have their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<usize>>,
}

impl ModelSpec {
    /// The network it describes.
    pub fn build(&self) -> Result<Network, NnError> {
        let check = |ok: bool, what, expected, found: f64| {
            if ok { Ok(()) } else { Err(NnError::Setting { what, expected, found }) }
        };
        let ImageShape { channels, height, width } = self.input;
        check(matches!(channels, 1 | 3), "the number of image channels", "1 or 3", channels as f64)?;
        for (what, side) in [("the image height", height), ("the image width", width)] {
            check((8..=512).contains(&side), what, "8 to 512 pixels", side as f64)?;
        }
        check((2..=1000).contains(&self.classes), "the number of classes", "2 to 1000", self.classes as f64)?;
        let dropout_ok = (0.0..1.0).contains(&self.dropout);
        check(dropout_ok, "the dropout probability", "0 or more and below 1", f64::from(self.dropout))?;
        if let Some(widths) = &self.channels {
            if self.architecture != Architecture::SimpleCnn {
                return Err(NnError::FixedChannels);
            }
            let blocks = widths.len();
            check((1..=8).contains(&blocks), "the number of SimpleCNN's blocks", "1 to 8", blocks as f64)?;
            for width in widths {
                let ok = (1..=2048).contains(width);
                check(ok, "the width of a SimpleCNN block", "1 to 2048 channels", *width as f64)?;
            }
        }
        match self.architecture {
            Architecture::SimpleCnn => simple_cnn::build(self),
            Architecture::ResNet18 => resnet18::build(self),
            Architecture::DenseNet121 => densenet121::build(self),
        }
    }

    /// Whether ResNet and DenseNet get the stem for small images: 3×3, stride 1, no pooling.
    fn small_input(&self) -> bool {
        self.input.height.min(self.input.width) < 64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(architecture: Architecture, channels: usize, height: usize, width: usize) -> ModelSpec {
        let input = ImageShape { channels, height, width };
        ModelSpec { architecture, input, classes: 2, dropout: 0.0, channels: None }
    }

    #[test]
    fn parameter_counts_are_torchvisions() {
        let count = |a, c, pixels| spec(a, c, pixels, pixels).build().unwrap().layout().len();
        // 1000 classes and 3 channels in torchvision: 11 689 512 and 7 978 856.
        assert_eq!(count(Architecture::ResNet18, 3, 224), 11_689_512 - 998 * 513);
        assert_eq!(count(Architecture::DenseNet121, 3, 224), 7_978_856 - 998 * 1025);
        assert_eq!(count(Architecture::ResNet18, 1, 28), 11_689_512 - 998 * 513 - 64 * (147 - 9));
    }

    #[test]
    fn pooling_is_skipped_where_it_would_empty_the_map() {
        let network = spec(Architecture::SimpleCnn, 1, 28, 28).build().unwrap();
        let names: Vec<&str> = network.layout().views().iter().map(|v| v.name.as_str()).collect();
        let convolutions =
            ["features.0.weight", "features.4.weight", "features.8.weight", "features.12.weight"];
        assert!(convolutions.iter().all(|name| names.contains(name)));
        // 28, 14, 7, 3, 1: the fourth pool empties nothing, the fifth would.
        assert!(names.contains(&"features.16.weight") && names.contains(&"head.bias"));
        let two = ModelSpec { channels: Some(vec![8; 8]), ..spec(Architecture::SimpleCnn, 1, 8, 8) };
        let names: Vec<String> =
            two.build().unwrap().layout().views().iter().map(|v| v.name.clone()).collect();
        // 8, 4, 2, 1: from the fourth block on there is no pool, so numbers advance by three.
        for name in ["features.12.weight", "features.15.weight", "features.18.weight", "features.24.weight"] {
            assert!(names.iter().any(|n| n == name), "{name} in {names:?}");
        }
    }

    #[test]
    fn every_size_and_both_channel_counts_build() {
        for architecture in [Architecture::SimpleCnn, Architecture::ResNet18, Architecture::DenseNet121] {
            for (height, width) in [(8, 8), (28, 28), (63, 64), (64, 64), (8, 512), (65, 97), (512, 512)] {
                for channels in [1, 3] {
                    let network = spec(architecture, channels, height, width).build().unwrap();
                    let last = network.nodes().last().unwrap();
                    assert_eq!(last.shape.len(), 2, "{architecture} {height}x{width}");
                }
            }
            assert_eq!(architecture.to_string().parse::<Architecture>(), Ok(architecture));
        }
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        let good = spec(Architecture::ResNet18, 3, 32, 32);
        for bad in [
            ModelSpec { classes: 1, ..good.clone() },
            ModelSpec { dropout: 1.0, ..good.clone() },
            ModelSpec { dropout: f32::NAN, ..good.clone() },
            ModelSpec { channels: Some(vec![8]), ..good.clone() },
            ModelSpec { input: ImageShape { channels: 2, ..good.input }, ..good.clone() },
            ModelSpec { input: ImageShape { height: 7, ..good.input }, ..good.clone() },
            ModelSpec { input: ImageShape { width: 513, ..good.input }, ..good.clone() },
        ] {
            assert!(bad.build().is_err(), "{bad:?}");
        }
        for widths in [vec![], vec![0], vec![8; 9], vec![4096]] {
            let bad = ModelSpec { channels: Some(widths), ..spec(Architecture::SimpleCnn, 1, 28, 28) };
            assert!(bad.build().is_err(), "{bad:?}");
        }
        assert!("vgg".parse::<Architecture>().is_err());
    }
}
