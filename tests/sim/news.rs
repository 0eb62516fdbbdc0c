//! What clients are told that others have done: messages on channels, in one order for each channel, each to exactly as many
//! as its publisher learns of; and that a copy which they keep of a key is old.

use std::collections::{BTreeMap, BTreeSet};

use peristyle::base::glob;
use peristyle::base::rng::Rng;
use peristyle::resp::skip;

use crate::world::{WireId, World};

/// Channels lie on any shards; what begins with a star is a pattern.
const TOPICS: [&str; 5] = ["news", "talk", "jobs", "*s", "*"];
/// Of these.
const CHANNELS: u64 = 3;

pub fn channel(rng: &mut Rng) -> &'static str {
    TOPICS[rng.below(CHANNELS) as usize]
}

fn is_pattern(topic: &str) -> bool {
    topic.starts_with('*')
}

/// What was published; its number is the message.
pub struct Publication {
    pub channel: &'static str,
    /// Written before it.
    pub data: [String; 2],
    pub wire: WireId,
    /// Its end among the bytes of its connection, and likewise its reply's.
    pub sent_bytes: u64,
    pub answer: Option<(u64, usize)>,
}

/// A listener's connection.
#[derive(Default)]
struct Ear {
    /// What it has subscribed to once all that it sent has arrived; and what it has been told that it has.
    intended: BTreeSet<&'static str>,
    spans: Vec<Span>,
    /// In the order of arrival.
    heard: Vec<(&'static str, usize)>,
    was_reset: bool,
}

/// From the confirmation of a subscription, by bytes read, to its end, by bytes sent.
struct Span {
    topic: &'static str,
    from: u64,
    until: Option<u64>,
    is_open: bool,
}

/// A listener wants a topic, or no more.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    topic: &'static str,
    begins: bool,
    /// What it has then.
    topics: usize,
}

#[derive(Default)]
pub struct Bulletin {
    pub publications: Vec<Publication>,
    ears: BTreeMap<WireId, Ear>,
}

/// The parts of a push, the first of which says what it is.
pub fn push_parts(reply: &[u8]) -> Vec<Vec<u8>> {
    let array = [b"*", &reply[1..]].concat();
    skip::elements(&array).expect("it is written as an array is").map(<[u8]>::to_vec).collect()
}

/// The bytes of a bulk string.
pub fn text_of(bulk: &[u8]) -> Option<&[u8]> {
    let line = bulk.iter().position(|&byte| byte == b'\n')?;
    bulk.strip_prefix(b"$")?.get(line..)?.strip_suffix(b"\r\n")
}

fn bulk(text: &str) -> Vec<u8> {
    format!("${}\r\n{text}\r\n", text.len()).into_bytes()
}

impl Wish {
    pub fn command(&self) -> String {
        let (pattern, undo) = (is_pattern(self.topic), !self.begins);
        format!("{}{}SUBSCRIBE {}", if pattern { "P" } else { "" }, if undo { "UN" } else { "" }, self.topic)
    }

    pub fn is_confirmed_by(&self, parts: &[Vec<u8>]) -> bool {
        let command = self.command().to_lowercase();
        let (kind, _) = command.split_once(' ').expect("a command and a topic");
        *parts == [bulk(kind), bulk(self.topic), format!(":{}\r\n", self.topics).into_bytes()]
    }
}

impl Bulletin {
    /// What the listener of a connection asks for next.
    pub fn wish(&mut self, wire: WireId, rng: &mut Rng) -> Wish {
        let ear = self.ears.entry(wire).or_default();
        let topic = TOPICS[rng.below(TOPICS.len() as u64) as usize];
        let begins = !ear.intended.remove(topic);
        if begins {
            ear.intended.insert(topic);
        }
        Wish { topic, begins, topics: ear.intended.len() }
    }

    /// Its command ends behind so many bytes of the connection's.
    pub fn sent(&mut self, wire: WireId, wish: Wish, sent_bytes: u64) {
        let ear = self.ears.get_mut(&wire).expect("it has wished");
        if wish.begins {
            ear.spans.push(Span { topic: wish.topic, from: u64::MAX, until: None, is_open: false });
        } else {
            let mut spans = ear.spans.iter_mut().rev();
            spans.find(|span| span.topic == wish.topic).expect("it was subscribed to").until = Some(sent_bytes);
        }
    }

    pub fn confirmed(&mut self, wire: WireId, wish: Wish, read_bytes: u64) {
        let spans = &mut self.ears.get_mut(&wire).expect("it has wished").spans;
        let span = spans.iter_mut().find(|span| match wish.begins {
            true => span.topic == wish.topic && span.from == u64::MAX,
            false => span.topic == wish.topic && span.is_open,
        });
        let span = span.expect("replies are in order");
        span.is_open = wish.begins;
        if wish.begins {
            span.from = read_bytes;
        }
    }

    pub fn was_reset(&mut self, wire: WireId) {
        if let Some(ear) = self.ears.get_mut(&wire) {
            ear.was_reset = true;
        }
    }

    /// A message has come: which one.
    pub fn hears(&mut self, wire: WireId, parts: &[Vec<u8>]) -> Result<usize, String> {
        let shown = || parts.iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect::<String>();
        let texts: Option<Vec<&[u8]>> = parts.iter().map(|part| text_of(part)).collect();
        let (topic, channel, message) = match texts.as_deref() {
            Some([b"message", channel, message]) => (*channel, *channel, *message),
            Some([b"pmessage", pattern, channel, message]) => (*pattern, *channel, *message),
            _ => return Err(format!("a listener is told {:?}", shown())),
        };
        let number = std::str::from_utf8(message).ok().and_then(|text| text.parse::<usize>().ok());
        let number = number.filter(|&number| {
            self.publications.get(number).is_some_and(|publication| publication.channel.as_bytes() == channel)
        });
        let ear = self.ears.entry(wire).or_default();
        let span = ear.spans.iter().find(|span| span.is_open && span.topic.as_bytes() == topic);
        let (Some(number), Some(span)) = (number, span) else {
            return Err(format!("wire {wire} hears what nobody said, or it did not subscribe to: {:?}", shown()));
        };
        if ear.heard.contains(&(span.topic, number)) {
            return Err(format!("wire {wire} hears twice {:?}", shown()));
        }
        ear.heard.push((span.topic, number));
        Ok(number)
    }

    /// When all is over: who should have heard what, and in which order.
    pub fn check(&self, world: &World) -> Result<(), String> {
        let times: Vec<(u64, u64)> = self.publications.iter().map(|publication| times_of(publication, world)).collect();
        for (number, publication) in self.publications.iter().enumerate() {
            self.check_receivers(number, publication, times[number], world)?;
        }
        let is_before = |earlier: usize, later: usize| {
            let [one, other] = [earlier, later].map(|number| &self.publications[number]);
            let sent_before = one.wire == other.wire && one.sent_bytes < other.sent_bytes;
            sent_before || times[earlier].1 < times[later].0
        };
        let count = self.publications.len();
        let mut before = vec![vec![false; count]; count];
        for (wire, ear) in &self.ears {
            for (place, &(_, earlier)) in ear.heard.iter().enumerate() {
                for &(_, later) in &ear.heard[place + 1..] {
                    if is_before(later, earlier) {
                        return Err(format!("wire {wire} hears {earlier} before {later}, which came before it"));
                    }
                    before[earlier][later] |=
                        earlier != later && self.publications[earlier].channel == self.publications[later].channel;
                }
            }
        }
        let mut left: Vec<usize> = (0..count).collect();
        while !left.is_empty() {
            let is_first = |&number: &usize| !left.iter().any(|&other| before[other][number]);
            let Some(first) = left.iter().position(is_first) else {
                let channels: BTreeSet<&str> = left.iter().map(|&number| self.publications[number].channel).collect();
                return Err(format!("listeners disagree about the order of {left:?} on {channels:?}"));
            };
            left.swap_remove(first);
        }
        Ok(())
    }

    fn check_receivers(
        &self,
        number: usize,
        publication: &Publication,
        (sent, end): (u64, u64),
        world: &World,
    ) -> Result<(), String> {
        let (mut heard, mut perhaps) = (0, 0);
        for (&wire, ear) in &self.ears {
            let spans: Vec<&Span> = ear.spans.iter().filter(|span| span.reaches(publication.channel)).collect();
            heard += ear.heard.iter().filter(|(_, heard)| *heard == number).count();
            if ear.was_reset {
                perhaps += spans.len();
                continue;
            }
            for span in spans {
                let from = world.emitted_at(wire, span.from).unwrap_or(u64::MAX);
                let until = span.until.and_then(|until| world.arrived_at(wire, until)).unwrap_or(u64::MAX);
                if from < sent && end < until && !ear.heard.contains(&(span.topic, number)) {
                    return Err(format!("wire {wire}, subscribed to {}, does not hear {number}", span.topic));
                }
            }
        }
        match publication.answer {
            Some((_, told)) if told < heard || told > heard + perhaps => {
                Err(format!("{number} was heard {heard} times, its publisher was told of {told}"))
            }
            _ => Ok(()),
        }
    }
}

impl Span {
    fn reaches(&self, channel: &str) -> bool {
        if is_pattern(self.topic) {
            return glob::matches(self.topic.as_bytes(), channel.as_bytes(), false);
        }
        self.topic == channel
    }
}

/// Before which step it was not under way, and after which one it was over.
fn times_of(publication: &Publication, world: &World) -> (u64, u64) {
    let sent = world.arrived_at(publication.wire, publication.sent_bytes).unwrap_or(u64::MAX);
    let end = publication.answer.and_then(|(bytes, _)| world.emitted_at(publication.wire, bytes));
    (sent, end.unwrap_or(u64::MAX))
}
