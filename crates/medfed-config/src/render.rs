//! Problems as a compiler shows them.

use std::fmt::Write as _;

use crate::error::{ConfigErrors, Problem};
use crate::tree::Place;

/// Characters of a source line that are shown.
const WIDTH: usize = 100;

struct Style {
    bold: &'static str,
    frame: &'static str,
    mark: &'static str,
    end: &'static str,
}

const PLAIN: Style = Style { bold: "", frame: "", mark: "", end: "" };
const COLOUR: Style = Style { bold: "\x1b[1m", frame: "\x1b[34m", mark: "\x1b[1;31m", end: "\x1b[0m" };

pub(crate) fn problems(errors: &ConfigErrors, colour: bool) -> String {
    let style = if colour { &COLOUR } else { &PLAIN };
    let count = match errors.problems.len() {
        1 => "1 problem".to_owned(),
        n => format!("{n} problems"),
    };
    let mut out = format!("{} is not a valid configuration ({count})", printable(&errors.origin));
    for problem in &errors.problems {
        out.push('\n');
        // Writing to a string cannot fail.
        let _ = write_problem(&mut out, errors, problem, style);
    }
    out
}

fn write_problem(
    out: &mut String,
    errors: &ConfigErrors,
    problem: &Problem,
    style: &Style,
) -> std::fmt::Result {
    let Style { bold, frame, mark, end } = style;
    let key = printable(&problem.key);
    let colon = if key.is_empty() { "" } else { ": " };
    write!(out, "\n{bold}{key}{colon}{}{end}", printable(&problem.kind.to_string()))?;
    let mut gutter = 1;
    match &problem.place {
        Place::Default => write!(out, "\n {frame}-->{end} {}", printable(&errors.origin))?,
        Place::Override { text } => write!(out, "\n {frame}-->{end} --set {}", printable(text))?,
        Place::File { line, column, len } => {
            let number = line.to_string();
            gutter = number.len();
            let pad = " ".repeat(gutter);
            write!(out, "\n{pad}{frame}-->{end} {}:{line}:{column}", printable(&errors.origin))?;
            let source = errors.text.lines().nth(line.saturating_sub(1)).unwrap_or("");
            let (shown, before, carets) = window(source, column.saturating_sub(1), *len);
            write!(out, "\n{pad} {frame}|{end}\n{frame}{number} |{end} {shown}")?;
            let (before, carets) = (" ".repeat(before), "^".repeat(carets));
            write!(out, "\n{pad} {frame}|{end} {before}{mark}{carets}{end}")?;
        }
    }
    if let Some(hint) = problem.hint() {
        write!(out, "\n{} {frame}={end} hint: {}", " ".repeat(gutter), printable(&hint))?;
    }
    Ok(())
}

/// The part of a line around `start..start + len` (characters) that is shown, the characters before
/// the mark, and those under it.
fn window(line: &str, start: usize, len: usize) -> (String, usize, usize) {
    let line: Vec<char> = line.chars().collect();
    let start = start.min(line.len());
    let first = if start < WIDTH - 20 { 0 } else { start - WIDTH / 2 };
    let last = line.len().min(first + WIDTH);
    let end = (start + len).clamp(start, last);
    let shown: String = line[first..last].iter().collect();
    (printable(&shown), start - first, (end - start).max(1))
}

/// Text without characters that could steer a terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' | '\n' => ' ',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stays_under_the_value() {
        assert_eq!(window("ab: cd", 4, 2), ("ab: cd".to_owned(), 4, 2));
        assert_eq!(window("ab", 7, 3), ("ab".to_owned(), 2, 1));
        let long = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let (shown, before, carets) = window(&long, 500, 1);
        assert_eq!((shown.chars().count(), carets), (WIDTH, 1));
        assert_eq!(shown.chars().nth(before), Some('X'));
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\tc"), "a\u{fffd}[2Jb c");
    }
}
