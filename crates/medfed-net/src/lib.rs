//! The federation between machines that do not trust each other.
//!
//! What enters: the files of an identity (its key, its certificate, the authority's certificate), the
//! address of the coordinator, and messages as bytes. What leaves: messages of a peer whose identity is
//! proven by its certificate. Everything inside a message (who signed it, what it asks) belongs to the
//! protocol above; a message is opaque here, of at most the size that the options admit.
//!
//! What is *not* protected here: who talks to whom, when, and how much, is visible to whoever carries the
//! bytes.
