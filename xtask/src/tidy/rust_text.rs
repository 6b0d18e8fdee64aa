//! Rust source taken apart into code and comments, line by line.
//!
//! Both keep the lines of the original; the contents of strings are blank in both, so a rule never fires on
//! what is merely quoted.

/// One source file, taken apart.
#[derive(Debug)]
pub(crate) struct RustText {
    /// The text without comments and without what stands between quotes.
    pub(crate) code: Vec<String>,
    /// The text of the comments alone.
    pub(crate) comments: Vec<String>,
    /// The index of the first line of the unit tests, or the number of lines.
    pub(crate) tests_from: usize,
}

impl RustText {
    /// Takes a source file apart. `path` tells integration tests and benchmarks from product code.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let (code, comments) = split(text);
        let is_test = |part: &str| matches!(part, "tests" | "benches" | "tests.rs");
        let tests_from = if path.split('/').any(is_test) { 0 } else { unit_tests_from(&code) };
        Self { code, comments, tests_from }
    }
}

/// The line of `#[cfg(test)]` above the first module with a body; tests stand last in a file.
fn unit_tests_from(code: &[String]) -> usize {
    let opens_tests = |index: usize| {
        code[index].trim() == "#[cfg(test)]"
            && code[index + 1..]
                .iter()
                .map(|line| line.trim())
                .find(|line| !line.is_empty() && !line.starts_with("#["))
                .is_some_and(|line| line.contains("mod ") && line.ends_with('{'))
    };
    (0..code.len()).find(|&index| opens_tests(index)).unwrap_or(code.len())
}

#[derive(Clone, Copy)]
enum State {
    Code,
    LineComment,
    /// Block comments nest.
    BlockComment(usize),
    String,
    /// Ends at a quote followed by this many hash signs.
    RawString(usize),
}

fn split(text: &str) -> (Vec<String>, Vec<String>) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut comments) = (String::new(), String::new());
    let mut state = State::Code;
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        if rest[0] == '\n' {
            code.push('\n');
            comments.push('\n');
            if matches!(state, State::LineComment) {
                state = State::Code;
            }
            at += 1;
            continue;
        }
        // How many characters belong together, and what they begin or continue.
        let (taken, next) = match state {
            State::Code => match rest {
                ['/', '/', ..] => (2, State::LineComment),
                ['/', '*', ..] => (2, State::BlockComment(1)),
                ['"', ..] => (1, State::String),
                ['r', ..] | ['b' | 'c', 'r', ..] if !joins_word(&chars[..at]) => {
                    match raw_string_hashes(rest) {
                        Some((opening, hashes)) => (opening, State::RawString(hashes)),
                        None => (1, State::Code),
                    }
                }
                ['\'', ..] => (char_literal(rest), State::Code),
                _ => (1, State::Code),
            },
            State::LineComment => (1, State::LineComment),
            State::BlockComment(depth) => match rest {
                ['*', '/', ..] if depth == 1 => (2, State::Code),
                ['*', '/', ..] => (2, State::BlockComment(depth - 1)),
                ['/', '*', ..] => (2, State::BlockComment(depth + 1)),
                _ => (1, State::BlockComment(depth)),
            },
            State::String => match rest {
                ['\\', escaped, ..] if *escaped != '\n' => (2, State::String),
                ['"', ..] => (1, State::Code),
                _ => (1, State::String),
            },
            State::RawString(hashes) => {
                let closes = rest[0] == '"' && rest[1..].iter().take_while(|c| **c == '#').count() >= hashes;
                if closes { (1 + hashes, State::Code) } else { (1, State::RawString(hashes)) }
            }
        };
        match (state, next) {
            (State::Code, State::Code) if taken == 1 => code.push(rest[0]),
            (_, State::LineComment | State::BlockComment(_)) => comments.extend(&rest[..taken]),
            _ => {}
        }
        state = next;
        at += taken;
    }
    let lines = |text: String| text.split('\n').map(str::to_owned).collect();
    (lines(code), lines(comments))
}

fn joins_word(before: &[char]) -> bool {
    before.last().is_some_and(|c| c.is_alphanumeric() || *c == '_')
}

/// The length of the opening of a raw string, and its number of hash signs.
fn raw_string_hashes(rest: &[char]) -> Option<(usize, usize)> {
    let prefix = if rest[0] == 'r' { 1 } else { 2 };
    let hashes = rest[prefix..].iter().take_while(|c| **c == '#').count();
    (rest.get(prefix + hashes) == Some(&'"')).then_some((prefix + hashes + 1, hashes))
}

/// The length of a character literal, or 1 for the tick of a lifetime.
fn char_literal(rest: &[char]) -> usize {
    match rest {
        ['\'', '\\', _, tail @ ..] => 4 + tail.iter().take_while(|c| **c != '\'').count(),
        ['\'', _, '\'', ..] => 3,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        RustText::new("src/a.rs", text).code.join("\n")
    }

    #[test]
    fn strings_and_comments_leave_the_code() {
        assert_eq!(code("let a = \"unsafe \\\" {\"; // unsafe\nb"), "let a = ; \nb");
        assert_eq!(code("a /* x /* unsafe */ y */ b"), "a  b");
        assert_eq!(code("let a = r#\"unsafe \" \"#; b"), "let a = ; b");
        assert_eq!(code("let a = br\"unsafe\\\"; for r in x"), "let a = ; for r in x");
        assert_eq!(code("let q = '\"'; let t = '\\''; let u = '\\u{22}'; fn f<'a>(x: &'a str) {}"), {
            "let q = ; let t = ; let u = ; fn f<'a>(x: &'a str) {}"
        });
    }

    #[test]
    fn lines_stay_in_place() {
        let text = RustText::new("src/a.rs", "a\n/* one\ntwo */\n\"x\ny\"\nb // three\n");
        assert_eq!(text.code.len(), 7);
        assert_eq!(text.code[5], "b ");
        assert_eq!(text.comments[2].trim(), "two");
        assert!(text.comments[5].contains("three"));
    }

    #[test]
    fn unit_tests_are_found() {
        let head = "fn a() {}\n#[cfg(test)]\nmod fixtures;\n";
        assert_eq!(RustText::new("src/a.rs", head).tests_from, 4);
        let tail = format!("{head}#[cfg(test)]\n#[expect(dead_code)]\nmod tests {{\n}}\n");
        assert_eq!(RustText::new("src/a.rs", &tail).tests_from, 3);
        assert_eq!(RustText::new("tests/a.rs", head).tests_from, 0);
    }
}
