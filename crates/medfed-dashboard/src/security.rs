//! What keeps strangers out: checks of where a request comes from, and headers that bind the browser.

pub(crate) mod headers;
pub(crate) mod origin;
