//! Named tensors, whatever file they come from.

use std::collections::{BTreeMap, BTreeSet};

use half::{bf16, f16};
use medfed_types::ParameterLayout;
use safetensors::{Dtype, SafeTensors};

use super::CheckpointError;

/// Longest tensor name accepted, in bytes; torchvision's longest has about 50.
const MAX_NAME: usize = 512;
/// Most names compared when the nearest is looked for.
const MAX_COMPARED: usize = 4096;

/// A tensor in 32 bits.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Extents, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Elements in row-major order, all finite.
    pub values: Vec<f32>,
}

/// Finite floating-point tensors by name. Integer tensors (step counters) are known by name only.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TensorMap {
    pub(super) tensors: BTreeMap<String, Tensor>,
    pub(super) integers: BTreeSet<String>,
}

/// How the elements of a tensor are stored, little-endian.
#[derive(Debug, Clone, Copy)]
pub(super) enum Storage {
    F64,
    F32,
    F16,
    Bf16,
    Integer,
}

impl TensorMap {
    /// Reads a safetensors file; 16- and 64-bit floats become 32-bit ones.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let mut map = Self::default();
        for (name, view) in SafeTensors::deserialize(bytes)?.iter() {
            let storage = match view.dtype() {
                Dtype::F64 => Storage::F64,
                Dtype::F32 => Storage::F32,
                Dtype::F16 => Storage::F16,
                Dtype::BF16 => Storage::Bf16,
                Dtype::BOOL
                | Dtype::U8
                | Dtype::I8
                | Dtype::I16
                | Dtype::U16
                | Dtype::I32
                | Dtype::U32
                | Dtype::I64
                | Dtype::U64 => Storage::Integer,
                other => {
                    let found = format!("{other:?}");
                    return Err(CheckpointError::ElementType { name: name.to_owned(), found });
                }
            };
            map.insert(name, view.shape(), storage, view.data())?;
        }
        Ok(map)
    }

    /// Number of floating-point tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is no floating-point tensor.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The floating-point tensor of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// The flat buffer of a network that has exactly these tensors, in these shapes.
    pub fn into_parameters(mut self, layout: &ParameterLayout) -> Result<Vec<f32>, CheckpointError> {
        // A layout from a hostile file's metadata may be far larger than the file.
        let there: usize = self.tensors.values().map(|tensor| tensor.values.len()).sum();
        let mut parameters = Vec::with_capacity(layout.len().min(there));
        for view in layout.views() {
            let Some(tensor) = self.tensors.remove(&view.name) else {
                let foreign = self.tensors.keys().filter(|name| layout.find(name).is_none());
                let nearest = nearest(&view.name, foreign.map(String::as_str));
                return Err(CheckpointError::Missing { name: view.name.clone(), nearest });
            };
            if tensor.shape != view.shape {
                return Err(CheckpointError::Shape {
                    name: view.name.clone(),
                    expected: view.shape.clone(),
                    found: tensor.shape,
                });
            }
            parameters.extend_from_slice(&tensor.values);
        }
        if let Some(name) = self.tensors.keys().chain(&self.integers).next() {
            let nearest = nearest(name, layout.views().iter().map(|view| view.name.as_str()));
            return Err(CheckpointError::Unexpected { name: name.clone(), nearest });
        }
        Ok(parameters)
    }

    /// Takes in one tensor given by its bytes.
    pub(super) fn insert(
        &mut self,
        name: &str,
        shape: &[usize],
        storage: Storage,
        bytes: &[u8],
    ) -> Result<(), CheckpointError> {
        if name.len() > MAX_NAME {
            return Err(CheckpointError::Oversized {
                what: "a tensor's name".to_owned(),
                found: name.len() as u64,
                limit: MAX_NAME as u64,
            });
        }
        if self.tensors.contains_key(name) || self.integers.contains(name) {
            return Err(CheckpointError::Duplicate { name: name.to_owned() });
        }
        let values: Vec<f32> = match storage {
            Storage::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
            Storage::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Storage::F16 => bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            Storage::Bf16 => bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            Storage::Integer => {
                self.integers.insert(name.to_owned());
                return Ok(());
            }
        };
        if let Some(index) = values.iter().position(|v| !v.is_finite()) {
            return Err(CheckpointError::NonFinite { name: name.to_owned(), index });
        }
        if shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)) != Some(values.len()) {
            return Err(CheckpointError::Shape {
                name: name.to_owned(),
                expected: vec![values.len()],
                found: shape.to_vec(),
            });
        }
        self.tensors.insert(name.to_owned(), Tensor { shape: shape.to_vec(), values });
        Ok(())
    }
}

/// The name most like `name`, if one is alike at all.
pub(super) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    candidates
        .take(MAX_COMPARED)
        .map(|candidate| (strsim::normalized_damerau_levenshtein(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.to_owned())
}
