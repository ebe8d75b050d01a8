//! Names of hosts and their addresses: what is asked of a name server, what its answer says, whom to ask again when.
//!
//! | part | what it knows |
//! |---|---|
//! | [`message`] | a question of DNS and what an answer to it says (RFC 1035) |
//! | [`files`] | `resolv.conf` and `hosts`: which servers, which names, which suffixes |
//! | [`inside`] | which addresses are ours, and that no name server leads us there |
//! | [`table`] | the last good answer for each name, and when it is looked up again |
//!
//! Never: asks anybody; `cores/names.rs` does, on a thread of its own.
pub mod files;
pub mod inside;
pub mod message;
pub mod table;
