//! The format of an RDB file: read and written as a stream, without knowing where the bytes are.
//!
//! ```text
//! "REDIS" | version, four digits | records | EOF (255) | CRC-64 of all before (8, little endian; 0: none)
//!
//! record   250 name value                    AUX: who wrote the file, and when
//!          254 database                      SELECTDB: of what follows
//!          251 keys, keys with an expiry     RESIZEDB
//!          245 source                        FUNCTION2: a library
//!          247 id, fields                    MODULE_AUX
//!          244 slot, keys, with an expiry    SLOT_INFO
//!          [252 Unix time in ms | 253 in s] [248 idle seconds] [249 LFU counter] type key value
//! ```
//!
//! [`read::RdbReader`] takes every version there is up to 12; nothing in a file makes it allocate more than there are
//! bytes. [`write`] makes the pieces: a header, chunks of whole entries that may stand in any order as each begins with
//! a SELECTDB, and the end.

pub mod read;
#[cfg(test)]
mod tests;
pub mod write;

/// What a file begins with, before the four digits of its version.
pub const MAGIC: &[u8; 5] = b"REDIS";
/// The same in newer versions of Valkey's, and only three digits.
const MAGIC_OF_VALKEY: &[u8; 6] = b"VALKEY";
pub const HEADER_LEN: usize = MAGIC.len() + 4;
/// The newest version that is read; its only news are hashes with times of fields.
pub const VERSION_MAX: u16 = crate::codec::rdb::RDB_VERSION_OF_FIELD_TIMES;
/// From this version on a checksum follows the end.
const VERSION_WITH_CHECKSUM: u16 = 5;
