//! OpenRTB 2.5 and 2.6 as an exchange reads and writes it.
//!
//! A request or an answer is read once, front to back, into a *view*: plain numbers, and [`text::Text`]s that
//! say where in the original bytes a string stands. Views own no bytes and have no lifetime, so they are
//! pooled and reused without allocation while the bytes wait in the auction's own buffer. What we do not
//! know we do not touch: [`splice`] edits the original bytes, field by field.
pub mod codes;
pub mod member;
mod parse_imp;
mod parse_native;
mod parse_request;
mod parse_response;
mod reader;
pub mod request;
pub mod response;
pub mod splice;
pub mod text;
pub mod validate;

#[cfg(test)]
mod corpus_tests;
#[cfg(test)]
mod request_tests;
#[cfg(test)]
mod response_tests;
