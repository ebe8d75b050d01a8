//! What leaves a bidder core.
