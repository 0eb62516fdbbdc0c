use super::*;
use proptest::prelude::*;

/// As many shards as there are, and the news between them: handed over in order, but whenever the test likes.
struct Shards {
    slots: SlotMap,
    shards: Vec<PubSub>,
    mail: Vec<(ShardId, ShardId, News)>,
}

impl Shards {
    fn new(count: usize) -> Shards {
        let shards = (0..count).map(|id| PubSub::new(id, [1, 2, 3, 4])).collect();
        Shards { slots: SlotMap::contiguous(count), shards, mail: Vec::new() }
    }

    fn act<R>(&mut self, shard: ShardId, act: impl FnOnce(&mut PubSub, &SlotMap) -> R) -> R {
        let result = act(&mut self.shards[shard], &self.slots);
        let news = self.shards[shard].take_news();
        self.mail.extend(news.into_iter().map(|(to, news)| (shard, to, news)));
        result
    }

    fn subscribe(&mut self, shard: ShardId, client: u32, kind: Kind, name: &str) -> bool {
        self.act(shard, |pubsub, slots| pubsub.subscribe(conn(client), kind, name.as_bytes(), slots))
    }

    fn unsubscribe(&mut self, shard: ShardId, client: u32, kind: Kind, name: &str) -> bool {
        self.act(shard, |pubsub, slots| pubsub.unsubscribe(conn(client), kind, name.as_bytes(), slots))
    }

    fn disconnect(&mut self, shard: ShardId, client: u32) {
        self.act(shard, |pubsub, slots| pubsub.disconnect(conn(client), slots));
    }

    fn hand_over_all(&mut self) {
        for (from, to, news) in std::mem::take(&mut self.mail) {
            self.shards[to].hear(from, &news, &self.slots);
        }
    }

    /// The shards to which the home of a channel sends a message, in ascending order.
    fn targets(&self, kind: Kind, channel: &str) -> Vec<ShardId> {
        let home = self.slots.shard_of(channel.as_bytes());
        let mut targets = self.shards[home].targets(kind, channel.as_bytes()).to_vec();
        targets.sort_unstable();
        targets
    }

    fn registered(&self, kind: Kind) -> usize {
        self.shards.iter().map(|shard| shard.registered(kind)).sum()
    }
}

fn conn(client: u32) -> ConnKey {
    ConnKey { index: client, generation: 1 }
}

#[test]
fn a_home_knows_which_shards_listen() {
    let mut shards = Shards::new(3);
    for shard in [2, 0] {
        assert!(shards.subscribe(shard, 1, Kind::Channel, "news"));
    }
    assert!(!shards.subscribe(2, 1, Kind::Channel, "news"), "once is enough");
    assert!(shards.subscribe(2, 2, Kind::Channel, "news"));
    shards.hand_over_all();
    assert_eq!(shards.targets(Kind::Channel, "news"), [0, 2]);
    assert!(shards.targets(Kind::ShardChannel, "news").is_empty(), "shard channels have names of their own");
    shards.unsubscribe(2, 1, Kind::Channel, "news");
    assert_eq!(shards.mail.len(), 0, "it has another subscriber");
    shards.disconnect(2, 2);
    shards.hand_over_all();
    assert_eq!(shards.targets(Kind::Channel, "news"), [0]);
    assert!(!shards.unsubscribe(2, 1, Kind::Channel, "news"));
}

#[test]
fn patterns_are_known_everywhere_and_a_shard_gets_a_message_once() {
    let mut shards = Shards::new(4);
    shards.subscribe(1, 1, Kind::Pattern, "n*");
    shards.subscribe(1, 1, Kind::Pattern, "*s");
    shards.subscribe(1, 1, Kind::Channel, "news");
    shards.subscribe(3, 1, Kind::Pattern, "[a-m]*");
    shards.hand_over_all();
    assert_eq!(shards.targets(Kind::Channel, "news"), [1]);
    assert_eq!(shards.targets(Kind::Channel, "mess"), [1, 3]);
    assert!(shards.targets(Kind::ShardChannel, "news").is_empty(), "patterns do not reach shard channels");
    let matching: Vec<&[u8]> = shards.shards[1].matching(b"news").map(|(pattern, _)| &**pattern).collect();
    assert_eq!(matching.len(), 2);
}

#[test]
fn events_are_heard_at_every_shard() {
    let mut shards = Shards::new(3);
    let hearing = |shards: &Shards| shards.shards.iter().filter(|shard| shard.hears_events()).count();
    shards.subscribe(0, 1, Kind::Channel, "news");
    shards.hand_over_all();
    assert_eq!(hearing(&shards), 0);
    shards.subscribe(0, 1, Kind::Channel, "__keyevent@0__:del");
    shards.hand_over_all();
    assert_eq!(hearing(&shards), 3);
    assert_eq!(shards.registered(Kind::Channel), 2, "each is counted once");
    shards.disconnect(0, 1);
    shards.hand_over_all();
    assert_eq!((hearing(&shards), shards.registered(Kind::Channel)), (0, 0));
    shards.subscribe(2, 1, Kind::Pattern, "__key*");
    shards.hand_over_all();
    assert_eq!(hearing(&shards), 3);
}

#[test]
fn one_command_tells_a_home_once() {
    let mut shards = Shards::new(2);
    let slots = shards.slots.clone();
    for name in 0..20 {
        shards.shards[0].subscribe(conn(1), Kind::Channel, format!("c{name}").as_bytes(), &slots);
    }
    let news = shards.shards[0].take_news();
    assert_eq!(news.len(), 1);
    assert!(news[0].1.names.len() > 1);
}

#[derive(Clone, Debug)]
struct Op {
    shard: ShardId,
    client: u32,
    kind: Kind,
    name: usize,
    act: u8,
}

const NAMES: [&str; 5] = ["a", "b*", "*", "__keyevent@0__:set", "bcd"];

prop_compose! {
    fn op()(
        shard in 0..3usize, client in 0..3u32, kind in 0..3usize, name in 0..NAMES.len(), act in 0..12u8,
    ) -> Op {
        Op { shard, client, kind: KINDS[kind], name, act }
    }
}

proptest! {
    /// Whatever clients do, and whenever shards read their mail: in the end the homes know who listens, no more.
    #[test]
    fn homes_know_who_listens(ops in prop::collection::vec(op(), 1..80)) {
        let mut shards = Shards::new(3);
        let mut model = std::collections::BTreeSet::new();
        for Op { shard, client, kind, name, act } in ops {
            let key = (shard, client, kind as usize, name);
            match act {
                0..=5 => prop_assert_eq!(shards.subscribe(shard, client, kind, NAMES[name]), model.insert(key)),
                6..=9 => prop_assert_eq!(shards.unsubscribe(shard, client, kind, NAMES[name]), model.remove(&key)),
                10 => {
                    shards.disconnect(shard, client);
                    model.retain(|(at, who, _, _)| (*at, *who) != (shard, client));
                }
                _ => shards.hand_over_all(),
            }
        }
        shards.hand_over_all();
        for kind in KINDS {
            let mut names = std::collections::BTreeSet::new();
            for (index, name) in NAMES.iter().enumerate() {
                let subscribers = |shard| model.iter().filter(move |key| (key.0, key.2, key.3) == (shard, kind as usize, index));
                for shard in 0..3 {
                    let found = shards.shards[shard].subscribers(kind, name.as_bytes()).len();
                    prop_assert_eq!(found, subscribers(shard).count());
                    if found > 0 {
                        names.insert(index);
                    }
                }
                if kind != Kind::Pattern {
                    let listens = |key: &&(ShardId, u32, usize, usize)| {
                        (key.2, key.3) == (kind as usize, index)
                            || kind == Kind::Channel
                                && key.2 == Kind::Pattern as usize
                                && glob::matches(NAMES[key.3].as_bytes(), name.as_bytes(), false)
                    };
                    let expected: std::collections::BTreeSet<ShardId> = model.iter().filter(listens).map(|key| key.0).collect();
                    prop_assert_eq!(shards.targets(kind, name), expected.into_iter().collect::<Vec<_>>());
                }
            }
            let registered = if kind == Kind::Pattern { shards.shards[0].registered(kind) } else { shards.registered(kind) };
            prop_assert_eq!(registered, names.len());
        }
        for shard in 0..3 {
            for client in 0..3 {
                let of_client = |kind: usize| model.iter().filter(move |key| (key.0, key.1, key.2) == (shard, client, kind)).count();
                prop_assert_eq!(shards.shards[shard].counts(conn(client)), [of_client(0), of_client(1), of_client(2)]);
            }
        }
    }
}
