//! `medfed report`: a run for people, as a page, a PDF, a model card, pictures.

use crate::failure::Failure;
use crate::output::print;
use crate::run::store_failure;
use medfed_chart::Chart;
use medfed_report::{ReportError, RunRecord};
use medfed_store::{Reader, Store, StoreError};
use medfed_types::RunId;
use std::fs;
use std::path::{Path, PathBuf};

/// Write a report of a run: summary for leadership, performance, fairness, privacy, security, data, limits.
///
/// Every number comes from the results folder; what a run did not measure is said to be so. Without options
/// a page `report_RUN.html` is written into the results folder.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  medfed report\n  medfed report latest --out report.html --pdf report.pdf\n  medfed report 20260301-090507-1f3a --results results --model-card MODEL_CARD.md\n  medfed report --charts charts\n  medfed report --out - | less"
)]
pub(crate) struct ReportCommand {
    /// The run, as `medfed runs` lists it, or `latest`.
    #[arg(default_value = "latest")]
    run: String,
    /// Folder that the run was written to.
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,
    /// Write one HTML page that needs nothing else; `-` prints it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write a PDF
    #[arg(long, value_name = "FILE")]
    pdf: Option<PathBuf>,
    /// Write a model card in Markdown, for whoever gets the model file
    #[arg(long, value_name = "FILE")]
    model_card: Option<PathBuf>,
    /// Write every chart as SVG, PNG and CSV into a folder
    #[arg(long, value_name = "DIR")]
    charts: Option<PathBuf>,
}

impl ReportCommand {
    /// Runs it.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let reader = Store::read_only(&self.results).map_err(store_failure)?;
        let id = self.id(&reader)?;
        let record = RunRecord::read(&reader, &id).map_err(failed)?;
        let report = record.report();
        let asked = self.pdf.is_some() || self.model_card.is_some() || self.charts.is_some();
        let page =
            self.out.clone().or_else(|| (!asked).then(|| self.results.join(format!("report_{id}.html"))));
        let mut written = Vec::new();
        let mut put = |path: &Path, bytes: &[u8]| {
            write(path, bytes)?;
            written.push(format!("{}\n", path.display()));
            Ok::<_, Failure>(())
        };
        if let Some(path) = &self.pdf {
            put(path, &report.pdf().map_err(failed)?)?;
        }
        if let Some(path) = &self.model_card {
            put(path, record.model_card().as_bytes())?;
        }
        if let Some(folder) = &self.charts {
            fs::create_dir_all(folder).map_err(|error| unwritable(folder, error))?;
            for (number, chart) in (1..).zip(report.charts()) {
                let file = |ending: &str| folder.join(format!("{}.{ending}", file_name(number, chart)));
                put(&file("svg"), chart.svg().as_bytes())?;
                put(&file("png"), &medfed_report::png(chart).map_err(failed)?)?;
                put(&file("csv"), chart.table.csv().as_bytes())?;
            }
        }
        match &page {
            Some(path) if path.as_os_str() == "-" => return print(&report.html()),
            Some(path) => put(path, report.html().as_bytes())?,
            None => {}
        }
        print(&written.concat())
    }

    /// The run that is meant.
    fn id(&self, reader: &Reader) -> Result<RunId, Failure> {
        if self.run == "latest" {
            let newest = reader.runs().map_err(store_failure)?.pop();
            return newest
                .map(|run| run.id)
                .ok_or_else(|| store_failure(StoreError::Missing { dir: self.results.clone() }));
        }
        let id = RunId::try_from(self.run.as_str()).map_err(|error| Failure::user(error).hint(LIST))?;
        match reader.run(&id) {
            Ok(run) => Ok(run.id),
            Err(error @ StoreError::UnknownRun { .. }) => {
                let hint = match &error {
                    StoreError::UnknownRun { nearest: Some(nearest), .. } => {
                        format!("did you mean {nearest}? {LIST}")
                    }
                    _ => LIST.to_owned(),
                };
                Err(Failure::user(error).hint(hint))
            }
            Err(error) => Err(store_failure(error)),
        }
    }
}

/// The title of a chart as the name of a file. The number tells titles apart that differ in other letters.
fn file_name(number: usize, chart: &Chart) -> String {
    let letters = chart
        .title
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { ' ' });
    let words: String = letters.collect();
    format!("{number:02}-{}", words.split_whitespace().collect::<Vec<_>>().join("-"))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    fs::write(path, bytes).map_err(|error| unwritable(path, error))
}

fn unwritable(path: &Path, error: std::io::Error) -> Failure {
    Failure::user(anyhow::Error::new(error).context(format!("{} cannot be written", path.display())))
        .hint("check that its folder is there, and its permissions and free space")
}

fn failed(error: ReportError) -> Failure {
    match error {
        ReportError::Store(error) => store_failure(error),
        ReportError::Document { .. } | ReportError::Ledger { .. } => {
            Failure::user(error).hint("restore the results folder from a backup")
        }
        _ => Failure::internal(error),
    }
}

const LIST: &str = "`medfed runs` lists the runs of a folder; --results names another folder";
