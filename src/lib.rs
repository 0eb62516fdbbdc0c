//! Peristyle: a Redis-compatible in-memory server, one shard of the keyspace on every core.
//!
//! Modules stand in the order of their levels: each may use only those above it (README, "The map").
#![deny(unsafe_code)]

pub mod admin;
pub mod base;
pub mod command;
pub mod config;
pub mod resp;
