//! A client's MULTI: what it has queued, and the keys it watches.

/// What a client in MULTI, or with watched keys, has beyond others; most have nothing.
#[derive(Debug, Default)]
pub struct Transaction {
    /// Since MULTI.
    queue: Option<Queue>,
    /// Keys with their databases, each once.
    watched: Vec<(usize, Vec<u8>)>,
}

/// Commands between MULTI and EXEC.
#[derive(Debug, Default)]
pub struct Queue {
    pub commands: Vec<Vec<Vec<u8>>>,
    /// A command was refused: EXEC will be, too.
    pub failed: bool,
    /// Some of them may take more memory.
    pub takes_memory: bool,
}

impl Transaction {
    pub fn begin(&mut self) {
        self.queue = Some(Queue::default());
    }

    pub fn queue(&self) -> Option<&Queue> {
        self.queue.as_ref()
    }

    pub fn queue_mut(&mut self) -> Option<&mut Queue> {
        self.queue.as_mut()
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
        }
        is_new
    }

    pub fn watched(&self) -> &[(usize, Vec<u8>)] {
        &self.watched
    }

    /// Forgets the watched keys.
    pub fn take_watched(&mut self) -> Vec<(usize, Vec<u8>)> {
        std::mem::take(&mut self.watched)
    }

    /// Bytes of the queued commands and watched keys, for CLIENT LIST.
    pub fn bytes(&self) -> usize {
        let queued = self.queue.iter().flat_map(|queue| queue.commands.iter().flatten().map(Vec::capacity));
        queued.chain(self.watched.iter().map(|(_, key)| key.capacity())).sum()
    }
}
