//! What a report consists of, whatever it is written as.

use medfed_chart::{Chart, Table};

/// A report: sections of blocks.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its title.
    pub title: String,
    /// One line beneath the title.
    pub subtitle: String,
    /// Names and values at its head.
    pub facts: Vec<(String, String)>,
    /// Its sections.
    pub sections: Vec<Section>,
}

/// A section of a report.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// Its heading.
    pub title: String,
    /// What it consists of.
    pub blocks: Vec<Block>,
}

impl Section {
    pub(crate) fn new(title: &str) -> Self {
        Self { title: title.to_owned(), blocks: Vec::new() }
    }

    pub(crate) fn heading(&mut self, text: impl Into<String>) {
        self.blocks.push(Block::Heading(text.into()));
    }

    pub(crate) fn say(&mut self, text: impl Into<String>) {
        self.blocks.push(Block::Paragraph(text.into()));
    }

    pub(crate) fn list(&mut self, items: Vec<String>) {
        if !items.is_empty() {
            self.blocks.push(Block::List(items));
        }
    }

    pub(crate) fn chart(&mut self, chart: Chart) {
        self.blocks.push(Block::Chart(Box::new(chart)));
    }

    /// A table with its caption; nothing without rows.
    pub(crate) fn table<const N: usize>(&mut self, caption: &str, head: [&str; N], rows: Vec<[String; N]>) {
        if !rows.is_empty() {
            let columns = head.map(str::to_owned).to_vec();
            let table = Table { columns, rows: rows.into_iter().map(|row| row.to_vec()).collect() };
            self.blocks.push(Block::Table { caption: caption.to_owned(), table });
        }
    }
}

/// A part of a section.
#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    /// A heading below that of the section.
    Heading(String),
    /// A paragraph.
    Paragraph(String),
    /// A list without order.
    List(Vec<String>),
    /// What it comes to.
    Verdict {
        /// How good that is.
        tone: Tone,
        /// In a few words.
        title: String,
        /// Why.
        reasons: Vec<String>,
    },
    /// A table.
    Table {
        /// What it shows.
        caption: String,
        /// Its cells.
        table: Table,
    },
    /// A chart; its numbers belong to it.
    Chart(Box<Chart>),
    /// Lines to be filled in by hand.
    SignOff(Vec<String>),
}

/// How good a verdict is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tone {
    /// Nothing speaks against it.
    Good,
    /// Something has to be looked at.
    Caution,
    /// Something is wrong.
    Bad,
}

impl Tone {
    /// A word, for whoever sees no colours.
    pub fn word(self) -> &'static str {
        match self {
            Self::Good => "Good",
            Self::Caution => "Caution",
            Self::Bad => "Stop",
        }
    }
}

impl Document {
    /// The charts in order.
    pub fn charts(&self) -> impl Iterator<Item = &Chart> {
        self.sections.iter().flat_map(|section| &section.blocks).filter_map(|block| match block {
            Block::Chart(chart) => Some(chart.as_ref()),
            _ => None,
        })
    }
}
