//! JSON, read once, front to back.
