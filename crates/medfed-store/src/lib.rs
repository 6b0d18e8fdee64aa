//! SQLite store: runs, rounds, metrics, ledger; content-addressed model files.
