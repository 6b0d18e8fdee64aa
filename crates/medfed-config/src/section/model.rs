//! The network that is trained.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The network that is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// Architecture. All three normalise with GroupNorm: BatchNorm would mix patients.
    pub name: ModelName,
    /// Number of classes, which has to equal that of the data. Without this key that of the data, and 2
    /// for synthetic images.
    #[schemars(range(min = 2, max = 1000))]
    pub num_classes: Option<u32>,
    /// Probability with which an input of the classifying layer is dropped in training.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub dropout: f64,
    /// `false` starts from random weights, a path from the weights in that safetensors or `.pth` file.
    /// `true` asks for weights that do not come with the program, so a run refuses it.
    pub pretrained: Pretrained,
    /// Trains the classifying layer only.
    pub freeze_backbone: bool,
    /// Channels of each block of `simple_cnn`, first to last. Without this key 32, 64, 128, 256, 512.
    #[schemars(length(min = 1, max = 8), inner(range(min = 1, max = 4096)))]
    pub channels: Option<Vec<u32>>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            name: ModelName::SimpleCnn,
            num_classes: None,
            dropout: 0.0,
            pretrained: Pretrained::Shipped(false),
            freeze_backbone: false,
            channels: None,
        }
    }
}

/// An architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelName {
    /// Five blocks of convolution, GroupNorm, ReLU and max pooling.
    SimpleCnn,
    /// ResNet-18.
    Resnet18,
    /// DenseNet-121.
    Densenet121,
}

impl ModelName {
    /// The name as the configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SimpleCnn => "simple_cnn",
            Self::Resnet18 => "resnet18",
            Self::Densenet121 => "densenet121",
        }
    }
}

/// Where the first weights come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Pretrained {
    /// `false`: random weights.
    Shipped(bool),
    /// A safetensors or `.pth` file.
    File(#[schemars(length(min = 1))] PathBuf),
}
