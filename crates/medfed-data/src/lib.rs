//! Scans in: archives, folders, manifests, synthetic radiographs; sites, splits, batches.
