//! The Merkle tree against RFC 6962 as an independent program reads it (`testdata/generators/audit_merkle.py`).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use medfed_audit::merkle::{Digest, Tree, continues, includes};
use proptest::prelude::*;
use serde_json::Value;

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/audit_merkle.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn bytes(hex: &Value) -> Vec<u8> {
    let text = hex.as_str().unwrap().as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    text.as_chunks().0.iter().map(|[high, low]| digit(*high) << 4 | digit(*low)).collect()
}

fn digest(hex: &Value) -> Digest {
    Digest::from_hex(hex.as_str().unwrap()).unwrap()
}

fn list(values: &Value) -> &Vec<Value> {
    values.as_array().unwrap()
}

fn tree_of(entries: &Value) -> Tree {
    let mut tree = Tree::default();
    for entry in list(entries) {
        tree.push(Digest::of_leaf(&bytes(entry)));
    }
    tree
}

#[test]
fn stored_vectors_are_met() {
    let vectors = vectors();
    let known = tree_of(&vectors["known"]["entries"]);
    for (size, root) in (1..).zip(list(&vectors["known"]["roots"])) {
        assert_eq!(known.root_at(size), Some(digest(root)));
    }
    let tree = tree_of(&vectors["entries"]);
    let roots: Vec<Digest> = list(&vectors["roots"]).iter().map(digest).collect();
    for (size, root) in (0..).zip(&roots) {
        assert_eq!(tree.root_at(size), Some(*root));
    }
    assert_eq!((tree.root(), tree.root_at(34)), (roots[33], None));
    for row in list(&vectors["inclusion"]) {
        let (index, size) = (row[0].as_u64().unwrap(), row[1].as_u64().unwrap());
        let path: Vec<Digest> = list(&row[2]).iter().map(digest).collect();
        assert_eq!(tree.inclusion(index, size), Some(path.clone()), "{row}");
        assert!(includes(tree.node(0, index).unwrap(), index, size, &path, roots[size as usize]), "{row}");
    }
    for row in list(&vectors["consistency"]) {
        let (old, size) = (row[0].as_u64().unwrap(), row[1].as_u64().unwrap());
        let proof: Vec<Digest> = list(&row[2]).iter().map(digest).collect();
        assert_eq!(tree.consistency(old, size), Some(proof.clone()), "{row}");
        assert!(continues(old, roots[old as usize], size, roots[size as usize], &proof), "{row}");
    }
}

fn grown(size: u64, salt: u8) -> Tree {
    let mut tree = Tree::default();
    (0..size).for_each(|index| tree.push(Digest::of_leaf(&[&[salt][..], &index.to_le_bytes()].concat())));
    tree
}

/// The proof with one hash changed, one added, one dropped, or two swapped.
fn spoiled(proof: &[Digest], how: u8, at: usize) -> Vec<Digest> {
    let mut proof = proof.to_vec();
    let at = at % (proof.len() + 1);
    match how {
        0 => proof.insert(at, Digest::of(b"more")),
        1 if at < proof.len() => drop(proof.remove(at)),
        2 if at + 1 < proof.len() => proof.swap(at, at + 1),
        _ if at < proof.len() => proof[at] = Digest::of(b"other"),
        _ => proof.push(Digest::of(b"more")),
    }
    proof
}

proptest! {
    #[test]
    fn proofs_hold_and_spoiled_ones_do_not(size in 1_u64..700, a in 0_u64..700, b in 0_u64..700, how in 0_u8..4, at in 0_usize..12) {
        let tree = grown(size, 1);
        let (index, old) = (a % size, 1 + b % size);
        let (leaf, root) = (tree.node(0, index).unwrap(), tree.root());
        let path = tree.inclusion(index, size).unwrap();
        prop_assert!(path.len() <= 10 && includes(leaf, index, size, &path, root));
        prop_assert!(!includes(leaf, index, size, &spoiled(&path, how, at), root));
        prop_assert!(!includes(Digest::of(b"x"), index, size, &path, root));
        prop_assert!(!includes(leaf, size, size, &path, root));
        let proof = tree.consistency(old, size).unwrap();
        let old_root = tree.root_at(old).unwrap();
        prop_assert!(continues(old, old_root, size, root, &proof));
        prop_assert!(!continues(old, old_root, size, root, &spoiled(&proof, how, at)));
        let fork = grown(size, 2);
        prop_assert!(!continues(old, fork.root_at(old).unwrap(), size, root, &proof));
        prop_assert!(!continues(size, root, old, old_root, &proof) || old == size);
    }

    #[test]
    fn sizes_that_are_only_claimed_never_panic(numbers in prop::array::uniform2(any::<u64>()), count in 0_usize..70) {
        let proof = vec![Digest::of(b"node"); count];
        let [a, b] = numbers;
        prop_assert!(!includes(Digest::of(b"leaf"), a, b, &proof, Digest::of(b"root")));
        prop_assert!(!continues(a, Digest::of(b"old"), b, Digest::of(b"root"), &proof));
        prop_assert!(Tree::default().consistency(a, b.max(1)).is_none());
    }
}
