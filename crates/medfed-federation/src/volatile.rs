//! Ledger and journal in memory, for federations whose result is not released and that nobody resumes.

use crate::journal::{Journal, Snapshot};
use crate::report::RoundReport;
use medfed_dp::LedgerStorage;
use std::convert::Infallible;

/// Ledger records that end with the process.
#[derive(Debug, Clone, Default)]
pub struct VolatileLedger(Vec<Vec<u8>>);

impl LedgerStorage for VolatileLedger {
    type Error = Infallible;

    fn records(&mut self) -> Result<Vec<Vec<u8>>, Infallible> {
        Ok(self.0.clone())
    }

    fn append(&mut self, position: usize, record: &[u8]) -> Result<(), Infallible> {
        self.0.truncate(position);
        self.0.push(record.to_vec());
        Ok(())
    }
}

/// Keeps nothing.
#[derive(Debug, Clone, Copy)]
pub struct VolatileJournal;

impl Journal for VolatileJournal {
    type Error = Infallible;

    fn commit_round(&mut self, _: &RoundReport, _: &[Snapshot]) -> Result<(), Infallible> {
        Ok(())
    }

    fn suspend(&mut self, _: &[Snapshot]) -> Result<(), Infallible> {
        Ok(())
    }

    fn amend(&mut self, _: &str, _: &[(String, serde_json::Value)]) -> Result<(), Infallible> {
        Ok(())
    }

    fn event(&mut self, _: u32, _: &str, _: &serde_json::Value) -> Result<(), Infallible> {
        Ok(())
    }
}
