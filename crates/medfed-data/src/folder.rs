//! Image folders: `root/{train,val,test}/CLASS/*` or `root/CLASS/*`.
//!
//! Folders below a class are searched too. Hidden files and files that are neither PNG nor JPEG by
//! their extension are skipped and counted. Classes and files are in the order of their names.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::dataset::{Dataset, DatasetParts};
use crate::error::{DataError, DataWarning};
use crate::load::LoadOptions;
use crate::pictures::Pictures;
use crate::scan::{Origin, Scan, Split};

/// Folders below a class that are followed; links in a circle end here.
const DEEPEST: usize = 8;

/// Reads the folder at `root`.
pub(crate) fn load(root: &Path, options: &LoadOptions) -> Result<Dataset, DataError> {
    let mut listing = Listing::default();
    let mut files: Vec<(Option<Split>, String, PathBuf)> = Vec::new();
    let top = listing.folders(root)?;
    let is_split = top.iter().any(|name| Split::parse(name) == Some(Split::Train));
    let mut ignored = Vec::new();
    for name in top {
        if !is_split {
            listing.images(root, Path::new(&name), 0, &mut |file| files.push((None, name.clone(), file)))?;
            continue;
        }
        let Some(split) = Split::parse(&name) else {
            ignored.push(name);
            continue;
        };
        for class in listing.folders(&root.join(&name))? {
            let folder = Path::new(&name).join(&class);
            listing.images(root, &folder, 0, &mut |file| files.push((Some(split), class.clone(), file)))?;
        }
    }
    if files.is_empty() {
        return Err(DataError::Empty { path: root.to_owned(), skipped: listing.skipped });
    }
    let mut classes: Vec<String> = files.iter().map(|(_, class, _)| class.clone()).collect();
    classes.sort();
    classes.dedup();
    // A class folder without images is a mistake of the user's, not a class that never was.
    if let Some(class) = listing.empty.into_iter().find(|name| !classes.contains(name)) {
        return Err(DataError::EmptyClass { class, within: None });
    }
    let mut scans = Vec::with_capacity(files.len());
    let mut paths = Vec::with_capacity(files.len());
    for (split, class, file) in files {
        let label = classes.partition_point(|name| *name < class) as u32;
        let mut scan = Scan::new(label, Origin::File(file.as_path().into()));
        scan.split = split;
        scans.push(scan);
        paths.push(file);
    }
    let pictures = Pictures::read(root, &paths, options)?;
    let mut warnings = pictures.warnings;
    if listing.skipped > 0 {
        warnings.push(DataWarning::SkippedFiles { count: listing.skipped });
    }
    if !ignored.is_empty() {
        warnings.push(DataWarning::IgnoredFolders { names: ignored });
    }
    Dataset::new(DatasetParts {
        name: crate::load::name_of(root),
        shape: pictures.shape,
        classes,
        scans,
        pixels: pictures.pixels,
        attributes: Vec::new(),
        warnings,
    })
}

/// What was met while listing.
#[derive(Default)]
struct Listing {
    skipped: usize,
    /// Class folders without an image.
    empty: Vec<String>,
}

impl Listing {
    /// Names and kinds of what is in `folder`, sorted; hidden entries are skipped.
    fn entries(&mut self, folder: &Path) -> Result<Vec<(String, bool)>, DataError> {
        let unreadable = |source| DataError::Read { path: folder.to_owned(), source };
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let Ok(name) = entry.file_name().into_string() else {
                self.skipped += 1;
                continue;
            };
            if name.starts_with('.') || name == "__MACOSX" {
                self.skipped += 1;
                continue;
            }
            // Links are followed; a link to nowhere counts as a file and is refused when it is read.
            let is_folder = std::fs::metadata(entry.path()).is_ok_and(|about| about.is_dir());
            entries.push((name, is_folder));
        }
        entries.sort();
        Ok(entries)
    }

    /// The folders in `folder`; files beside them are skipped.
    fn folders(&mut self, folder: &Path) -> Result<Vec<String>, DataError> {
        let (folders, files): (Vec<_>, Vec<_>) =
            self.entries(folder)?.into_iter().partition(|(_, is_folder)| *is_folder);
        self.skipped += files.len();
        Ok(folders.into_iter().map(|(name, _)| name).collect())
    }

    /// Hands every image below `root/folder` to `found`, as a path relative to `root`.
    fn images(
        &mut self,
        root: &Path,
        folder: &Path,
        depth: usize,
        found: &mut dyn FnMut(PathBuf),
    ) -> Result<usize, DataError> {
        let mut count = 0;
        for (name, is_folder) in self.entries(&root.join(folder))? {
            let path = folder.join(&name);
            if is_folder && depth < DEEPEST {
                count += self.images(root, &path, depth + 1, found)?;
            } else if !is_folder && is_image_name(&path) {
                count += 1;
                found(path);
            } else {
                self.skipped += 1;
            }
        }
        if count == 0 && depth == 0 {
            self.empty.extend(folder.file_name().and_then(OsStr::to_str).map(str::to_owned));
        }
        Ok(count)
    }
}

fn is_image_name(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase);
    matches!(extension.as_deref(), Some("png" | "jpg" | "jpeg"))
}
