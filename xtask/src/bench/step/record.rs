//! The lines of the file of results.

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use super::{Cell, Run};

/// One run: its cell, what it measured, and the object that the measuring program printed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    /// As [`Cell`] is written.
    pub(super) cell: String,
    /// As [`Run::name`] gives it.
    pub(super) run: String,
    /// Place of the run within its cell.
    lap: usize,
    /// What the program printed.
    pub(super) found: Value,
}

impl Record {
    pub(super) fn new(cell: &Cell, run: Run, lap: usize, found: Value) -> Self {
        Self { cell: cell.to_string(), run: run.name().to_owned(), lap, found }
    }

    pub(super) fn is(&self, cell: &Cell, run: Run, lap: usize) -> bool {
        self.cell == cell.to_string() && self.run == run.name() && self.lap == lap
    }

    /// A line of JSON.
    pub(super) fn line(&self) -> Value {
        json!({ "cell": self.cell, "run": self.run, "lap": self.lap, "found": self.found })
    }

    fn of(mut line: Value) -> Option<Self> {
        let word = |key: &str| line[key].as_str().map(str::to_owned);
        let (cell, run) = (word("cell")?, word("run")?);
        let lap = usize::try_from(line["lap"].as_u64()?).ok()?;
        Some(Self { cell, run, lap, found: line["found"].take() })
    }
}

/// The lines of a file; none where there is no file.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Record>> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let lines = text.lines().enumerate().map(|(at, line)| {
        let record = serde_json::from_str(line).ok().and_then(Record::of);
        record.with_context(|| format!("line {} of {} is no run; remove it", at + 1, path.display()))
    });
    lines.collect()
}

/// Reads the one JSON object that a measuring program prints, possibly after other lines.
pub(super) fn parse(stdout: &str) -> anyhow::Result<Value> {
    let object = stdout.find('{').map_or("", |at| &stdout[at..]);
    Ok(serde_json::from_str(object.trim())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let cell: Cell = "resnet18:28:64".parse().expect("the cell is well formed");
        let record = Record::new(&cell, Run::Private, 8, json!({ "seconds": [1.5] }));
        assert_eq!(Record::of(record.line()).as_ref(), Some(&record));
        assert!(record.is(&cell, Run::Private, 8) && !record.is(&cell, Run::Private, 1));
        assert_eq!(Record::of(json!({ "cell": "a" })), None);
    }

    #[test]
    fn measurements_are_read_after_chatter() {
        let read = parse("warning: slow\n{\"seconds\": [1.5]}\n").expect("it is there");
        assert_eq!(read["seconds"][0], 1.5);
        assert!(parse("").is_err() && parse("no object").is_err());
    }
}
