//! Weights as users have them: safetensors or `torch.save` files.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use pytorch_reader::{DType, PytorchReader};

use super::CheckpointError;
use super::tensor_map::{Storage, TensorMap};

/// Largest `data.pkl` accepted: a few hundred bytes per tensor are usual, and parsing takes up to about
/// a hundred times the memory of the text.
const MAX_PICKLE: u64 = 4 << 20;
/// Largest weight file accepted. The largest network here has 45 MB of weights.
const MAX_FILE: u64 = 2 << 30;

/// Reads a safetensors, `.pth` or `.pt` file; the content decides, not the name.
///
/// This is the one place of the crate that opens a file: `torch.save` archives are read by seeking, and
/// their parser does that itself. A checkpoint's nested dictionaries appear as dotted names
/// (`state_dict.fc.weight`). Code in a pickle is never run.
pub fn read_weights(path: &Path) -> Result<TensorMap, CheckpointError> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    if size > MAX_FILE {
        return Err(CheckpointError::Oversized { what: "the file".to_owned(), found: size, limit: MAX_FILE });
    }
    let mut start = Vec::with_capacity(9);
    file.by_ref().take(9).read_to_end(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    // Eight bytes of length, then a JSON object. No container of PyTorch has a brace there.
    if start.get(8) == Some(&b'{') {
        let mut bytes = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut bytes)?;
        return TensorMap::from_safetensors(&bytes);
    }
    if start.starts_with(b"PK") {
        check_archive(file)?;
    }
    catch_unwind(AssertUnwindSafe(|| read_torch(path, size))).map_err(|_| CheckpointError::TorchParser)?
}

/// Refuses archives whose entries could grow on unpacking.
fn check_archive(file: File) -> Result<(), CheckpointError> {
    let torch = |error| CheckpointError::Torch(Box::new(pytorch_reader::PytorchError::Zip(error)));
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(torch)?;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(torch)?;
        let name = entry.name().map_err(torch)?;
        if entry.compression() != zip::CompressionMethod::Stored {
            return Err(CheckpointError::Compressed { entry: name.into_owned() });
        }
        if name.ends_with("data.pkl") && entry.size() > MAX_PICKLE {
            return Err(CheckpointError::Oversized {
                what: "the archive's index".to_owned(),
                found: entry.size(),
                limit: MAX_PICKLE,
            });
        }
    }
    Ok(())
}

fn read_torch(path: &Path, file_size: u64) -> Result<TensorMap, CheckpointError> {
    let reader = PytorchReader::new(path).map_err(|error| CheckpointError::Torch(Box::new(error)))?;
    let mut tensors: Vec<_> = reader.into_tensors().into_iter().collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let mut map = TensorMap::default();
    // A view may repeat its storage any number of times; honest files hold what they claim, and a
    // tensor shared by two names counts twice.
    let limit = 2 * file_size;
    let mut claimed = 0u64;
    for (name, tensor) in tensors {
        claimed = claimed.saturating_add(tensor.byte_len() as u64);
        if claimed > limit {
            let what = format!("tensor {name:?} with those before it");
            return Err(CheckpointError::Oversized { what, found: claimed, limit });
        }
        let storage = match tensor.dtype() {
            DType::F64 => Storage::F64,
            DType::F32 => Storage::F32,
            DType::F16 => Storage::F16,
            DType::BF16 => Storage::Bf16,
            _ => Storage::Integer,
        };
        if matches!(storage, Storage::Integer) {
            map.insert(&name, tensor.shape(), storage, &[])?;
        } else {
            // The reader gives native byte order, `insert` takes little-endian.
            let mut bytes = tensor.read()?;
            if cfg!(target_endian = "big") {
                bytes.chunks_exact_mut(tensor.dtype().size()).for_each(<[u8]>::reverse);
            }
            map.insert(&name, tensor.shape(), storage, &bytes)?;
        }
    }
    Ok(map)
}
