//! One auction as a state machine.
