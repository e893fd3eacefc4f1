//! The rules of the engine contract, each an async function generic over a [`Fixture`](crate::fixture::Fixture), and the bench
//! they work on.

pub mod admin;
mod bench;
pub mod dead;
pub mod decided;
pub mod delay;
pub mod handles;
pub mod ordering;
pub mod position;
pub mod publish;
pub mod pull;
pub mod retention;
pub mod settle;
pub mod view;
pub mod wait;

pub use bench::Restless;
