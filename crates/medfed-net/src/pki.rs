//! Keys and certificates of a federation: who certifies whom, and in which files.
//!
//! ```text
//! authority (may be a machine without network)      coordinator, DIR             site, DIR
//! DIR/authority/authority.key   0600                coordinator.key  0600        site.key   0600
//! DIR/authority/authority.crt                       coordinator.crt              site.crt
//! DIR/authority/roster.json                         authority.crt                authority.crt
//! DIR/authority.crt, roster.json, crl.pem  ──────►  roster.json, crl.pem
//! ```
//!
//! Every key is made where it is used and never leaves that folder. A site's key is its identity in TLS, in
//! signed messages and in secure aggregation. The authority sees a signing request, which people compare by
//! its fingerprint, and answers with a certificate.

mod authority_folder;
mod error;
mod holder;
mod key;
mod request;
mod roster;

pub use authority_folder::{Approval, AuthorityFolder};
pub use error::PkiError;
pub use holder::{Holder, Identity};
pub(crate) use key::for_tls;
pub use request::Request;
pub use roster::{Entry, Roster};
