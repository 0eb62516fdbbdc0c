//! Level 1: the RESP protocol as bytes: parsing requests, writing replies.

pub mod parse;
pub mod reply;
pub mod skip;
