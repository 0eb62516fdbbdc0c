//! The member of an item in the tree: where the table has it.
//!
//! A large sorted set has each member once, in the entry of its table; the tree points there. It may, because an entry
//! never moves: the table moves pointers only, and replacing one integer by another leaves an entry where it is.
//!
//! The invariant, kept by `ordered.rs`, the only user: whatever is in the tree is in the table, and what leaves the table
//! has left the tree before. (`tree.rs` is tested with members of its own, and `ordered.rs` against a model.)
#![allow(unsafe_code)]

use std::ptr::NonNull;

use super::super::entry::{Entry, EntryRef};

#[derive(Clone, Copy)]
pub(super) struct Member {
    entry: NonNull<u8>,
}

// SAFETY: a member is only ever used by the owner of the table, which is Send and owns the entry.
unsafe impl Send for Member {}

impl Member {
    /// # Safety
    /// The entry must stay where it is, alive, until the last use of the member and its copies.
    pub(super) unsafe fn of(entry: &Entry) -> Member {
        Member { entry: entry.as_raw() }
    }
}

impl AsRef<[u8]> for Member {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the promise given to `of`; the key of an entry is never written again.
        unsafe { EntryRef::from_raw(self.entry) }.key()
    }
}
