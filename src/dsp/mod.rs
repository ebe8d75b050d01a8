//! Which DSPs to ask, with what, until when.
