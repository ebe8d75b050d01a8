//! Every type that crosses a ring: sender, receiver, what losing one costs.
