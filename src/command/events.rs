//! Keyspace events: what happened to which key, under the names that Redis has for it (notify-keyspace-events).
//!
//! Commands note events while they run. Whoever runs them takes the events afterwards and sends them to the subscribers,
//! behind the reply, or when the transaction that the command belongs to commits.

pub use crate::config::value::NotifyFlags as Class;

use crate::config::Config;

/// Events of one shard that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Events {
    /// The classes that are noted: none unless they are shown in some form.
    wanted: Class,
    noted: Vec<Noted>,
    keys: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Noted {
    db: usize,
    name: &'static str,
    /// In `Events::keys`.
    key_end: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    pub db: usize,
    pub name: &'static str,
    pub key: &'a [u8],
}

impl Events {
    /// From now on this configuration counts.
    pub fn configure(&mut self, config: &Config) {
        let classes = config.notify_keyspace_events;
        let is_shown = classes.intersects(Class::KEYSPACE.and(Class::KEYEVENT));
        self.wanted = if is_shown { classes } else { Class::default() };
    }

    /// Is one of these noted?
    #[inline]
    pub fn wants(&self, class: Class) -> bool {
        self.wanted.intersects(class)
    }

    /// Notes nothing until it is configured again: what is done now has been noted elsewhere. Gives back what it wanted.
    pub fn mute(&mut self) -> Class {
        std::mem::take(&mut self.wanted)
    }

    pub fn unmute(&mut self, wanted: Class) {
        self.wanted = wanted;
    }

    /// A branch while nobody wants it.
    #[inline]
    pub fn note(&mut self, class: Class, db: usize, name: &'static str, key: &[u8]) {
        if self.wants(class) {
            self.push(Event { db, name, key });
        }
    }

    #[cold]
    pub fn push(&mut self, event: Event<'_>) {
        self.keys.extend_from_slice(event.key);
        self.noted.push(Noted { db: event.db, name: event.name, key_end: self.keys.len() });
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.noted.is_empty()
    }

    pub fn clear(&mut self) {
        self.noted.clear();
        self.keys.clear();
        // Once in a while a command has very many.
        self.noted.shrink_to(1024);
        self.keys.shrink_to(64 * 1024);
    }

    /// In the order in which they happened.
    pub fn iter(&self) -> impl Iterator<Item = Event<'_>> {
        let mut from = 0;
        self.noted.iter().map(move |noted| {
            let key = &self.keys[from..noted.key_end];
            from = noted.key_end;
            Event { db: noted.db, name: noted.name, key }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(notify_keyspace_events: Class) -> Events {
        let mut events = Events::default();
        events.configure(&Config { notify_keyspace_events, ..Config::default() });
        events
    }

    #[test]
    fn only_wanted_classes_are_noted() {
        let noted = |classes: Class| {
            let mut events = events(classes);
            events.note(Class::STRING, 0, "set", b"k");
            events.note(Class::GENERIC, 3, "del", b"key");
            events.note(Class::KEY_MISS, 0, "keymiss", b"");
            events.iter().map(|event| format!("{}@{}:{}", event.name, event.db, event.key.len())).collect::<Vec<_>>()
        };
        assert_eq!(noted(Class::KEYSPACE.and(Class::ALL)), ["set@0:1", "del@3:3"]);
        assert_eq!(noted(Class::KEYEVENT.and(Class::GENERIC).and(Class::KEY_MISS)), ["del@3:3", "keymiss@0:0"]);
        assert_eq!(noted(Class::ALL), [""; 0], "neither as keyspace nor as keyevent");
        assert_eq!(noted(Class::default()), [""; 0]);
    }

    #[test]
    fn events_are_taken_in_order_and_once() {
        let mut events = events(Class::KEYEVENT.and(Class::ALL));
        for key in [&b"a"[..], b"", b"bc"] {
            events.note(Class::LIST, 1, "lpush", key);
        }
        assert_eq!(events.iter().map(|event| event.key).collect::<Vec<_>>(), [&b"a"[..], b"", b"bc"]);
        let wanted = events.mute();
        events.note(Class::LIST, 1, "lpush", b"d");
        events.unmute(wanted);
        assert_eq!(events.iter().count(), 3);
        events.clear();
        assert!(events.is_empty());
    }
}
