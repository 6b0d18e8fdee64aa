//! The saved state of machines as the store keeps it.

use medfed_federation::Snapshot;
use medfed_store::ProgressPart;
use serde_json::Value;
use std::collections::BTreeMap;

/// Between an owner and the name of one of its buffers; no site's name has it.
const SEPARATOR: char = '/';

/// One part for each snapshot, and one for each of its buffers.
pub fn to_parts(state: &[Snapshot]) -> Vec<ProgressPart> {
    let mut parts = Vec::new();
    for snapshot in state {
        let (owner, meta) = (snapshot.owner.clone(), snapshot.meta.clone());
        parts.push(ProgressPart { owner, meta, bytes: Vec::new() });
        for (name, bytes) in &snapshot.blobs {
            let owner = format!("{}{SEPARATOR}{name}", snapshot.owner);
            parts.push(ProgressPart { owner, meta: Value::Null, bytes: bytes.clone() });
        }
    }
    parts
}

/// The snapshots that were kept as these parts.
pub fn from_parts(parts: Vec<ProgressPart>) -> Vec<Snapshot> {
    let mut found: BTreeMap<String, Snapshot> = BTreeMap::new();
    let empty = |owner: &str| Snapshot { owner: owner.to_owned(), meta: Value::Null, blobs: BTreeMap::new() };
    for ProgressPart { owner, meta, bytes } in parts {
        match owner.split_once(SEPARATOR) {
            Some((owner, name)) => {
                let snapshot = found.entry(owner.to_owned()).or_insert_with(|| empty(owner));
                snapshot.blobs.insert(name.to_owned(), bytes);
            }
            None => found.entry(owner.clone()).or_insert_with(|| empty(&owner)).meta = meta,
        }
    }
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn snapshots_come_back() {
        let snapshot = |owner: &str, blobs: &[(&str, &[u8])]| Snapshot {
            owner: owner.to_owned(),
            meta: json!({ "owner": owner }),
            blobs: blobs.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect(),
        };
        let state = vec![
            snapshot("coordinator", &[("best", b"b"), ("global", b"g")]),
            snapshot("protocol", &[]),
            snapshot("site North", &[("optimizer", b"")]),
        ];
        assert_eq!(from_parts(to_parts(&state)), state);
        assert!(from_parts(Vec::new()).is_empty());
    }
}
