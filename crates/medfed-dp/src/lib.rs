//! The differential privacy plan: noise, accountants, the durable ledger.
