//! The header of a numpy array file (format versions 1 to 3).
//!
//! Read here and not by a crate: a hostile header overflows the element count or the stack of the
//! parsers at hand. This one is iterative, bounded, and computes no product.

use std::io::Read;

use crate::error::ArrayFault;

/// Bytes of header that are read; numpy itself warns above 10 000.
const MOST_HEADER_BYTES: usize = 10_000;
/// Dimensions that numpy supports.
const MOST_DIMENSIONS: usize = 64;

/// What an array file says about its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NpyHeader {
    /// numpy's name of the element type, `<i8`.
    pub(super) descr: String,
    /// Whether the first index runs fastest.
    pub(super) fortran_order: bool,
    /// Elements along each dimension.
    pub(super) shape: Vec<u64>,
    /// Bytes before the first element.
    pub(super) header_bytes: u64,
}

impl NpyHeader {
    /// Reads the header and leaves `reader` at the first element.
    pub(super) fn read(reader: &mut impl Read) -> Result<Self, ArrayFault> {
        let mut start = [0; 8];
        reader.read_exact(&mut start).map_err(ArrayFault::Damaged)?;
        if &start[..6] != b"\x93NUMPY" {
            return Err(ArrayFault::Header("it does not begin with numpy's signature"));
        }
        let (length, length_bytes) = match start[6] {
            1 => {
                let mut length = [0; 2];
                reader.read_exact(&mut length).map_err(ArrayFault::Damaged)?;
                (usize::from(u16::from_le_bytes(length)), 2)
            }
            2 | 3 => {
                let mut length = [0; 4];
                reader.read_exact(&mut length).map_err(ArrayFault::Damaged)?;
                (u32::from_le_bytes(length) as usize, 4)
            }
            _ => return Err(ArrayFault::Header("its format version is unknown")),
        };
        if length > MOST_HEADER_BYTES {
            return Err(ArrayFault::Header("its header is too long"));
        }
        let mut text = vec![0; length];
        reader.read_exact(&mut text).map_err(ArrayFault::Damaged)?;
        let text = std::str::from_utf8(&text).map_err(|_| ArrayFault::Header("its header is not text"))?;
        Self::parse(text, (8 + length_bytes + length) as u64)
    }

    /// Parses `{'descr': '|u1', 'fortran_order': False, 'shape': (4, 28, 28), }`.
    fn parse(text: &str, header_bytes: u64) -> Result<Self, ArrayFault> {
        let body = text.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        let mut rest = body.ok_or(ArrayFault::Header("its header is not a dictionary"))?.trim_start();
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        while !rest.is_empty() {
            let (key, after) = quoted(rest).ok_or(ArrayFault::Header("a key of its header is not text"))?;
            let value = after.trim_start().strip_prefix(':');
            let value = value.ok_or(ArrayFault::Header("a key of its header has no value"))?.trim_start();
            let after = match key {
                "descr" => {
                    let Some((text, after)) = quoted(value) else {
                        let found = "a structure".to_owned();
                        return Err(ArrayFault::Type { expected: "plain numbers", found });
                    };
                    descr = Some(text.to_owned());
                    after
                }
                "fortran_order" => {
                    let (truth, after) = match (value.strip_prefix("True"), value.strip_prefix("False")) {
                        (Some(after), _) => (true, after),
                        (_, Some(after)) => (false, after),
                        _ => return Err(ArrayFault::Header("its order is neither True nor False")),
                    };
                    fortran_order = Some(truth);
                    after
                }
                "shape" => {
                    let (numbers, after) = tuple(value).ok_or(ArrayFault::Header("its shape is no tuple"))?;
                    shape = Some(numbers);
                    after
                }
                _ => return Err(ArrayFault::Header("its header has an unknown key")),
            };
            rest = after.trim_start();
            rest = match rest.strip_prefix(',') {
                Some(after) => after.trim_start(),
                None if rest.is_empty() => rest,
                None => return Err(ArrayFault::Header("its header is not a dictionary")),
            };
        }
        match (descr, fortran_order, shape) {
            (Some(descr), Some(fortran_order), Some(shape)) => {
                Ok(Self { descr, fortran_order, shape, header_bytes })
            }
            _ => Err(ArrayFault::Header("its header lacks descr, fortran_order or shape")),
        }
    }
}

/// A text in quotes without escapes, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(quote)
}

/// A tuple of sizes, and what follows it.
fn tuple(text: &str) -> Option<(Vec<u64>, &str)> {
    let (inside, after) = text.strip_prefix('(')?.split_once(')')?;
    let mut items: Vec<&str> = inside.split(',').map(str::trim).collect();
    // A tuple of one is written "(3,)" and an empty one "()".
    if items.last() == Some(&"") {
        items.pop();
    }
    if items.len() > MOST_DIMENSIONS {
        return None;
    }
    // Python 2 wrote sizes as "3L".
    let sizes = items.into_iter().map(|item| item.strip_suffix('L').unwrap_or(item).parse().ok());
    Some((sizes.collect::<Option<_>>()?, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes
    }

    #[test]
    fn headers_as_numpy_writes_them() {
        let read = |text: &str| NpyHeader::read(&mut &file(text)[..]).unwrap();
        let text = "{'descr': '|u1', 'fortran_order': False, 'shape': (4708, 28, 28), }   \n";
        let header = read(text);
        assert_eq!((header.descr.as_str(), header.fortran_order), ("|u1", false));
        assert_eq!(header.shape, [4708, 28, 28]);
        assert_eq!(header.header_bytes, 10 + text.len() as u64);
        assert_eq!(read("{'shape':(3L,),'fortran_order':True,'descr':\"<i8\"}").shape, [3]);
        assert_eq!(read("{'descr': '<i8', 'fortran_order': False, 'shape': ()}").shape, [0u64; 0]);
    }

    #[test]
    fn hostile_headers_are_errors() {
        for text in [
            "",
            "{",
            "}",
            "{}",
            "[1]",
            "{'descr': '|u1'}",
            "{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (1,)}",
            "{'descr': '|u1', 'fortran_order': 0, 'shape': (1,)}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (-1,)}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999,)}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (1,, 2)}",
            "{'descr': '|u1' 'fortran_order': False, 'shape': (1,)}",
            "{é: 1}",
        ] {
            assert!(NpyHeader::read(&mut &file(text)[..]).is_err(), "{text}");
        }
        assert!(NpyHeader::read(&mut &file(&"(".repeat(9_000))[..]).is_err());
        assert!(NpyHeader::read(&mut &b"\x93NUMPY\x02\x00\xff\xff\xff\xff"[..]).is_err());
    }
}
