//! What several shards may want to decide, and one does: the end of a client's wait.

use std::sync::atomic::{AtomicBool, Ordering};

/// Decides, once, what becomes of a client that waits.
#[derive(Debug, Default)]
pub struct Ticket(AtomicBool);

impl Ticket {
    /// Whether the caller is the one who decides.
    pub fn decide(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_turned_once() {
        let ticket = Ticket::default();
        assert!(ticket.decide() && !ticket.decide());
    }
}
