//! The text equivalent of a chart.

/// What a chart shows, as rows of text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// Heads of the columns.
    pub columns: Vec<String>,
    /// Rows, each as long as `columns`.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(columns: [&str; N]) -> Self {
        Self { columns: columns.map(str::to_owned).to_vec(), rows: Vec::new() }
    }

    /// The table as comma-separated values (RFC 4180).
    pub fn csv(&self) -> String {
        std::iter::once(&self.columns).chain(&self.rows).map(|row| csv_line(row)).collect()
    }
}

fn csv_line(cells: &[String]) -> String {
    let cells: Vec<String> = cells
        .iter()
        .map(|cell| {
            // Programs that calculate take the typographic minus for text, and a dash for a value.
            let cell = match cell.as_str() {
                "–" => String::new(),
                cell => cell.replace('−', "-").replace('\u{202f}', ""),
            };
            // A leading sign of a formula would be executed by a spreadsheet.
            let formula = cell.starts_with(['=', '+', '@', '\t', '\r'])
                || (cell.starts_with('-') && cell.parse::<f64>().is_err());
            let cell = if formula { format!("'{cell}") } else { cell };
            if cell.contains(['"', ',', '\n', '\r']) {
                format!("\"{}\"", cell.replace('"', "\"\""))
            } else {
                cell
            }
        })
        .collect();
    format!("{}\r\n", cells.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_harmless() {
        let row =
            ["a,b", "say \"no\"", "−0.5", "–", "=1+1", "-x", "1\u{202f}000"].map(str::to_owned).to_vec();
        let table = Table { columns: vec!["x".to_owned(); 7], rows: vec![row] };
        let expected = "x,x,x,x,x,x,x\r\n\"a,b\",\"say \"\"no\"\"\",-0.5,,'=1+1,'-x,1000\r\n";
        assert_eq!(table.csv(), expected);
    }
}
