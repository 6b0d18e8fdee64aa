//! The durable side of a site's privacy ledger.

use crate::error::StoreError;
use crate::store::Store;
use medfed_dp::LedgerStorage;
use medfed_types::{RunId, SiteId};

/// Ledger records of one site in one run. Each append is a transaction of its own that has reached the
/// disk (`synchronous=FULL`) when it returns.
#[derive(Debug, Clone)]
pub struct SqliteLedger {
    store: Store,
    run: RunId,
    site: SiteId,
}

impl Store {
    /// The storage for the ledger of `site` in `run`.
    pub fn ledger_storage(&self, run: &RunId, site: &SiteId) -> Result<SqliteLedger, StoreError> {
        self.run(run)?;
        Ok(SqliteLedger { store: self.clone(), run: run.clone(), site: site.clone() })
    }
}

impl LedgerStorage for SqliteLedger {
    type Error = StoreError;

    fn records(&mut self) -> Result<Vec<Vec<u8>>, StoreError> {
        let sql = "SELECT record FROM ledger WHERE run = ? AND site = ? ORDER BY position";
        self.store.select(sql, (self.run.as_str(), self.site.as_str()), |row| self.store.column(row, 0))
    }

    fn append(&mut self, position: usize, record: &[u8]) -> Result<(), StoreError> {
        let (run, site) = (self.run.as_str(), self.site.as_str());
        self.store.change(&self.run, |transaction, _| {
            let sql = "SELECT count(*) FROM ledger WHERE run = ? AND site = ?";
            let next: i64 = transaction.query_row(sql, (run, site), |row| row.get(0))?;
            if usize::try_from(next) != Ok(position) {
                return Err(StoreError::LedgerPosition { position, found: next as usize }.into());
            }
            transaction.execute(
                "INSERT INTO ledger (run, site, position, record) VALUES (?, ?, ?, ?)",
                (run, site, next, record),
            )?;
            Ok(())
        })
    }
}
