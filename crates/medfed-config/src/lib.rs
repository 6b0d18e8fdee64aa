//! The configuration: parsing, checking, overriding, schema.

pub mod section;

pub use section::Sections;
