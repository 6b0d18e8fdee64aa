//! Comma-, semicolon- or tab-separated tables with a header line; every fault names its line.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use crate::error::{DataError, nearest};

/// A table being read.
pub(crate) struct Table {
    path: PathBuf,
    header: Vec<String>,
    reader: csv::Reader<BufReader<File>>,
    record: csv::StringRecord,
}

impl Table {
    /// Opens the table and reads its header.
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let unreadable = |source| DataError::Read { path: path.to_owned(), source };
        let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
        // The buffer's start is enough to see what separates the column names.
        let start = file.fill_buf().map_err(unreadable)?;
        let first_line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let delimiter = [b',', b';', b'\t'].into_iter().find(|d| first_line.contains(d)).unwrap_or(b',');
        let mut reader =
            csv::ReaderBuilder::new().delimiter(delimiter).trim(csv::Trim::All).from_reader(file);
        let header = reader.headers().map_err(|source| Self::broken(path, source))?;
        let header = header.iter().map(|name| name.trim_start_matches('\u{feff}').to_owned()).collect();
        Ok(Self { path: path.to_owned(), header, reader, record: csv::StringRecord::new() })
    }

    fn broken(path: &Path, source: csv::Error) -> DataError {
        DataError::Table { path: path.to_owned(), source: Box::new(source) }
    }

    /// The columns' names.
    pub(crate) fn header(&self) -> &[String] {
        &self.header
    }

    /// The column of that name, in any case if no other fits exactly.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        let exact = self.header.iter().position(|column| column == name);
        exact.or_else(|| self.header.iter().position(|column| column.eq_ignore_ascii_case(name)))
    }

    /// The column of that name, or the error that it is missing.
    pub(crate) fn required(&self, name: &str) -> Result<usize, DataError> {
        self.find(name).ok_or_else(|| DataError::MissingColumn {
            path: self.path.clone(),
            expected: name.to_owned(),
            nearest: nearest(name, self.header.iter().map(String::as_str)),
            found: self.header.clone(),
        })
    }

    /// The next line, if there is one.
    pub(crate) fn next_row(&mut self) -> Result<Option<Row<'_>>, DataError> {
        let more = self.reader.read_record(&mut self.record);
        if !more.map_err(|source| Self::broken(&self.path, source))? {
            return Ok(None);
        }
        let line = self.record.position().map_or(0, csv::Position::line);
        Ok(Some(Row { path: &self.path, header: &self.header, record: &self.record, line }))
    }
}

/// One line of a [`Table`].
pub(crate) struct Row<'a> {
    path: &'a Path,
    header: &'a [String],
    record: &'a csv::StringRecord,
    /// Its number, counted from 1.
    pub(crate) line: u64,
}

impl Row<'_> {
    /// A field, without spaces around it.
    pub(crate) fn text(&self, column: usize) -> &str {
        self.record.get(column).unwrap_or_default()
    }

    /// A field that is not blank.
    pub(crate) fn filled(&self, column: usize) -> Option<&str> {
        Some(self.text(column)).filter(|text| !text.is_empty())
    }

    /// The error that this line labels a file differently from an earlier one.
    pub(crate) fn contradiction(&self, file: &Path, first_line: u64, first: &str, second: &str) -> DataError {
        DataError::Contradiction {
            path: self.path.to_owned(),
            line: self.line,
            file: file.display().to_string(),
            first_line,
            first: first.to_owned(),
            second: second.to_owned(),
        }
    }

    /// The error that a field is not what its column holds.
    pub(crate) fn fault(&self, column: usize, expected: &'static str) -> DataError {
        DataError::Field {
            path: self.path.to_owned(),
            line: self.line,
            column: self.header.get(column).cloned().unwrap_or_default(),
            expected,
            found: self.text(column).chars().take(60).collect(),
        }
    }
}
