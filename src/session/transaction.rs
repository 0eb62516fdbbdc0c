//! A client's MULTI: what it has queued, and the keys it watches.

/// What a client in MULTI, or with watched keys, has beyond others; most have nothing.
#[derive(Debug, Default)]
pub struct Transaction {
    /// Since MULTI.
    queue: Option<Queue>,
    /// Keys with their databases, each once.
    watched: Vec<(usize, Vec<u8>)>,
    watched_bytes: usize,
}

/// Commands between MULTI and EXEC.
#[derive(Debug, Default)]
pub struct Queue {
    commands: Vec<Vec<Vec<u8>>>,
    bytes: usize,
    /// A command was refused: EXEC will be, too.
    pub failed: bool,
    /// Some of them may take more memory.
    pub takes_memory: bool,
}

impl Queue {
    pub fn push(&mut self, words: Vec<Vec<u8>>) {
        let heads = words.capacity() * size_of::<Vec<u8>>() + size_of::<Vec<Vec<u8>>>();
        self.bytes += heads + words.iter().map(Vec::capacity).sum::<usize>();
        self.commands.push(words);
    }

    pub fn commands(&self) -> &[Vec<Vec<u8>>] {
        &self.commands
    }

    pub fn into_commands(self) -> Vec<Vec<Vec<u8>>> {
        self.commands
    }
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
        self.queue.as_ref().map_or(0, |queue| queue.bytes) + self.watched_bytes
    }
}
