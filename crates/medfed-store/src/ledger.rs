//! The durable side of a site's privacy ledger.

use crate::error::StoreError;
use crate::record::Timestamp;
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

/// A payment of a site, of any of its runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// The run.
    pub run: RunId,
    /// When it was paid; the beginning of 1970 for payments older than the record of times.
    pub paid: Timestamp,
    /// The ledger's record.
    pub record: Vec<u8>,
}

impl Store {
    /// What a site has paid in all runs of this store, run by run and oldest first within each.
    pub fn payments(&self, site: &SiteId) -> Result<Vec<Payment>, StoreError> {
        let sql = "SELECT run, paid, record FROM ledger WHERE site = ? ORDER BY run, position";
        self.select(sql, [site.as_str()], |row| {
            Ok(Payment {
                run: self.parsed(row, 0)?,
                paid: Timestamp(self.column(row, 1)?),
                record: self.column(row, 2)?,
            })
        })
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
                "INSERT INTO ledger (run, site, position, record, paid) VALUES (?, ?, ?, ?, ?)",
                (run, site, next, record, Timestamp::now().0),
            )?;
            Ok(())
        })
    }
}
