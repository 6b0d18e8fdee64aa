//! The Merkle tree of RFC 6962, section 2.1: root, audit path, consistency proof, and their checks.
//!
//! A leaf is SHA-256(0x00 ‖ entry), an inner node SHA-256(0x01 ‖ left ‖ right). A tree of n leaves splits at
//! the largest power of two below n, so a complete subtree, once there, never changes. [`Tree`] keeps
//! complete subtrees only: 64 bytes for each leaf, and proofs in logarithmic time for every earlier size.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

/// A SHA-256 hash: of an entry, of a subtree, of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The hash as bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The hash of an entry as a leaf.
    pub fn of_leaf(entry: &[u8]) -> Self {
        Self(Sha256::new_with_prefix([0]).chain_update(entry).finalize().into())
    }

    /// The hash of the node above two others.
    pub fn of_node(left: Self, right: Self) -> Self {
        Self(Sha256::new_with_prefix([1]).chain_update(left.0).chain_update(right.0).finalize().into())
    }

    /// The root of the tree without leaves.
    pub fn of_nothing() -> Self {
        Self::of(&[])
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 lower-case hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digit = |byte: u8| char::from(byte).to_digit(16).filter(|_| !byte.is_ascii_uppercase());
        let (pairs, odd) = text.as_bytes().as_chunks::<2>();
        let mut hash = [0; 32];
        if !odd.is_empty() || pairs.len() != hash.len() {
            return None;
        }
        for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
            *byte = (digit(*high)? << 4 | digit(*low)?) as u8;
        }
        Some(Self(hash))
    }

    /// The hash as base64, as checkpoints and proofs write it.
    pub(crate) fn to_base64(self) -> String {
        STANDARD.encode(self.0)
    }

    /// Reads the base64 of 32 bytes.
    pub(crate) fn from_base64(text: &str) -> Option<Self> {
        // 44 characters hold 32 bytes; longer text is not worth decoding.
        let bytes = (text.len() == 44).then(|| STANDARD.decode(text).ok()).flatten()?;
        bytes.try_into().ok().map(Self)
    }
}

/// Lower-case hexadecimal.
impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A tree that grows leaf by leaf and knows every smaller tree that it was.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// `levels[h][i]` is the root of the complete subtree over leaves `i·2^h .. (i + 1)·2^h`.
    levels: Vec<Vec<Digest>>,
}

impl Tree {
    /// Number of leaves.
    pub fn len(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// Whether there is no leaf.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a leaf, given by its hash.
    pub fn push(&mut self, leaf: Digest) {
        let mut node = leaf;
        for height in 0.. {
            if height == self.levels.len() {
                self.levels.push(Vec::new());
            }
            let level = &mut self.levels[height];
            level.push(node);
            // An even number of nodes: the last two have a parent.
            let (pairs, []) = level.as_chunks::<2>() else { return };
            let Some([left, right]) = pairs.last() else { return };
            node = Digest::of_node(*left, *right);
        }
    }

    /// The node over the complete subtree number `index` of 2^`height` leaves.
    pub fn node(&self, height: u32, index: u64) -> Option<Digest> {
        let level = self.levels.get(height as usize)?;
        level.get(usize::try_from(index).ok()?).copied()
    }

    /// The root over all leaves.
    pub fn root(&self) -> Digest {
        self.subtree(0, self.len())
    }

    /// The root over the first `size` leaves, if there are so many.
    pub fn root_at(&self, size: u64) -> Option<Digest> {
        (size <= self.len()).then(|| self.subtree(0, size))
    }

    /// The audit path of leaf `index` in the tree of the first `size` leaves (RFC 6962, 2.1.1).
    pub fn inclusion(&self, index: u64, size: u64) -> Option<Vec<Digest>> {
        if index >= size || size > self.len() {
            return None;
        }
        let (mut low, mut high) = (0, size);
        let mut path = Vec::new();
        // From the root down; the path is written from the leaf up.
        while high - low > 1 {
            let middle = low + split(high - low);
            if index < middle {
                path.push(self.subtree(middle, high));
                high = middle;
            } else {
                path.push(self.subtree(low, middle));
                low = middle;
            }
        }
        path.reverse();
        Some(path)
    }

    /// The proof that the tree of `size` leaves continues that of `old` leaves (RFC 6962, 2.1.2). It is
    /// empty where `old` is 0 or `size`.
    pub fn consistency(&self, old: u64, size: u64) -> Option<Vec<Digest>> {
        if old > size || size > self.len() {
            return None;
        }
        if old == 0 || old == size {
            return Some(Vec::new());
        }
        let (mut low, mut high) = (0, size);
        let mut proof = Vec::new();
        // SUBPROOF(m, D, b): the old tree ends within low..high until it ends exactly at high.
        while old != high {
            let middle = low + split(high - low);
            if old <= middle {
                proof.push(self.subtree(middle, high));
                high = middle;
            } else {
                proof.push(self.subtree(low, middle));
                low = middle;
            }
        }
        // b is true as long as the left edge was never left: then the old root itself is known.
        if low > 0 {
            proof.push(self.subtree(low, high));
        }
        proof.reverse();
        Some(proof)
    }

    /// The root over leaves `low..high`, which start a complete subtree.
    fn subtree(&self, low: u64, high: u64) -> Digest {
        let leaves = high - low;
        if leaves == 0 {
            return Digest::of_nothing();
        }
        if leaves.is_power_of_two() {
            let height = leaves.trailing_zeros();
            return self.node(height, low >> height).expect("callers stay within the leaves there are");
        }
        let middle = low + split(leaves);
        Digest::of_node(self.subtree(low, middle), self.subtree(middle, high))
    }
}

/// The largest power of two below `leaves`, which is at least 2.
fn split(leaves: u64) -> u64 {
    1 << (leaves - 1).ilog2()
}

/// Whether `path` leads from `leaf`, number `index`, to the root of a tree of `size` leaves (RFC 9162,
/// 2.1.3.2).
pub fn includes(leaf: Digest, index: u64, size: u64, path: &[Digest], root: Digest) -> bool {
    if index >= size {
        return false;
    }
    let (mut node_index, mut last) = (index, size - 1);
    let mut node = leaf;
    for sibling in path {
        if last == 0 {
            return false;
        }
        if node_index & 1 == 1 || node_index == last {
            node = Digest::of_node(*sibling, node);
            // A right edge that is alone on its level moves up until it has a left sibling.
            let shift = node_index.trailing_zeros();
            if node_index & 1 == 0 {
                (node_index, last) = (node_index.unbounded_shr(shift), last.unbounded_shr(shift));
            }
        } else {
            node = Digest::of_node(node, *sibling);
        }
        (node_index, last) = (node_index >> 1, last >> 1);
    }
    last == 0 && node == root
}

/// Whether `proof` shows that the tree of `size` leaves with `root` continues the tree of `old` leaves
/// with `old_root` (RFC 9162, 2.1.4.2).
pub fn continues(old: u64, old_root: Digest, size: u64, root: Digest, proof: &[Digest]) -> bool {
    if old > size {
        return false;
    }
    if old == size {
        return proof.is_empty() && old_root == root;
    }
    if old == 0 {
        return proof.is_empty() && old_root == Digest::of_nothing();
    }
    // A complete old tree is a node of the new one and is not repeated in the proof.
    let mut rest = proof.iter();
    let first = if old.is_power_of_two() { Some(&old_root) } else { rest.next() };
    let Some(first) = first else { return false };
    let (mut node, mut last) = (old - 1, size - 1);
    let shift = node.trailing_ones();
    (node, last) = (node.unbounded_shr(shift), last.unbounded_shr(shift));
    let (mut from_old, mut from_new) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            from_old = Digest::of_node(*sibling, from_old);
            from_new = Digest::of_node(*sibling, from_new);
            if node & 1 == 0 {
                let shift = node.trailing_zeros();
                (node, last) = (node.unbounded_shr(shift), last.unbounded_shr(shift));
            }
        } else {
            from_new = Digest::of_node(from_new, *sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    last == 0 && from_old == old_root && from_new == root
}
