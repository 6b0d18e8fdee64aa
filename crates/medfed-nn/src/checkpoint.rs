//! Model files: safetensors with torchvision's names, and weights that come from PyTorch.
//!
//! [`Checkpoint`] is this project's own file: every tensor of the network plus [`CheckpointMetadata`]
//! (what the network is, how its input is normalised, what the outputs mean, what privacy was spent) as
//! strings in the file's `__metadata__`. Written bytes depend on the content alone. Loaded into
//! torchvision's network with GroupNorm in place of BatchNorm it gives the same logits.
//!
//! [`TensorMap`] holds named tensors from anywhere, and [`adapt`] fits them to a network as pretrained
//! weights, reporting tensor by tensor what it did.
//!
//! Files are hostile until read: lengths are checked against what is really there, weights must be
//! finite, and nothing panics. What is *not* checked is whether the weights are any good.

mod metadata;
mod pretrained;
mod tensor_map;
mod torch_file;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use medfed_types::ParameterLayout;

pub use metadata::{CheckpointMetadata, Normalization, PrivacyStatement};
pub use pretrained::{AdaptReport, FreshReason, GroupsOf, KeptFresh, Target, adapt};
pub use tensor_map::{Tensor, TensorMap};
pub use torch_file::read_weights;

/// A model file that cannot be written, read or fitted to a network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file cannot be opened or read.
    #[error("the file cannot be read")]
    Io(#[from] std::io::Error),
    /// Not a valid safetensors file.
    #[error("not a valid safetensors file")]
    Safetensors(#[from] safetensors::SafeTensorError),
    /// Not a valid PyTorch file.
    #[error("not a valid PyTorch file (or one of tensors only: use `torch.save(model.state_dict(), ..)`)")]
    Torch(#[source] Box<pytorch_reader::PytorchError>),
    /// The PyTorch file broke its parser.
    #[error("the PyTorch file is damaged in a way that its parser does not survive")]
    TorchParser,
    /// A PyTorch archive whose entries are compressed, which `torch.save` never does.
    #[error("archive entry {entry:?} is compressed, which PyTorch does not do: unpack and save it again")]
    Compressed {
        /// The first such entry.
        entry: String,
    },
    /// Something in the file claims more than it can hold.
    #[error("{what} claims {found} bytes, at most {limit} are plausible")]
    Oversized {
        /// The thing, in words.
        what: String,
        /// Bytes claimed.
        found: u64,
        /// Largest size accepted.
        limit: u64,
    },
    /// Two tensors end up with one name.
    #[error("tensor {name:?} appears twice")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// Elements of a type that no weight has.
    #[error("tensor {name:?} has elements of type {found}, expected float 16, 32, 64 or bfloat16")]
    ElementType {
        /// The tensor.
        name: String,
        /// The type found.
        found: String,
    },
    /// A weight that is not a number, or overflows 32 bits.
    #[error("tensor {name:?} has a value that is not finite in 32 bits (element {index})")]
    NonFinite {
        /// The tensor.
        name: String,
        /// Row-major index of the first such element.
        index: usize,
    },
    /// A tensor that the network needs is not there.
    #[error("tensor {name:?} is missing{}", nearest_name(nearest.as_deref()))]
    Missing {
        /// The tensor.
        name: String,
        /// The most similar name in the file.
        nearest: Option<String>,
    },
    /// A tensor that the network does not have.
    #[error("tensor {name:?} does not belong to the network{}", nearest_name(nearest.as_deref()))]
    Unexpected {
        /// The tensor.
        name: String,
        /// The most similar name in the network.
        nearest: Option<String>,
    },
    /// A tensor of another shape than the network's.
    #[error("tensor {name:?} has the shape {found:?}, the network needs {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// The network's shape.
        expected: Vec<usize>,
        /// The file's shape.
        found: Vec<usize>,
    },
    /// BatchNorm statistics that cannot be folded into a GroupNorm.
    #[error("BatchNorm {name:?} cannot be folded into GroupNorm: {reason}")]
    BatchNorm {
        /// The layer.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// A parameter buffer of another length than its layout.
    #[error("the parameter buffer has {found} elements, its layout {expected}")]
    Parameters {
        /// Elements in the layout.
        expected: usize,
        /// Elements in the buffer.
        found: usize,
    },
    /// A metadata key that is needed is not there.
    #[error("metadata key {key:?} is missing: the file was not written by medfed")]
    MetadataMissing {
        /// The key.
        key: &'static str,
    },
    /// A metadata value that cannot be used.
    #[error("metadata key {key:?} is {found:?}, expected {expected}")]
    MetadataValue {
        /// The key.
        key: &'static str,
        /// The value found.
        found: String,
        /// What is expected, in words.
        expected: &'static str,
    },
}

fn nearest_name(nearest: Option<&str>) -> String {
    let mut text = String::new();
    if let Some(name) = nearest {
        // Writing to a `String` cannot fail.
        let _ = write!(text, " (the nearest name is {name:?})");
    }
    text
}

/// A trained model as read from its file.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    metadata: CheckpointMetadata,
    tensors: TensorMap,
}

impl Checkpoint {
    /// The file's bytes for a network's parameters. Parameters must be finite. Equal input gives equal
    /// bytes.
    pub fn write(
        layout: &ParameterLayout,
        parameters: &[f32],
        metadata: &CheckpointMetadata,
    ) -> Result<Vec<u8>, CheckpointError> {
        if parameters.len() != layout.len() {
            return Err(CheckpointError::Parameters { expected: layout.len(), found: parameters.len() });
        }
        for view in layout.views() {
            if let Some(index) = parameters[view.range()].iter().position(|v| !v.is_finite()) {
                return Err(CheckpointError::NonFinite { name: view.name.clone(), index });
            }
        }
        // The header is written here because the library's own writer orders metadata at random.
        let mut header = serde_json::Map::new();
        let metadata: BTreeMap<&str, String> = metadata.to_strings()?;
        header.insert("__metadata__".to_owned(), serde_json::json!(metadata));
        for view in layout.views() {
            let (start, end) = (4 * view.offset, 4 * (view.offset + view.len));
            let entry =
                serde_json::json!({"dtype": "F32", "shape": view.shape, "data_offsets": [start, end]});
            header.insert(view.name.clone(), entry);
        }
        let mut header = serde_json::Value::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut out = Vec::with_capacity(8 + header.len() + 4 * parameters.len());
        out.extend_from_slice(&(header.len() as u64).to_le_bytes());
        out.extend_from_slice(&header);
        for value in parameters {
            out.extend_from_slice(&value.to_le_bytes());
        }
        Ok(out)
    }

    /// Reads a file written by [`write`](Self::write), or by PyTorch with the same metadata.
    pub fn read(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let (_, header) = safetensors::SafeTensors::read_metadata(bytes)?;
        let empty = std::collections::HashMap::new();
        let metadata = CheckpointMetadata::from_strings(header.metadata().as_ref().unwrap_or(&empty))?;
        Ok(Self { metadata, tensors: TensorMap::from_safetensors(bytes)? })
    }

    /// What the model is and where it comes from.
    pub fn metadata(&self) -> &CheckpointMetadata {
        &self.metadata
    }

    /// The flat parameter buffer of the network with this layout: exactly its tensors, in its shapes.
    pub fn into_parameters(self, layout: &ParameterLayout) -> Result<Vec<f32>, CheckpointError> {
        self.tensors.into_parameters(layout)
    }
}

#[cfg(test)]
mod tests;
