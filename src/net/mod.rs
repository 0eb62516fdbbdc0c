//! Level 9: sockets: the ring that moves their bytes, and the listeners that bring them.

pub mod listener;
pub mod ring;
