//! Whom to admit.
