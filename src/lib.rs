//! Peristyle: a Redis-compatible in-memory server, one shard of the keyspace on every core.
//!
//! Modules stand in the order of their levels: each may use only those above it (README, "The map").
#![deny(unsafe_code)]

pub mod base;
#[allow(unsafe_code)]
pub mod sys;

pub mod codec;
pub mod resp;

pub mod config;

pub mod data;
pub mod script;

pub mod keyspace;

pub mod command;

pub mod engine;

pub mod session;

pub mod persist;

pub mod admin;

pub mod dispatch;

pub mod core;

pub mod net;
pub mod runtime;

pub mod server;
pub mod tool;
