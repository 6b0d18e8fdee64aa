//! The dashboard: pages for leadership, clinicians, data scientists and auditors, and the REST API.
//!
//! What enters is a results folder (read, never written), a configuration file and requests; what leaves is
//! HTML, SVG and JSON. Training runs in a process of its own (`control`); this one watches the folder
//! (`source`), keeps what it says in memory (`view`), tells browsers what changes (`events`), and answers
//! from memory (`api`, `page`). No script, style or font comes from elsewhere.
//!
//! Not protected: whoever may read the pages sees exact losses, counts and metrics, which ε does not cover.

mod api;
mod app;
mod audit;
mod connection;
mod control;
mod error;
mod events;
mod page;
mod security;
mod server;
mod source;
mod view;

pub use error::DashboardError;
pub use security::{Identity, PrivateFileError, Role, TlsError, UserName, Users, UsersError};
pub use server::{Options, Reach, serve};
