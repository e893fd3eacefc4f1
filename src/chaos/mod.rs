//! Chaos: faults dealt to consumers on purpose, and the history of what consumers were dealt. Only in a server
//! that was started for it; any other never comes here.
//!
//! [`Chaotic`] stands between the dialects and an engine and implements `trait Engine` itself. It deals by means
//! of the engine's own operations (a lease is lapsed early by shortening it, a delivery is doubled by giving it
//! back), so that no promise of the engine is touched: what was published stays, and a message with a limit of
//! attempts never has its last one spent by a fault. Settings and history lie in `chaos/` of the data directory,
//! are written and not synced, and mean nothing to the log.

mod chaotic;
mod desk;
mod fate;
mod faults;
mod history;
mod leases;
mod line;
mod verdict;

pub use chaotic::Chaotic;
pub use desk::{Chaos, ChaosError, ChaosOptions, Dealt, Restart};
pub use fate::{Fate, within};
pub use faults::{Fault, Faults, Place, SHARE_MAX};
pub use history::lines;
pub use line::{Event, Line};
pub use verdict::{Finding, Judge, Named, Verdict};
