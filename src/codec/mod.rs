//! Level 1: formats of bytes that outlive a process or cross to another one.

pub mod aof;
pub mod rdb;
