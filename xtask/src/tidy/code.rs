//! What may not stand in the text of a file.

use super::rust_text::RustText;
use super::{Finding, find_word, has_extension, layout};
use crate::workspace::Tree;

/// The only files with `unsafe`: the numeric kernels of the training engine.
const KERNELS: &str = "crates/medfed-nn/src/kernel";

/// Crates that get bytes, clock and randomness as arguments.
const WITHOUT_IO: [&str; 8] = ["types", "nn", "dp", "secagg", "aggregate", "eval", "audit", "federation"];

/// Files, sockets and clocks, as code names them.
const IO: [&str; 5] = ["std::fs", "std::net", "tokio", "Instant::now", "SystemTime::now"];

/// The one exception: `torch.save` archives are read by seeking, and their parser opens the file itself.
const WITH_IO: &str = "crates/medfed-nn/src/checkpoint/torch_file.rs";

/// Notes to oneself.
const NOTES: [&str; 3] = ["TODO", "FIXME", "XXX"];

/// Folders of one machine. Written in two pieces because this file is checked too.
const MACHINE_FOLDERS: [&str; 4] =
    [concat!("/", "work"), concat!("/", "root"), concat!("/", "tmp"), concat!("/", "home")];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts() {
        if has_extension(path, &["rs"]) {
            rust(path, text, &mut findings);
        } else if !is_data(path) {
            for (index, line) in text.lines().enumerate() {
                findings.extend(note(path, index + 1, line));
                findings.extend(machine_path(path, index + 1, line));
            }
        }
    }
    findings
}

/// Files whose text was not written by hand.
fn is_data(path: &str) -> bool {
    has_extension(path, &["json", "csv", "lock", "snap", "svg"])
}

fn rust(path: &str, text: &str, findings: &mut Vec<Finding>) {
    let parts = RustText::new(path, text);
    for (index, code) in parts.code.iter().enumerate() {
        findings.extend(everywhere(path, index + 1, code));
        findings.extend(unsafe_block(path, index, &parts));
        if index < parts.tests_from {
            findings.extend(input_output(path, index + 1, code));
        }
    }
    for (index, comment) in parts.comments.iter().enumerate() {
        findings.extend(note(path, index + 1, comment));
    }
    for (index, line) in text.lines().take(parts.tests_from).enumerate() {
        findings.extend(machine_path(path, index + 1, line));
    }
}

/// Rules for every line of Rust, tests included.
fn everywhere(path: &str, line: usize, code: &str) -> Option<Finding> {
    let fault = |what, hint| Some(Finding::new(path, line, what, hint));
    let attribute = code.contains("#[") || code.contains("#![") || code.contains("cfg_attr");
    if attribute && find_word(code, "allow").is_some_and(|at| code[at..].starts_with("allow(")) {
        return fault("an allowed lint", "write #[expect(lint, reason = \"...\")]");
    }
    if code.contains("#[ignore") {
        return fault("an ignored test", "make it pass quickly, or delete it");
    }
    if find_word(code, "todo!").or_else(|| find_word(code, "unimplemented!")).is_some() {
        return fault("a placeholder", "write what is missing, or refuse the input with an error");
    }
    let module =
        code.trim().trim_start_matches("pub(crate) ").trim_start_matches("pub ").strip_prefix("mod ");
    let name = module.and_then(|name| name.split([' ', ';', '{']).next());
    if name.is_some_and(layout::is_empty_name) {
        return fault("a module whose name says nothing", "name it after the domain noun that it holds");
    }
    None
}

/// `unsafe` stands in kernels alone, under a comment that argues for its safety.
fn unsafe_block(path: &str, index: usize, parts: &RustText) -> Option<Finding> {
    let code = &parts.code[index];
    let at = find_word(code, "unsafe")?;
    if !path.starts_with(KERNELS) {
        let hint = "write it safely; only the kernels of medfed-nn may be unsafe";
        return Some(Finding::new(path, index + 1, "unsafe code", hint));
    }
    if !code[at..].starts_with("unsafe {") && !code[at..].starts_with("unsafe impl") {
        return None;
    }
    // The argument stands on the same line or in the comment above the statement.
    let argued = parts.comments[index].contains("SAFETY:")
        || (0..index)
            .rev()
            .take_while(|&above| is_part_of_statement(&parts.code[above]))
            .any(|above| parts.comments[above].contains("SAFETY:"));
    let hint = "state above it why it is sound, beginning with SAFETY:";
    (!argued).then(|| Finding::new(path, index + 1, "an unsafe block without its argument", hint))
}

/// A line that ends neither a statement nor a block.
fn is_part_of_statement(code: &str) -> bool {
    !code.trim_end().ends_with([';', '{', '}'])
}

fn input_output(path: &str, line: usize, code: &str) -> Option<Finding> {
    if path == WITH_IO {
        return None;
    }
    let krate = path.strip_prefix("crates/medfed-")?.split_once("/src/")?.0;
    let named = IO.into_iter().find(|name| find_word(code, name).is_some())?;
    let hint = "take bytes, time or randomness as an argument";
    WITHOUT_IO.contains(&krate).then(|| {
        Finding::new(path, line, format!("{named} in medfed-{krate}, which does no input or output"), hint)
    })
}

fn note(path: &str, line: usize, text: &str) -> Option<Finding> {
    let found = NOTES.into_iter().find(|note| find_word(text, note).is_some())?;
    Some(Finding::new(
        path,
        line,
        format!("a note to oneself ({found})"),
        "do it now, or say what is so and why",
    ))
}

fn machine_path(path: &str, line: usize, text: &str) -> Option<Finding> {
    let absolute = |folder: &str| {
        text.match_indices(folder).any(|(at, _)| {
            // A relative path or an address may well have a part of that name.
            let relative = |c: char| c.is_alphanumeric() || "_-./$}>)~*".contains(c);
            let longer = |c: char| c.is_alphanumeric() || "_-.".contains(c);
            !text[..at].chars().next_back().is_some_and(relative)
                && !text[at + folder.len()..].chars().next().is_some_and(longer)
        })
    };
    let folder = MACHINE_FOLDERS.into_iter().find(|folder| absolute(folder))?;
    let hint = "take the path as an argument, or locate it from the workspace root";
    Some(Finding::new(path, line, format!("a path of one machine ({folder})"), hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(path: &str, text: &str) -> Vec<usize> {
        check(&Tree::from([(path, text)])).into_iter().map(|finding| finding.line).collect()
    }

    const CLIP: &str = "crates/medfed-dp/src/clip.rs";
    const KERNEL: &str = "crates/medfed-nn/src/kernel/gemm.rs";

    #[test]
    fn unsafe_outside_the_kernels_fails() {
        assert_eq!(faults(CLIP, "\nunsafe { a() }"), [2]);
        assert_eq!(faults("crates/medfed-nn/src/step.rs", "unsafe fn a() {}"), [1]);
        assert_eq!(faults(CLIP, "// unsafe\nlet a = \"unsafe\"; let unsafe_code = 1;"), [0; 0]);
    }

    #[test]
    fn an_unsafe_block_without_its_argument_fails() {
        assert_eq!(faults(KERNEL, "a();\nunsafe { b() }"), [2]);
        assert_eq!(faults(KERNEL, "// SAFETY: the slice above\na();\nunsafe { b() }"), [3]);
        assert_eq!(
            faults(KERNEL, "a();\n// SAFETY: in bounds,\n// see above\nlet c =\n    unsafe { b() };"),
            [0; 0]
        );
        assert_eq!(faults(KERNEL, "unsafe { b() } // SAFETY: in bounds"), [0; 0]);
    }

    #[test]
    fn allowed_lints_fail() {
        for text in ["#[allow(dead_code)]", "#![allow(dead_code)]", "#[cfg_attr(test, allow(dead_code))]"] {
            assert_eq!(faults(CLIP, text), [1], "{text}");
        }
        assert_eq!(faults(CLIP, "#[expect(dead_code, reason = \"b\")]\nplan.allow(rule);"), [0; 0]);
    }

    #[test]
    fn ignored_tests_fail() {
        assert_eq!(faults(CLIP, "#[cfg(test)]\nmod tests {\n#[ignore = \"slow\"]\n}"), [3]);
    }

    #[test]
    fn placeholders_and_notes_fail() {
        assert_eq!(
            faults(CLIP, "todo!()\nunimplemented!(\"later\")\n// TODO: later\n/* FIXME */ /// XXX"),
            [1, 2, 3, 4]
        );
        assert_eq!(faults("docs/a.md", "fine\nTODO later"), [2]);
        assert_eq!(faults(CLIP, "let a = \"TODO\"; // TODOS"), [0; 0]);
    }

    #[test]
    fn inline_modules_with_empty_names_fail() {
        assert_eq!(faults(CLIP, "pub(crate) mod helpers {\n}\nmod clip;"), [1]);
    }

    #[test]
    fn input_and_output_in_a_pure_crate_fails() {
        assert_eq!(faults(CLIP, "use std::fs::File;\nlet a = Instant::now();"), [1, 2]);
        assert_eq!(faults("crates/medfed-data/src/folder.rs", "use std::fs::File;"), [0; 0]);
        assert_eq!(faults(CLIP, "#[cfg(test)]\nmod tests {\nuse std::fs::File;\n}"), [0; 0]);
    }

    #[test]
    fn machine_paths_fail_outside_tests() {
        assert_eq!(faults(CLIP, "let a = \"/work/x\";\n// see /root/y"), [1, 2]);
        assert_eq!(faults("docs/a.md", "`/tmp/out`"), [1]);
        assert_eq!(faults("config/a.yaml", "dir: /home"), [1]);
        assert_eq!(faults(CLIP, "#[cfg(test)]\nmod tests {\nlet a = \"/tmp/x\";\n}"), [0; 0]);
        assert_eq!(faults("docs/a.md", "https://a.org/work/x ../tmp/y /workspace $DIR/root/x"), [0; 0]);
    }
}
