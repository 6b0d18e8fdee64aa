//! The configuration: parsing, checking, overriding, schema.
