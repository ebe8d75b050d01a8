//! What leaves a bidder core besides answers: metrics, summed there and merged once a second, and records, each in a
//! frame that is the same from the core to the disk.
pub mod blackbox;
pub(crate) mod codec;
pub mod configured;
pub mod digest;
pub mod exposition;
pub mod frame;
pub mod keys;
pub mod labels;
pub mod marker;
pub mod metrics;
pub mod money;
pub mod personal;
pub mod raw;
pub mod refusal_sample;
pub mod refusals;
pub mod show;
pub mod slots;
pub mod stages;
pub mod started;
pub mod stopped;
pub mod table;
pub mod totals;
pub mod trace;
pub mod user;
pub mod when;

pub use codec::RecordError;

// The number of a payload is that of its frame.
const _: () = {
    use frame::Kind;
    assert!(crate::auction::delivery::KIND == Kind::Delivery as u8);
    assert!(refusals::KIND == Kind::Refusals as u8 && refusal_sample::KIND == Kind::RefusalSample as u8);
    assert!(configured::KIND == Kind::Config as u8 && started::KIND == Kind::Start as u8);
    assert!(crate::budget::movement::KIND == Kind::Account as u8);
    assert!(crate::budget::event::KIND == Kind::Lease as u8);
    assert!(stopped::STOPPED == Kind::Stop as u8 && stopped::CLEAN == Kind::Clean as u8);
};
