//! An entry of the keyspace: header, key, expiry and small value in one allocation behind a thin pointer.
//!
//! ```text
//! 0      kind: type and encoding (4 bits), has_expire, storage (2 bits), long_key
//! 1..4   access: 24 bits, the LRU clock or the LFU counter
//! 4      length of the key in one byte, or in four for a long key
//!        key
//!        expire_at_ms as i64, if has_expire
//!        value: its length (1 or 2 bytes) and bytes | i64 | Box<HeapValue>
//! ```
//!
//! Six bytes of header for a short string with a short key; with the key first, a lookup compares it without decoding
//! anything else. Fields are unaligned. The allocation is always rounded up to the allocator's size class, so that a
//! value which still fits its class is replaced in place: SET of an existing key usually allocates nothing.
//!
//! *Encoding* is what OBJECT ENCODING reports and follows Redis's rules; *storage* is where the bytes are, and is
//! nobody's business but this file's. An entry knows neither its hash nor its place in the table.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};

use bytes::Bytes;

use super::collection::Collection;
use super::dict::Dict;
use super::size_class::allocation_size;

/// Longest string with encoding `embstr`, as in Redis.
const EMBSTR_LEN_MAX: usize = 44;
/// Longest text that can stand for an integer: `-9223372036854775808`.
const INTEGER_LEN_MAX: usize = 20;
/// Longest value inside the entry; longer ones live in an allocation of their own, which APPEND can grow.
const INLINE_LEN_MAX: usize = 1024;
/// From here on a value is held as `Bytes`: taken over from the network and sent without a copy.
pub const SHARED_LEN_MIN: usize = 32 * 1024;
/// The access field holds this many bits, as Redis's does.
pub const ACCESS_BITS: u32 = 24;

const ALIGNMENT: usize = 16;
const ACCESS_AT: usize = 1;
const KEY_LEN_AT: usize = 4;
const SHORT_KEY_AT: usize = 5;
const LONG_KEY_AT: usize = 8;
const SHORT_KEY_LEN_MAX: usize = u8::MAX as usize;
const POINTER_BYTES: usize = size_of::<*mut HeapValue>();

const KIND_MASK: u8 = 0x0f;
const HAS_EXPIRE: u8 = 0x10;
const STORAGE_MASK: u8 = 0x60;
const STORAGE_INLINE: u8 = 0x00;
const STORAGE_INT: u8 = 0x20;
const STORAGE_HEAP: u8 = 0x40;
const LONG_KEY: u8 = 0x80;

/// First length byte of an inline value from which on a second one follows.
const TWO_BYTE_LEN: usize = 0xf0;
const _: () = assert!(INLINE_LEN_MAX < TWO_BYTE_LEN + ((0x100 - TWO_BYTE_LEN) << 8));

/// Type and encoding of a value. At most sixteen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    StringInt,
    StringEmbstr,
    StringRaw,
    ListListpack,
    ListQuicklist,
    SetIntset,
    SetListpack,
    SetHashtable,
    HashListpack,
    HashHashtable,
    ZsetListpack,
    ZsetSkiplist,
    Stream,
    /// Hashes that may have fields with a time of their own: the last kinds, see `has_field_times`.
    HashListpackTimed,
    HashHashtableTimed,
}

const _: () = assert!(Kind::HashHashtableTimed as usize == Kind::ALL.len() - 1 && Kind::ALL.len() <= 16);

impl Kind {
    /// By their numbers.
    const ALL: [Kind; 15] = [
        Kind::StringInt,
        Kind::StringEmbstr,
        Kind::StringRaw,
        Kind::ListListpack,
        Kind::ListQuicklist,
        Kind::SetIntset,
        Kind::SetListpack,
        Kind::SetHashtable,
        Kind::HashListpack,
        Kind::HashHashtable,
        Kind::ZsetListpack,
        Kind::ZsetSkiplist,
        Kind::Stream,
        Kind::HashListpackTimed,
        Kind::HashHashtableTimed,
    ];

    /// As TYPE answers it.
    pub fn type_name(self) -> &'static str {
        match self {
            Kind::StringInt | Kind::StringEmbstr | Kind::StringRaw => "string",
            Kind::ListListpack | Kind::ListQuicklist => "list",
            Kind::SetIntset | Kind::SetListpack | Kind::SetHashtable => "set",
            Kind::HashListpack | Kind::HashHashtable | Kind::HashListpackTimed | Kind::HashHashtableTimed => "hash",
            Kind::ZsetListpack | Kind::ZsetSkiplist => "zset",
            Kind::Stream => "stream",
        }
    }

    /// As OBJECT ENCODING answers it.
    pub fn encoding_name(self) -> &'static str {
        match self {
            Kind::StringInt => "int",
            Kind::StringEmbstr => "embstr",
            Kind::StringRaw => "raw",
            Kind::ListListpack | Kind::SetListpack | Kind::HashListpack | Kind::ZsetListpack => "listpack",
            Kind::ListQuicklist => "quicklist",
            Kind::SetIntset => "intset",
            Kind::HashListpackTimed => "listpackex",
            Kind::SetHashtable | Kind::HashHashtable | Kind::HashHashtableTimed => "hashtable",
            Kind::ZsetSkiplist => "skiplist",
            Kind::Stream => "stream",
        }
    }

    fn of_text(text: &[u8]) -> Kind {
        if text.len() <= EMBSTR_LEN_MAX { Kind::StringEmbstr } else { Kind::StringRaw }
    }
}

/// What a command stores.
#[derive(Debug)]
pub enum Value<'a> {
    /// A string as SET stores it: encoding `int`, `embstr` or `raw`, by its text.
    Text(&'a [u8]),
    /// A string that is never taken for an integer: the result of INCRBYFLOAT.
    Plain(&'a [u8]),
    /// A string that was modified in place: always `raw`, as after APPEND.
    Raw(&'a [u8]),
    Int(i64),
    /// A string as SET stores it, in a buffer that may be taken over: from `SHARED_LEN_MIN` on it is not copied.
    Shared(Bytes),
    Collection(Collection),
}

/// What an entry holds, as a reader sees it.
#[derive(Clone, Copy, Debug)]
pub enum ValueRef<'a> {
    Text(TextRef<'a>),
    Collection(&'a Collection),
}

/// A string, as a reader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextRef<'a> {
    Int(i64),
    Bytes(&'a [u8]),
    Shared(&'a Bytes),
}

impl<'a> TextRef<'a> {
    /// The length of the string as a client sees it.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        match self {
            TextRef::Int(n) => itoa::Buffer::new().format(*n).len(),
            TextRef::Bytes(bytes) => bytes.len(),
            TextRef::Shared(bytes) => bytes.len(),
        }
    }

    /// As a client sees it; an integer's digits are put into `digits`.
    pub fn bytes<'b>(self, digits: &'b mut itoa::Buffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            TextRef::Int(n) => digits.format(n).as_bytes(),
            TextRef::Bytes(bytes) => bytes,
            TextRef::Shared(bytes) => bytes,
        }
    }
}

/// A value outside its entry.
#[derive(Debug)]
enum HeapValue {
    /// A growable string.
    Text(Vec<u8>),
    Shared(Bytes),
    Collection(Collection),
}

impl HeapValue {
    fn usable_bytes(&self, samples: usize) -> usize {
        /// The counter that `Bytes` keeps beside a buffer it shares.
        const SHARED_COUNTER_BYTES: usize = 24;
        let content = match self {
            HeapValue::Text(text) => allocation_size(text.capacity()),
            HeapValue::Shared(bytes) => allocation_size(bytes.len()) + allocation_size(SHARED_COUNTER_BYTES),
            HeapValue::Collection(collection) => collection.usable_bytes(samples),
        };
        allocation_size(size_of::<HeapValue>()) + content
    }
}

/// The value part of an entry that is being written.
enum Payload<'a> {
    Int(i64),
    Inline(&'a [u8]),
    Heap(Box<HeapValue>),
}

impl Value<'_> {
    /// Hands kind and payload to `write`.
    fn lay_out<R>(self, write: impl FnOnce(Kind, Payload<'_>) -> R) -> R {
        match self {
            Value::Int(n) => write(Kind::StringInt, Payload::Int(n)),
            Value::Text(text) => match integer(text) {
                Some(n) => write(Kind::StringInt, Payload::Int(n)),
                None => write(Kind::of_text(text), Payload::of_text(text)),
            },
            Value::Plain(text) => write(Kind::of_text(text), Payload::of_text(text)),
            Value::Raw(text) => write(Kind::StringRaw, Payload::of_text(text)),
            Value::Shared(bytes) if bytes.len() >= SHARED_LEN_MIN => {
                write(Kind::StringRaw, Payload::Heap(Box::new(HeapValue::Shared(bytes))))
            }
            // A small value would keep the whole buffer it came in alive.
            Value::Shared(bytes) => Value::Text(&bytes).lay_out(write),
            Value::Collection(collection) => {
                write(collection.kind(), Payload::Heap(Box::new(HeapValue::Collection(collection))))
            }
        }
    }
}

impl Payload<'_> {
    fn of_text(text: &[u8]) -> Payload<'_> {
        if text.len() <= INLINE_LEN_MAX {
            Payload::Inline(text)
        } else if text.len() < SHARED_LEN_MIN {
            Payload::Heap(Box::new(HeapValue::Text(text.to_vec())))
        } else {
            Payload::Heap(Box::new(HeapValue::Shared(Bytes::copy_from_slice(text))))
        }
    }

    fn storage(&self) -> u8 {
        match self {
            Payload::Int(_) => STORAGE_INT,
            Payload::Inline(_) => STORAGE_INLINE,
            Payload::Heap(_) => STORAGE_HEAP,
        }
    }

    fn len(&self) -> usize {
        match self {
            Payload::Int(_) => size_of::<i64>(),
            Payload::Inline(text) => inline_header_len(text.len()) + text.len(),
            Payload::Heap(_) => POINTER_BYTES,
        }
    }
}

fn inline_header_len(len: usize) -> usize {
    if len < TWO_BYTE_LEN { 1 } else { 2 }
}

/// The integer whose only spelling `text` is: no plus sign, no leading zero, no `-0`.
fn integer(text: &[u8]) -> Option<i64> {
    if text.is_empty() || text.len() > INTEGER_LEN_MAX {
        return None;
    }
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    match digits {
        [b'0'] if text.len() == 1 => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    let mut negated: i64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        negated = negated.checked_mul(10)?.checked_sub(i64::from(digit - b'0'))?;
    }
    if digits.len() < text.len() { Some(negated) } else { negated.checked_neg() }
}

/// An owned entry.
pub struct Entry {
    pointer: NonNull<u8>,
}

// SAFETY: an entry owns its allocation, and all that it can hold is Send (`contents_are_send`).
unsafe impl Send for Entry {}

const fn contents_are_send<T: Send>() {}
const _: () = contents_are_send::<HeapValue>();

/// A borrowed entry: as thin as a reference, and without an indirection of its own.
///
/// The access bits can be written through it, like a `Cell`; nothing ever borrows them.
#[derive(Clone, Copy)]
pub struct EntryRef<'a> {
    pointer: NonNull<u8>,
    entry: PhantomData<&'a Entry>,
}

impl Entry {
    pub fn new(key: &[u8], value: Value<'_>, expire_at_ms: Option<i64>, access: u32) -> Entry {
        value.lay_out(|kind, payload| {
            let mut entry = Entry::with_key(key, expire_at_ms.is_some(), payload.len());
            entry.set_access(access);
            entry.write(kind, payload, expire_at_ms);
            entry
        })
    }

    pub fn as_ref(&self) -> EntryRef<'_> {
        EntryRef { pointer: self.pointer, entry: PhantomData }
    }

    pub fn key(&self) -> &[u8] {
        self.as_ref().key()
    }

    pub fn kind(&self) -> Kind {
        self.as_ref().kind()
    }

    pub fn value(&self) -> ValueRef<'_> {
        self.as_ref().value()
    }

    pub fn expire_at_ms(&self) -> Option<i64> {
        self.as_ref().expire_at_ms()
    }

    pub fn access(&self) -> u32 {
        self.as_ref().access()
    }

    pub fn set_access(&self, access: u32) {
        self.as_ref().set_access(access);
    }

    pub fn usable_bytes(&self) -> usize {
        self.as_ref().usable_bytes(0)
    }

    /// The elements that dropping the entry frees one by one; 1 for a string.
    pub fn free_effort(&self) -> usize {
        match self.value() {
            ValueRef::Text(_) => 1,
            ValueRef::Collection(collection) => collection.free_effort(),
        }
    }

    /// Lets `change` modify the collection that the entry holds; its encoding may become another one. Panics if the
    /// entry holds a string.
    pub fn change_collection<R>(&mut self, change: impl FnOnce(&mut Collection) -> R) -> R {
        let Some(HeapValue::Collection(collection)) = self.heap_value_mut() else { panic!("the entry holds a string") };
        let result = change(collection);
        let kind = collection.kind();
        let flags = self.as_ref().flags();
        self.write_bytes(0, &[flags & !KIND_MASK | kind as u8]);
        result
    }

    /// The table that holds a collection's elements, if one does, for a snapshot of it.
    pub fn table_mut(&mut self) -> Option<&mut Dict> {
        match self.heap_value_mut() {
            Some(HeapValue::Collection(collection)) => collection.table_mut(),
            _ => None,
        }
    }

    /// Takes the collection out of an entry; `None` if it holds a string.
    pub fn into_collection(mut self) -> Option<Collection> {
        match self.heap_value_mut() {
            Some(HeapValue::Collection(collection)) => Some(std::mem::take(collection)),
            _ => None,
        }
    }

    /// Replaces the value; key, expiry and access bits stay.
    pub fn set_value(&mut self, value: Value<'_>) {
        let expire_at_ms = self.expire_at_ms();
        self.set_value_and_expire(value, expire_at_ms);
    }

    /// Replaces value and expiry in one step, as SET does: at most one allocation, and none if the size class stays.
    pub fn set_value_and_expire(&mut self, value: Value<'_>, expire_at_ms: Option<i64>) {
        value.lay_out(|kind, payload| self.replace(kind, payload, expire_at_ms));
    }

    /// Sets or removes the expiry; reallocates only if the size class changes.
    pub fn set_expire(&mut self, expire_at_ms: Option<i64>) {
        let view = self.as_ref();
        let had_expire = view.flag(HAS_EXPIRE);
        if had_expire == expire_at_ms.is_some() {
            let at = view.expire_at();
            if let Some(at_ms) = expire_at_ms {
                self.write_bytes(at, &at_ms.to_le_bytes());
            }
            return;
        }
        let (from, len) = (view.value_at(), view.value_part_len());
        let to = if had_expire { from - 8 } else { from + 8 };
        if allocation_size(to + len) == view.allocated() {
            // SAFETY: both ranges lie in the allocation, whose size class holds `to + len` bytes.
            unsafe { ptr::copy(self.at(from), self.at(to), len) };
        } else {
            let moved = Entry::with_key(self.key(), expire_at_ms.is_some(), len);
            // SAFETY: `moved` was allocated for `len` bytes of value; the bytes before the key are plain data, and the
            // value's bytes, an owning pointer perhaps, now belong to `moved`: the old allocation is freed without
            // dropping it.
            unsafe {
                ptr::copy_nonoverlapping(self.at(from), moved.at(to), len);
                moved.at(0).write(self.at(0).read());
            }
            moved.set_access(self.access());
            let old = std::mem::replace(self, moved);
            old.free_allocation(allocation_size(from + len));
        }
        let flags = self.as_ref().flags();
        match expire_at_ms {
            Some(at_ms) => {
                self.write_bytes(0, &[flags | HAS_EXPIRE]);
                let at = self.as_ref().expire_at();
                self.write_bytes(at, &at_ms.to_le_bytes());
            }
            None => self.write_bytes(0, &[flags & !HAS_EXPIRE]),
        }
    }

    /// Appends to a string; the encoding becomes `raw`, as in Redis.
    pub fn append(&mut self, tail: &[u8]) {
        let len = self.as_ref().text().len();
        self.edit(len + tail.len(), |text| text[len..].copy_from_slice(tail));
    }

    /// Overwrites a string from `offset` on, growing it with zero bytes as needed; the encoding becomes `raw`.
    pub fn set_range(&mut self, offset: usize, patch: &[u8]) {
        let len = self.as_ref().text().len().max(offset + patch.len());
        self.edit(len, |text| text[offset..offset + patch.len()].copy_from_slice(patch));
    }

    /// Lets `change` modify a string where it is, grown to `len_min` bytes with zeros; the encoding becomes `raw`.
    pub fn change_text<R>(&mut self, len_min: usize, change: impl FnOnce(&mut [u8]) -> R) -> R {
        let len = self.as_ref().text().len().max(len_min);
        self.edit(len, change)
    }

    /// Brings the text to `len` bytes, adding zeros, and lets `change` modify it: a value of its own grows amortised,
    /// a shared one is copied first.
    fn edit<R>(&mut self, len: usize, change: impl FnOnce(&mut [u8]) -> R) -> R {
        let in_place = match self.heap_value_mut() {
            Some(HeapValue::Text(text)) => {
                text.resize(len, 0);
                Some(&mut text[..])
            }
            _ => self.inline_mut().filter(|text| text.len() == len),
        };
        if let Some(text) = in_place {
            let result = change(text);
            let flags = self.as_ref().flags();
            self.write_bytes(0, &[flags & !KIND_MASK | Kind::StringRaw as u8]);
            return result;
        }
        let mut digits = itoa::Buffer::new();
        let old = self.as_ref().text().bytes(&mut digits);
        let expire_at_ms = self.expire_at_ms();
        if len <= INLINE_LEN_MAX {
            let mut text = [0; INLINE_LEN_MAX];
            text[..old.len()].copy_from_slice(old);
            let result = change(&mut text[..len]);
            self.replace(Kind::StringRaw, Payload::Inline(&text[..len]), expire_at_ms);
            result
        } else {
            let mut text = Vec::with_capacity(len);
            text.extend_from_slice(old);
            text.resize(len, 0);
            let result = change(&mut text);
            self.replace(Kind::StringRaw, Payload::Heap(Box::new(HeapValue::Text(text))), expire_at_ms);
            result
        }
    }

    /// A long string that may grow becomes one that can be held elsewhere, too, without being copied.
    pub fn share_text(&mut self) {
        if let Some(value) = self.heap_value_mut()
            && let HeapValue::Text(text) = value
            && text.len() >= SHARED_LEN_MIN
        {
            *value = HeapValue::Shared(Bytes::from(std::mem::take(text)));
        }
    }

    /// The bytes of a string inside the entry.
    fn inline_mut(&mut self) -> Option<&mut [u8]> {
        let view = self.as_ref();
        if view.flags() & STORAGE_MASK != STORAGE_INLINE {
            return None;
        }
        let at = view.value_at();
        let len = view.inline_len(at);
        // SAFETY: the flags say that `len` bytes of value stand there, and `self` is borrowed mutably.
        Some(unsafe { std::slice::from_raw_parts_mut(self.at(at + inline_header_len(len)), len) })
    }

    fn heap_value_mut(&mut self) -> Option<&mut HeapValue> {
        // SAFETY: the pointer came from Box::into_raw, this entry owns it, and `self` is borrowed mutably.
        self.as_ref().heap_pointer().map(|pointer| unsafe { &mut *pointer })
    }

    fn replace(&mut self, kind: Kind, payload: Payload<'_>, expire_at_ms: Option<i64>) {
        let view = self.as_ref();
        let value_at = view.key_at() + view.key_len() + if expire_at_ms.is_some() { 8 } else { 0 };
        if allocation_size(value_at + payload.len()) == view.allocated() {
            self.drop_heap_value();
            self.write(kind, payload, expire_at_ms);
        } else {
            let mut replacement = Entry::with_key(self.key(), expire_at_ms.is_some(), payload.len());
            replacement.set_access(self.access());
            replacement.write(kind, payload, expire_at_ms);
            *self = replacement;
        }
    }

    /// Allocates, and writes what concerns the key. `write` has to follow before the entry can be dropped.
    fn with_key(key: &[u8], has_expire: bool, value_part_len: usize) -> Entry {
        let long_key = key.len() > SHORT_KEY_LEN_MAX;
        let key_len = u32::try_from(key.len()).expect("a key is shorter than the 512 MiB that a bulk string may have");
        let key_at = if long_key { LONG_KEY_AT } else { SHORT_KEY_AT };
        let len = key_at + key.len() + if has_expire { 8 } else { 0 } + value_part_len;
        let layout = Entry::layout(allocation_size(len));
        // SAFETY: the layout has a size, as `len` counts the header.
        let Some(pointer) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        let mut entry = Entry { pointer };
        entry.write_bytes(0, &[if long_key { LONG_KEY } else { 0 }]);
        if long_key {
            entry.write_bytes(KEY_LEN_AT, &key_len.to_le_bytes());
        } else {
            entry.write_bytes(KEY_LEN_AT, &[key_len as u8]);
        }
        entry.write_bytes(key_at, key);
        entry
    }

    /// Writes kind, expiry and value. The allocation must have room for them, and owns no heap value any more.
    fn write(&mut self, kind: Kind, payload: Payload<'_>, expire_at_ms: Option<i64>) {
        let expire_flag = if expire_at_ms.is_some() { HAS_EXPIRE } else { 0 };
        let flags = self.as_ref().flags() & LONG_KEY | kind as u8 | payload.storage() | expire_flag;
        self.write_bytes(0, &[flags]);
        if let Some(at_ms) = expire_at_ms {
            let at = self.as_ref().expire_at();
            self.write_bytes(at, &at_ms.to_le_bytes());
        }
        let value_at = self.as_ref().value_at();
        match payload {
            Payload::Int(n) => self.write_bytes(value_at, &n.to_le_bytes()),
            Payload::Inline(text) if text.len() < TWO_BYTE_LEN => {
                self.write_bytes(value_at, &[text.len() as u8]);
                self.write_bytes(value_at + 1, text);
            }
            Payload::Inline(text) => {
                let rest = text.len() - TWO_BYTE_LEN;
                self.write_bytes(value_at, &[(TWO_BYTE_LEN + (rest >> 8)) as u8, rest as u8]);
                self.write_bytes(value_at + 2, text);
            }
            Payload::Heap(value) => {
                // SAFETY: `value_at` lies in the allocation with room for a pointer.
                unsafe { self.at(value_at).cast::<*mut HeapValue>().write_unaligned(Box::into_raw(value)) }
            }
        }
    }

    /// SAFETY of all callers: the range was allocated, see `with_key`; `source` is never part of this entry.
    fn write_bytes(&mut self, offset: usize, source: &[u8]) {
        // SAFETY: see above.
        unsafe { ptr::copy_nonoverlapping(source.as_ptr(), self.at(offset), source.len()) }
    }

    /// SAFETY: `offset` must lie in the allocation.
    unsafe fn at(&self, offset: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { self.pointer.as_ptr().add(offset) }
    }

    fn drop_heap_value(&mut self) {
        if let Some(pointer) = self.as_ref().heap_pointer() {
            // SAFETY: the pointer came from Box::into_raw; the callers free or overwrite the field.
            drop(unsafe { Box::from_raw(pointer) });
        }
    }

    fn free_allocation(self, size: usize) {
        let entry = ManuallyDrop::new(self);
        // SAFETY: allocated by `with_key` with this layout; not used afterwards.
        unsafe { dealloc(entry.pointer.as_ptr(), Entry::layout(size)) }
    }

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, ALIGNMENT).expect("a key and an inline value are far below isize::MAX")
    }

    /// Gives the allocation away; `from_raw` takes it back.
    pub(super) fn into_raw(self) -> NonNull<u8> {
        ManuallyDrop::new(self).pointer
    }

    /// Where the entry is, for the table whose entry is being modified.
    pub(super) fn as_raw(&self) -> NonNull<u8> {
        self.pointer
    }

    /// # Safety
    /// `pointer` must come from `into_raw`, and become an owned entry only once.
    pub(super) unsafe fn from_raw(pointer: NonNull<u8>) -> Entry {
        Entry { pointer }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let size = self.as_ref().allocated();
        self.drop_heap_value();
        // SAFETY: allocated by `with_key` with this layout.
        unsafe { dealloc(self.pointer.as_ptr(), Entry::layout(size)) }
    }
}

impl<'a> EntryRef<'a> {
    /// # Safety
    /// `pointer` must come from `Entry::into_raw`, and the entry must outlive `'a` unmodified but for its access bits.
    pub(super) unsafe fn from_raw(pointer: NonNull<u8>) -> EntryRef<'a> {
        EntryRef { pointer, entry: PhantomData }
    }

    /// Where the entry is, for the table that it is in.
    #[inline]
    pub(super) fn as_raw(self) -> NonNull<u8> {
        self.pointer
    }

    /// A copy under another key, with the same value, encoding, expiry and access bits. Large strings are shared.
    pub fn copy_as(self, key: &[u8]) -> Entry {
        let value = match (self.value(), self.kind()) {
            (ValueRef::Text(TextRef::Int(n)), _) => Value::Int(n),
            (ValueRef::Text(TextRef::Shared(bytes)), _) => Value::Shared(bytes.clone()),
            (ValueRef::Text(TextRef::Bytes(bytes)), Kind::StringRaw) => Value::Raw(bytes),
            (ValueRef::Text(TextRef::Bytes(bytes)), _) => Value::Plain(bytes),
            (ValueRef::Collection(collection), _) => Value::Collection(collection.clone()),
        };
        Entry::new(key, value, self.expire_at_ms(), self.access())
    }

    #[inline]
    pub fn key(self) -> &'a [u8] {
        self.bytes(self.key_at(), self.key_len())
    }

    /// Their kinds come first.
    #[inline]
    pub fn is_string(self) -> bool {
        self.flags() & KIND_MASK <= Kind::StringRaw as u8
    }

    /// Is this a hash in which fields may have expired? Asked with every lookup: these kinds come last.
    #[inline]
    pub fn has_field_times(self) -> bool {
        self.flags() & KIND_MASK >= Kind::HashListpackTimed as u8
    }

    pub fn kind(self) -> Kind {
        Kind::ALL[usize::from(self.flags() & KIND_MASK)]
    }

    #[inline]
    pub fn value(self) -> ValueRef<'a> {
        let at = self.value_at();
        match self.flags() & STORAGE_MASK {
            STORAGE_INT => ValueRef::Text(TextRef::Int(i64::from_le_bytes(self.array(at)))),
            STORAGE_INLINE => {
                let len = self.inline_len(at);
                ValueRef::Text(TextRef::Bytes(self.bytes(at + inline_header_len(len), len)))
            }
            _ => {
                let pointer = self.heap_pointer().expect("the third kind of storage");
                // SAFETY: the pointer came from Box::into_raw, and the entry is borrowed for 'a.
                match unsafe { &*pointer } {
                    HeapValue::Text(text) => ValueRef::Text(TextRef::Bytes(text)),
                    HeapValue::Shared(bytes) => ValueRef::Text(TextRef::Shared(bytes)),
                    HeapValue::Collection(collection) => ValueRef::Collection(collection),
                }
            }
        }
    }

    /// The string that the entry holds. Panics if it holds a collection.
    #[inline]
    pub fn text(self) -> TextRef<'a> {
        match self.value() {
            ValueRef::Text(text) => text,
            ValueRef::Collection(_) => panic!("the entry holds a collection"),
        }
    }

    /// Unix time in milliseconds after which the key does not exist any more.
    pub fn expire_at_ms(self) -> Option<i64> {
        self.flag(HAS_EXPIRE).then(|| i64::from_le_bytes(self.array(self.expire_at())))
    }

    /// The LRU clock or LFU counter of the last access.
    pub fn access(self) -> u32 {
        let [a, b, c] = self.array(ACCESS_AT);
        u32::from_le_bytes([a, b, c, 0])
    }

    pub fn set_access(self, access: u32) {
        debug_assert!(access >> ACCESS_BITS == 0, "the access field has 24 bits");
        let bytes = access.to_le_bytes();
        // SAFETY: the field lies in every entry; no reference to it is ever made, and entries are not Sync.
        unsafe { self.pointer.as_ptr().add(ACCESS_AT).cast::<[u8; 3]>().write([bytes[0], bytes[1], bytes[2]]) }
    }

    /// The memory that the entry takes, with all that it owns; elements of a large collection by the average of
    /// `samples` of them, or exactly if that is 0.
    pub fn usable_bytes(self, samples: usize) -> usize {
        // SAFETY: the pointer came from Box::into_raw, and the entry is borrowed.
        let heap = self.heap_pointer().map_or(0, |pointer| unsafe { &*pointer }.usable_bytes(samples));
        self.allocated() + heap
    }

    /// How much the text that the entry holds may grow where it is.
    pub fn text_slack(self) -> usize {
        // SAFETY: the pointer came from Box::into_raw, and the entry is borrowed.
        match self.heap_pointer().map(|pointer| unsafe { &*pointer }) {
            Some(HeapValue::Text(text)) => text.capacity() - text.len(),
            _ => 0,
        }
    }

    /// The size class of the entry's own allocation.
    pub fn allocated(self) -> usize {
        allocation_size(self.value_at() + self.value_part_len())
    }

    fn flags(self) -> u8 {
        let [flags] = self.array(0);
        flags
    }

    fn flag(self, flag: u8) -> bool {
        self.flags() & flag != 0
    }

    fn key_at(self) -> usize {
        if self.flag(LONG_KEY) { LONG_KEY_AT } else { SHORT_KEY_AT }
    }

    fn key_len(self) -> usize {
        if self.flag(LONG_KEY) {
            u32::from_le_bytes(self.array(KEY_LEN_AT)) as usize
        } else {
            let [len] = self.array(KEY_LEN_AT);
            usize::from(len)
        }
    }

    fn expire_at(self) -> usize {
        self.key_at() + self.key_len()
    }

    fn value_at(self) -> usize {
        self.expire_at() + if self.flag(HAS_EXPIRE) { 8 } else { 0 }
    }

    fn value_part_len(self) -> usize {
        match self.flags() & STORAGE_MASK {
            STORAGE_INT => size_of::<i64>(),
            STORAGE_INLINE => {
                let len = self.inline_len(self.value_at());
                inline_header_len(len) + len
            }
            _ => POINTER_BYTES,
        }
    }

    fn inline_len(self, at: usize) -> usize {
        let [first] = self.array(at);
        let first = usize::from(first);
        if first < TWO_BYTE_LEN {
            return first;
        }
        let [second] = self.array(at + 1);
        TWO_BYTE_LEN + ((first - TWO_BYTE_LEN) << 8) + usize::from(second)
    }

    fn heap_pointer(self) -> Option<*mut HeapValue> {
        if self.flags() & STORAGE_MASK != STORAGE_HEAP {
            return None;
        }
        // SAFETY: with this storage `write` put a pointer there.
        Some(unsafe { self.pointer.as_ptr().add(self.value_at()).cast::<*mut HeapValue>().read_unaligned() })
    }

    fn array<const N: usize>(self, offset: usize) -> [u8; N] {
        // SAFETY: all callers read fields that the flags say are there.
        unsafe { self.pointer.as_ptr().add(offset).cast::<[u8; N]>().read() }
    }

    fn bytes(self, offset: usize, len: usize) -> &'a [u8] {
        // SAFETY: as above; key and value are not modified while the entry is borrowed.
        unsafe { std::slice::from_raw_parts(self.pointer.as_ptr().add(offset), len) }
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_ref().fmt(f)
    }
}

impl std::fmt::Debug for EntryRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key().escape_ascii().to_string())
            .field("kind", &self.kind())
            .field("value", &self.value())
            .field("expire_at_ms", &self.expire_at_ms())
            .finish()
    }
}

#[cfg(test)]
mod tests;
