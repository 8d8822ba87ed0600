//! Tensors of a safetensors file, memory-mapped where it lies on disk: found by the names that BERT-type checkpoints
//! use, and checked before anything computes with them.

use std::collections::HashMap;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

/// The tensor that every checkpoint has; what stands before its name stands before all others.
const FIRST: &str = "embeddings.word_embeddings.weight";

/// The content of a file: compiled into the program, or mapped into memory.
#[derive(Debug)]
pub enum Bytes {
    /// Part of the program.
    Static(&'static [u8]),
    /// In memory.
    Owned(Vec<u8>),
    /// Mapped; pages are read when they are used, and shared between processes.
    Mapped(memmap2::Mmap),
}

impl Bytes {
    /// Maps a file.
    ///
    /// # Errors
    /// It cannot be opened or mapped.
    pub fn map(path: &Path) -> std::io::Result<Bytes> {
        let file = std::fs::File::open(path)?;
        // SAFETY: the mapping is private and only read as bytes. Cutting the file while it is in use ends the program
        // with a bus error, as with every mapped file; checkpoints are replaced, not rewritten in place.
        #[allow(unsafe_code)]
        let mapped = unsafe { memmap2::MmapOptions::new().map_copy_read_only(&file)? };
        Ok(Bytes::Mapped(mapped))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Static(bytes) => bytes,
            Bytes::Owned(bytes) => bytes,
            Bytes::Mapped(bytes) => bytes,
        }
    }
}

/// Number formats that are read.
#[derive(Debug, Clone, Copy)]
enum Format {
    F32,
    F16,
    Bf16,
}

impl Format {
    fn size(self) -> usize {
        match self {
            Format::F32 => 4,
            Format::F16 | Format::Bf16 => 2,
        }
    }

    fn read(self, bytes: &[u8], into: &mut [f32]) {
        match self {
            Format::F32 => {
                let (numbers, _) = bytes.as_chunks();
                for (value, bytes) in into.iter_mut().zip(numbers) {
                    *value = f32::from_le_bytes(*bytes);
                }
            }
            Format::F16 => widen(bytes, into, f16::from_le_bytes, |from, into| from.convert_to_f32_slice(into)),
            Format::Bf16 => widen(bytes, into, bf16::from_le_bytes, |from, into| from.convert_to_f32_slice(into)),
        }
    }
}

/// Widens 16-bit numbers in pieces, for which the library has vector instructions; in the file they are not aligned.
fn widen<T: Copy + Default>(
    bytes: &[u8],
    into: &mut [f32],
    number: impl Fn([u8; 2]) -> T,
    convert: impl Fn(&[T], &mut [f32]),
) {
    const PIECE: usize = 64;
    let mut aligned = [T::default(); PIECE];
    let (numbers, _) = bytes.as_chunks();
    for (numbers, into) in numbers.chunks(PIECE).zip(into.chunks_mut(PIECE)) {
        for (aligned, bytes) in aligned.iter_mut().zip(numbers) {
            *aligned = number(*bytes);
        }
        convert(&aligned[..numbers.len()], into);
    }
}

struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

/// The tensors of one file.
pub struct Tensors {
    bytes: Arc<Bytes>,
    entries: HashMap<String, Entry>,
    prefix: String,
}

/// A matrix that stays as it is stored; rows are widened when they are read.
pub struct Table {
    bytes: Arc<Bytes>,
    place: Range<usize>,
    width: usize,
    format: Format,
}

impl Table {
    /// Writes a row into a buffer of its width.
    pub fn read_row(&self, row: usize, into: &mut [f32]) {
        let size = self.width * self.format.size();
        let start = self.place.start + row * size;
        self.format.read(&self.bytes[start..start + size], into);
    }
}

impl Tensors {
    /// Reads the header of a file with the weights of a BERT-type model.
    ///
    /// # Errors
    /// A sentence on what is wrong with the file.
    pub fn of_checkpoint(bytes: Bytes) -> Result<Tensors, String> {
        let tensors = Tensors::parse(bytes)?;
        let Some(name) = tensors.entries.keys().filter(|name| name.ends_with(FIRST)).min() else {
            return Err(format!("tensor `{FIRST}` is missing; expected the weights of a BERT-type model"));
        };
        let prefix = name[..name.len() - FIRST.len()].to_owned();
        Ok(Tensors { prefix, ..tensors })
    }

    /// Reads the header of a safetensors file.
    ///
    /// # Errors
    /// A sentence on what is wrong with the file.
    pub fn parse(bytes: Bytes) -> Result<Tensors, String> {
        let incomplete = |error| format!("not a complete safetensors file: {error}");
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(incomplete)?;
        let start = size_of::<u64>() + header;
        // The header is checked against itself only; the file may end before its last tensor.
        SafeTensors::deserialize(&bytes).map_err(incomplete)?;
        let entry = |info: &safetensors::tensor::TensorInfo| Entry {
            dtype: info.dtype,
            shape: info.shape.clone(),
            bytes: start + info.data_offsets.0..start + info.data_offsets.1,
        };
        let entries: HashMap<String, Entry> =
            metadata.tensors().into_iter().map(|(name, info)| (name, entry(info))).collect();
        Ok(Tensors { bytes: Arc::new(bytes), entries, prefix: String::new() })
    }

    /// The shape of a tensor, by its name without prefix.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(&format!("{}{name}", self.prefix)).map(|entry| entry.shape.as_slice())
    }

    /// A tensor as f32, row-major, by its name without prefix.
    ///
    /// # Errors
    /// A sentence that names the tensor: it is missing, has another shape, or holds values that are not finite.
    pub fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
        let (full, format, place) = self.find(name, shape)?;
        let mut values = vec![0.0; shape.iter().product()];
        format.read(&self.bytes[place], &mut values);
        check(&full, &values)?;
        Ok(values)
    }

    /// A tensor of bytes of a type, row-major, by its name without prefix.
    ///
    /// # Errors
    /// As [`Tensors::read`].
    pub fn read_bytes(&self, name: &str, shape: &[usize], dtype: Dtype) -> Result<&[u8], String> {
        let (full, entry) = self.entry(name, shape)?;
        if entry.dtype != dtype {
            return Err(format!("tensor `{full}` has numbers of type {:?}; expected {dtype:?}", entry.dtype));
        }
        Ok(&self.bytes[entry.bytes.clone()])
    }

    /// A matrix that stays in the file.
    ///
    /// # Errors
    /// As [`Tensors::read`].
    pub fn table(&self, name: &str, shape: [usize; 2]) -> Result<Table, String> {
        let (full, format, place) = self.find(name, &shape)?;
        let table = Table { bytes: Arc::clone(&self.bytes), place, width: shape[1], format };
        let mut row = vec![0.0; shape[1]];
        for index in 0..shape[0] {
            table.read_row(index, &mut row);
            check(&full, &row)?;
        }
        Ok(table)
    }

    fn entry(&self, name: &str, shape: &[usize]) -> Result<(String, &Entry), String> {
        let full = format!("{}{name}", self.prefix);
        // Checkpoints converted from TensorFlow call LayerNorm's parameters gamma and beta.
        let legacy = full.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        let Some(entry) = self.entries.get(&full).or_else(|| self.entries.get(&legacy)) else {
            return Err(format!("tensor `{full}` is missing; expected shape {shape:?}"));
        };
        if entry.shape != shape {
            return Err(format!("tensor `{full}` has shape {:?}; config.json asks for {shape:?}", entry.shape));
        }
        Ok((full, entry))
    }

    fn find(&self, name: &str, shape: &[usize]) -> Result<(String, Format, Range<usize>), String> {
        let (full, entry) = self.entry(name, shape)?;
        let format = match entry.dtype {
            Dtype::F32 => Format::F32,
            Dtype::F16 => Format::F16,
            Dtype::BF16 => Format::Bf16,
            other => return Err(format!("tensor `{full}` has numbers of type {other:?}; expected F32, F16 or BF16")),
        };
        Ok((full, format, entry.bytes.clone()))
    }
}

fn check(name: &str, values: &[f32]) -> Result<(), String> {
    match values.iter().all(|value| value.is_finite()) {
        true => Ok(()),
        false => Err(format!("tensor `{name}` holds values that are not finite")),
    }
}
