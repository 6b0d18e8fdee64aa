//! Every stored known answer says how it was made.

use serde_json::Value;

use super::{Finding, has_extension};
use crate::workspace::Tree;

const FOLDER: &str = "testdata/";
const GENERATORS: &str = "testdata/generators/";

/// Files that nobody wrote by hand.
const EXTENSIONS: [&str; 7] = ["json", "npz", "npy", "safetensors", "pth", "png", "bin"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let hint = "put its script into testdata/generators, and name the file there or the script in the file";
    tree.paths()
        .filter(|path| path.starts_with(FOLDER) && has_extension(path, &EXTENSIONS))
        .filter(|path| !names_its_generator(tree, path) && !is_named_by_a_generator(tree, path))
        .map(|path| Finding::new(path, 1, "nothing says how this file was made", hint))
        .collect()
}

/// The file has a top-level key `generator` or `source` with the name of a script that exists.
fn names_its_generator(tree: &Tree, path: &str) -> bool {
    let content: Option<Value> = tree.text(path).and_then(|text| serde_json::from_str(text).ok());
    let named = content.iter().flat_map(|content| [&content["generator"], &content["source"]]);
    let words = named.filter_map(Value::as_str).flat_map(|named| named.split([' ', ',', ';', '(', ')']));
    words.filter(|word| word.contains('.')).any(|word| {
        ["", FOLDER, GENERATORS].iter().any(|folder| tree.text(&format!("{folder}{word}")).is_some())
    })
}

/// A script has the name of the file, or names the file.
fn is_named_by_a_generator(tree: &Tree, path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or(path);
    let stem = file.split('.').next().unwrap_or(file);
    tree.texts().any(|(script, text)| {
        script
            .strip_prefix(GENERATORS)
            .is_some_and(|name| name.split('.').next() == Some(stem) || text.contains(file))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_without_a_generator_fails() {
        let tree = Tree::from([
            ("testdata/generators/pld.py", "write('other.json')"),
            ("testdata/pld.json", "{}"),
            ("testdata/other.json", "{}"),
            ("testdata/inside.json", r#"{"generator": "generators/pld.py (dp-accounting 0.6)"}"#),
            ("testdata/source.json", r#"{"source": "PyTorch 2, generators/pld.py"}"#),
            ("testdata/gone.json", r#"{"generator": "generators/gone.py"}"#),
            ("testdata/orphan.json", "{}"),
            ("testdata/broken.yaml", "written by hand"),
        ]);
        let found: Vec<String> = check(&tree).into_iter().map(|finding| finding.path).collect();
        assert_eq!(found, ["testdata/gone.json", "testdata/orphan.json"]);
    }
}
