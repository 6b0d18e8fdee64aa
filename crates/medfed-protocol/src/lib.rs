//! The federation as messages.
