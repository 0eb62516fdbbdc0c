//! A client's MULTI: what it has queued, and the keys it watches.

use crate::base::limits::QUEUE_KEPT_BYTES_MAX;

/// What a client in MULTI, or with watched keys, has beyond others; most have nothing.
#[derive(Debug, Default)]
pub struct Transaction {
    /// Since MULTI.
    queue: Option<Queue>,
    /// Keys with their databases, each once.
    watched: Vec<(usize, Vec<u8>)>,
    /// Memory for the next queue.
    spare: Option<Queue>,
    watched_bytes: usize,
}

/// Commands between MULTI and EXEC.
#[derive(Debug, Default)]
pub struct Queue {
    /// The words of all commands, one after the other.
    bytes: Vec<u8>,
    lengths: Vec<u32>,
    /// How many words each command has.
    counts: Vec<u32>,
    /// A command was refused: EXEC will be, too.
    pub failed: bool,
    /// Some of them may take more memory.
    pub takes_memory: bool,
}

impl Queue {
    pub fn push(&mut self, words: &[&[u8]]) {
        self.counts.push(words.len() as u32);
        self.lengths.extend(words.iter().map(|word| word.len() as u32));
        words.iter().for_each(|word| self.bytes.extend_from_slice(word));
    }

    pub fn len(&self) -> usize {
        self.counts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The words of all commands, one after the other.
    pub fn words(&self) -> impl Iterator<Item = &[u8]> {
        let mut bytes = self.bytes.as_slice();
        self.lengths.iter().map(move |&length| {
            let (word, rest) = bytes.split_at(length as usize);
            bytes = rest;
            word
        })
    }

    /// These words, command by command.
    pub fn commands<'w, 'q>(&self, mut words: &'w [&'q [u8]]) -> impl Iterator<Item = &'w [&'q [u8]]> {
        self.counts.iter().map(move |&count| {
            let (command, rest) = words.split_at(count as usize);
            words = rest;
            command
        })
    }

    fn capacity_bytes(&self) -> usize {
        self.bytes.capacity() + size_of::<u32>() * (self.lengths.capacity() + self.counts.capacity())
    }

    /// The same memory for another transaction, if it is not much.
    fn recycled(mut self) -> Option<Queue> {
        if self.capacity_bytes() > QUEUE_KEPT_BYTES_MAX {
            return None;
        }
        self.bytes.clear();
        self.lengths.clear();
        self.counts.clear();
        Some(Queue { failed: false, takes_memory: false, ..self })
    }
}

impl Transaction {
    pub fn begin(&mut self) {
        self.queue = Some(self.spare.take().unwrap_or_default());
    }

    pub fn queue(&self) -> Option<&Queue> {
        self.queue.as_ref()
    }

    pub fn queue_mut(&mut self) -> Option<&mut Queue> {
        self.queue.as_mut()
    }

    /// Back into MULTI with what was taken.
    pub fn put_queue(&mut self, queue: Queue) {
        self.queue = Some(queue);
    }

    /// Nothing queued and nothing watched, with the memory of a queue that has been run.
    pub fn reuse(&mut self, queue: Queue) {
        debug_assert!(self.queue.is_none() && self.watched.is_empty());
        self.spare = queue.recycled();
    }

    /// Ends MULTI.
    pub fn take_queue(&mut self) -> Option<Queue> {
        self.queue.take()
    }

    /// Whether the key was not watched before.
    pub fn watch(&mut self, db: usize, key: &[u8]) -> bool {
        let is_new = !self.watched.iter().any(|(known_db, known)| *known_db == db && known == key);
        if is_new {
            self.watched.push((db, key.to_vec()));
            self.watched_bytes += key.len() + size_of::<(usize, Vec<u8>)>();
        }
        is_new
    }

    pub fn watched(&self) -> &[(usize, Vec<u8>)] {
        &self.watched
    }

    /// Forgets the watched keys.
    pub fn take_watched(&mut self) -> Vec<(usize, Vec<u8>)> {
        self.watched_bytes = 0;
        std::mem::take(&mut self.watched)
    }

    /// Bytes of the queued commands and watched keys, for CLIENT LIST.
    pub fn bytes(&self) -> usize {
        self.queue.as_ref().map_or(0, Queue::capacity_bytes) + self.watched_bytes
    }
}
