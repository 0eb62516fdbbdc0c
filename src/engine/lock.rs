//! The locks of one shard: which transactions hold keys here, and who waits for them, in the order of arrival.
//!
//! Commands whose keys lie on one shard run without a lock while the table is empty, which costs one branch. What spans
//! shards asks each of them once for its whole set of keys. A request is granted when nothing that came earlier, granted
//! or waiting, conflicts with it: so nobody is overtaken by what it waits for, and nobody starves. Locks are on names
//! of keys, whatever their database: MOVE, COPY and SWAPDB need no rule of their own.
//!
//! Two requests conflict if they have a key in common that one of them changes, or if one is for the whole shard and
//! either of them changes anything.
//!
//! No deadlock: the requests of a transaction over several shards leave together, with one stamp, and all shards take
//! messages in the order of stamps (`runtime::mesh`). So a transaction waits only for those that came earlier, and these do
//! at every shard; a command that waits for its own sake holds nothing.
//!
//! To a transaction it is one and the same time at a shard from its first step to its last, and nothing that it may have
//! seen expires by itself meanwhile.
//!
//! Granting looks at the queues of a request's own keys, and at requests for the whole shard, of which there are few;
//! only these look at all others.

use std::collections::{BTreeMap, HashMap, VecDeque};

use smallvec::SmallVec;

use crate::base::clock::Now;
use crate::base::ids::{JobKey, ShardId};
use crate::command::keys::{KeyRefs, RO, keys_of};
use crate::command::spec::{Shape, Spec, WRITE};

/// A transaction: the job at its coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TxId {
    pub shard: ShardId,
    pub job: JobKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    Shared,
    Exclusive,
}

/// What a request wants of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockSet {
    /// No key twice.
    pub keys: Vec<(Vec<u8>, Mode)>,
    /// All keys, those that do not exist included.
    pub whole: Option<Mode>,
}

impl LockSet {
    pub fn whole(mode: Mode) -> LockSet {
        LockSet { keys: Vec::new(), whole: Some(mode) }
    }

    /// Adds a key, in the stronger mode if it is there already.
    pub fn add(&mut self, key: &[u8], mode: Mode) {
        match self.keys.iter_mut().find(|(held, _)| held == key) {
            Some((_, held)) => *held = mode.max(*held),
            None => self.keys.push((key.to_vec(), mode)),
        }
    }

    /// Adds all that the other wants.
    pub fn merge(&mut self, other: &LockSet) {
        self.whole = self.whole.max(other.whole);
        for (key, mode) in &other.keys {
            self.add(key, *mode);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.whole.is_none()
    }

    /// What a command needs of the shard that runs it alone.
    pub fn of_command(spec: &Spec, words: &[&[u8]]) -> LockSet {
        let mut set = LockSet::default();
        if let Some(mode) = whole_mode(spec, words) {
            return LockSet::whole(mode);
        }
        for (key, mode) in locked_keys(spec, words) {
            set.add(key, mode);
        }
        set
    }

    fn changes(&self) -> bool {
        self.whole == Some(Mode::Exclusive) || self.keys.iter().any(|(_, mode)| *mode == Mode::Exclusive)
    }
}

/// The mode in which a command takes a whole shard, if it does: its words do not name its keys.
pub fn whole_mode(spec: &Spec, words: &[&[u8]]) -> Option<Mode> {
    let whole = matches!(spec.shape, Shape::EveryShard(_) | Shape::ByCursor)
        || spec.reaches.is_some_and(|reaches| reaches(words));
    let mode = if spec.flags.has(WRITE) { Mode::Exclusive } else { Mode::Shared };
    whole.then_some(mode)
}

/// The keys of a command, and what it does with them.
pub fn locked_keys<'w>(spec: &Spec, words: &[&'w [u8]]) -> SmallVec<[(&'w [u8], Mode); 4]> {
    let keys: KeyRefs = keys_of(spec, words);
    keys.iter()
        .map(|key| (words[key.index as usize], if key.flags.has(RO) { Mode::Shared } else { Mode::Exclusive }))
        .collect()
}

/// A request's place in the order of arrival: no two are equal.
type Arrival = u64;

/// `P` is what waits: it is handed out when its request is granted.
#[derive(Debug)]
pub struct LockTable<P> {
    requests: BTreeMap<Arrival, Request<P>>,
    by_transaction: HashMap<TxId, Arrival>,
    /// By key: requests in the order of arrival.
    keys: HashMap<Vec<u8>, VecDeque<(Arrival, Mode)>, ahash::RandomState>,
    /// Requests for the whole shard, in the order of arrival.
    wholes: VecDeque<(Arrival, Mode)>,
    next: Arrival,
    waiting: usize,
    /// Commands that are granted and not over, in the order in which they were granted.
    commands: VecDeque<Arrival>,
    /// A script is running: see [`LockTable::seize`].
    seized: bool,
    /// A snapshot holds keys as they are asked for: see [`LockTable::begin_holding`].
    holding: bool,
    held: Vec<Arrival>,
    pub stats: LockStats,
}

#[derive(Debug)]
struct Request<P> {
    set: LockSet,
    transaction: Option<TxId>,
    /// The time of its steps, since the first of them.
    now: Option<Now>,
    /// While it waits.
    payload: Option<P>,
}

/// Counters for INFO.
#[derive(Clone, Copy, Debug, Default)]
pub struct LockStats {
    /// Transactions of this coordinator's over several shards that needed no lock: one message there and back.
    pub single_hop: u64,
    /// Transactions of this coordinator's that asked several shards for locks.
    pub locked: u64,
    /// Requests and commands that had to wait here.
    pub waited: u64,
    /// Keys that a snapshot held because somebody wanted to change them before they were saved.
    pub held: u64,
}

impl<P> Default for LockTable<P> {
    fn default() -> LockTable<P> {
        LockTable {
            requests: BTreeMap::new(),
            by_transaction: HashMap::new(),
            // Nobody sees the order of this map, so a fixed seed would serve only an attacker.
            keys: HashMap::default(),
            wholes: VecDeque::new(),
            next: 0,
            waiting: 0,
            commands: VecDeque::new(),
            seized: false,
            holding: false,
            held: Vec::new(),
            stats: LockStats::default(),
        }
    }
}

impl<P> LockTable<P> {
    /// Nothing is granted and nothing waits: commands run as they come.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && !self.seized && !self.holding
    }

    /// From now on whoever wants to change a key has to ask whether a snapshot must hold it, so that it does not change
    /// before it is saved: no command runs without a look at this table.
    pub fn begin_holding(&mut self) {
        self.holding = true;
    }

    pub fn is_holding(&self) -> bool {
        self.holding
    }

    /// Writers of this key wait, from those that come now; readers do not, unless they come behind such a writer.
    pub fn hold(&mut self, key: &[u8]) {
        debug_assert!(self.holding);
        if self.key_is_free(key, Mode::Exclusive, Arrival::MAX) {
            let mut set = LockSet::default();
            set.add(key, Mode::Shared);
            self.held.push(self.next);
            self.insert(set, None, None);
            self.stats.held += 1;
        }
    }

    /// The snapshot holds nothing any more; what waited for it goes on, in the order of arrival.
    pub fn end_holding(&mut self, ready: &mut Vec<P>) {
        self.holding = false;
        for arrival in std::mem::take(&mut self.held) {
            self.end(arrival, ready);
        }
    }

    /// Nothing is granted from now on, not even to who waits already: a script is in the middle of its work here.
    pub fn seize(&mut self) {
        self.seized = true;
    }

    /// The script is over; what waited goes on, in the order of arrival.
    pub fn free(&mut self, ready: &mut Vec<P>) {
        self.seized = false;
        self.grant_behind(&LockSet::whole(Mode::Exclusive), ready);
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Would a request for this be granted now?
    pub fn admits(&self, set: &LockSet) -> bool {
        self.is_grantable(set, Arrival::MAX)
    }

    /// Would a command be granted what it needs? The same as `admits` without making the set.
    pub fn admits_command(&self, spec: &Spec, words: &[&[u8]]) -> bool {
        if whole_mode(spec, words).is_some() {
            return self.admits(&LockSet::of_command(spec, words));
        }
        !self.seized
            && locked_keys(spec, words).into_iter().all(|(key, mode)| self.key_is_free(key, mode, Arrival::MAX))
    }

    /// The same of a client that waits for what this transaction, or the command that runs, has brought. It has waited for
    /// longer than all who wait for locks, and whose commands have not run yet.
    pub fn admits_command_beside(&self, holder: Option<TxId>, spec: &Spec, words: &[&[u8]]) -> bool {
        let holder = holder.and_then(|transaction| self.by_transaction.get(&transaction));
        let set = LockSet::of_command(spec, words);
        let conflicts = |other: Mode, mode: Mode| mode == Mode::Exclusive || other == Mode::Exclusive;
        let counts = |other: &Arrival| {
            Some(other) != holder && self.requests[other].payload.is_none() && !self.commands.contains(other)
        };
        !self.seized
            && set.keys.iter().all(|(key, mode)| {
                let queues = self.keys.get(key).into_iter().chain([&self.wholes]);
                queues.flatten().all(|(other, held)| !conflicts(*held, *mode) || !counts(other))
            })
    }

    /// Grants at once and gives the payload back, or queues it.
    pub fn acquire(&mut self, transaction: TxId, set: LockSet, payload: P) -> Option<P> {
        if self.admits(&set) {
            self.insert(set, Some(transaction), None);
            return Some(payload);
        }
        self.insert(set, Some(transaction), Some(payload));
        None
    }

    /// Queues a command that runs when its turn comes, and then is over: see [`LockTable::command_over`].
    pub fn wait(&mut self, set: LockSet, payload: P) {
        self.insert(set, None, Some(payload));
    }

    fn insert(&mut self, set: LockSet, transaction: Option<TxId>, payload: Option<P>) {
        let arrival = self.next;
        self.next += 1;
        if payload.is_some() {
            self.waiting += 1;
            self.stats.waited += 1;
        }
        if let Some(transaction) = transaction {
            let former = self.by_transaction.insert(transaction, arrival);
            assert!(former.is_none(), "a transaction asks a shard once");
        }
        for (key, mode) in &set.keys {
            self.keys.entry(key.clone()).or_default().push_back((arrival, *mode));
        }
        if let Some(mode) = set.whole {
            self.wholes.push_back((arrival, mode));
        }
        self.requests.insert(arrival, Request { set, transaction, now: None, payload });
    }

    /// Ends a transaction's hold on this shard, granted or waiting. Whether it had one.
    pub fn release(&mut self, transaction: TxId, ready: &mut Vec<P>) -> bool {
        let Some(arrival) = self.by_transaction.remove(&transaction) else { return false };
        self.end(arrival, ready);
        true
    }

    /// The time at which a step of a transaction runs: that of its first step, unless it begins `anew`.
    pub fn time_of(&mut self, transaction: TxId, now: Now, anew: bool) -> Now {
        let arrival = self.by_transaction.get(&transaction);
        let Some(request) = arrival.and_then(|arrival| self.requests.get_mut(arrival)) else { return now };
        let time = request.now.filter(|_| !anew).unwrap_or(now);
        request.now = Some(time);
        time
    }

    /// Up to when keys may expire by themselves.
    pub fn expires_until(&self, now: Now) -> Now {
        let under_way = self.requests.values().filter_map(|request| request.now);
        under_way.chain([now]).min_by_key(|time| time.unix_ms).unwrap_or(now)
    }

    /// The transaction is known here.
    pub fn holds(&self, transaction: TxId) -> bool {
        self.by_transaction.contains_key(&transaction)
    }

    /// The command that was granted first of those that are not over has run: what it lets go on is granted. False if there
    /// is none. Nothing is granted with it: those who wait for what it brings come before those who wait for its locks.
    pub fn command_over(&mut self, ready: &mut Vec<P>) -> bool {
        let Some(arrival) = self.commands.pop_front() else { return false };
        self.end(arrival, ready);
        true
    }

    /// Ends a request, and grants what that lets go on.
    fn end(&mut self, arrival: Arrival, ready: &mut Vec<P>) {
        let set = self.detach(arrival);
        self.grant_behind(&set, ready);
    }

    fn grant_behind(&mut self, set: &LockSet, ready: &mut Vec<P>) {
        if self.waiting == 0 || self.seized {
            return;
        }
        for arrival in self.candidates_behind(set) {
            let request = &self.requests[&arrival];
            if request.payload.is_none() || !self.is_grantable(&request.set, arrival) {
                continue;
            }
            let request = self.requests.get_mut(&arrival).expect("it was looked up");
            ready.extend(request.payload.take());
            self.waiting -= 1;
            if request.transaction.is_none() {
                self.commands.push_back(arrival);
            }
        }
    }

    fn detach(&mut self, arrival: Arrival) -> LockSet {
        let request = self.requests.remove(&arrival).expect("only what is there ends");
        if request.payload.is_some() {
            self.waiting -= 1;
        }
        let leave = |queue: &mut VecDeque<(Arrival, Mode)>| {
            let place = queue.binary_search_by_key(&arrival, |(other, _)| *other);
            queue.remove(place.expect("a request stands in the queues of its keys"));
        };
        for (key, _) in &request.set.keys {
            let queue = self.keys.get_mut(key).expect("a request stands in the queues of its keys");
            leave(queue);
            if queue.is_empty() {
                self.keys.remove(key);
            }
        }
        if request.set.whole.is_some() {
            leave(&mut self.wholes);
        }
        request.set
    }

    /// Requests that the end of one for this set may let go on, in the order of arrival.
    fn candidates_behind(&self, set: &LockSet) -> Vec<Arrival> {
        if set.whole.is_some() {
            let waiting = self.requests.iter().filter(|(_, request)| request.payload.is_some());
            return waiting.map(|(arrival, _)| *arrival).collect();
        }
        let mut candidates: Vec<Arrival> = self.wholes.iter().map(|(arrival, _)| *arrival).collect();
        for (key, _) in &set.keys {
            // Behind the first that changes the key, nobody can go on.
            for (arrival, mode) in self.keys.get(key).into_iter().flatten() {
                candidates.push(*arrival);
                if *mode == Mode::Exclusive {
                    break;
                }
            }
        }
        candidates.sort_unstable();
        candidates.dedup();
        candidates
    }

    fn is_grantable(&self, set: &LockSet, arrival: Arrival) -> bool {
        if self.seized {
            return false;
        }
        if let Some(mode) = set.whole {
            let mut earlier = self.requests.range(..arrival).map(|(_, request)| request);
            if earlier.any(|other| mode == Mode::Exclusive || other.set.changes()) {
                return false;
            }
        }
        set.keys.iter().all(|(key, mode)| self.key_is_free(key, *mode, arrival))
    }

    fn key_is_free(&self, key: &[u8], mode: Mode, arrival: Arrival) -> bool {
        let conflicts = |(_, held): &(Arrival, Mode)| mode == Mode::Exclusive || *held == Mode::Exclusive;
        let free =
            |queue: &VecDeque<(Arrival, Mode)>| !queue.iter().take_while(|(other, _)| *other < arrival).any(conflicts);
        free(&self.wholes) && self.keys.get(key).is_none_or(free)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tx(number: u32) -> TxId {
        TxId { shard: 0, job: JobKey { index: number, generation: 0 } }
    }

    /// `a` is shared, `A` exclusive, `*` the whole shard shared, `!` exclusive.
    fn set(text: &str) -> LockSet {
        let mut set = LockSet::default();
        for letter in text.bytes() {
            match letter {
                b'*' => set.whole = Some(Mode::Shared),
                b'!' => set.whole = Some(Mode::Exclusive),
                b'a'..=b'z' => set.add(&[letter], Mode::Shared),
                _ => set.add(&[letter.to_ascii_lowercase()], Mode::Exclusive),
            }
        }
        set
    }

    /// It is granted at once.
    fn granted(table: &mut LockTable<&'static str>, number: u32, text: &str) -> bool {
        table.acquire(tx(number), set(text), "").is_some()
    }

    fn released(table: &mut LockTable<&'static str>, number: u32) -> Vec<&'static str> {
        let mut ready = Vec::new();
        assert!(table.release(tx(number), &mut ready));
        run_commands(table, &mut ready);
        ready
    }

    /// Runs what was granted.
    fn run_commands<P>(table: &mut LockTable<P>, ready: &mut Vec<P>) {
        while table.command_over(ready) {}
    }

    #[test]
    fn time_stands_still_for_a_transaction_and_for_what_expires_meanwhile() {
        let mut table: LockTable<u32> = LockTable::default();
        let [a, b] = [0, 1].map(|shard| TxId { shard, job: JobKey { index: 0, generation: 0 } });
        let at = |unix_ms| Now { unix_ms, mono_ns: 0 };
        table.acquire(a, LockSet::whole(Mode::Shared), 0);
        table.acquire(b, LockSet::whole(Mode::Shared), 0);
        assert_eq!(table.expires_until(at(9)), at(9), "no step has run");
        assert_eq!(table.time_of(a, at(5), false), at(5));
        assert_eq!(table.time_of(b, at(7), false), at(7));
        assert_eq!((table.time_of(a, at(8), false), table.expires_until(at(9))), (at(5), at(5)));
        assert_eq!((table.time_of(a, at(6), true), table.expires_until(at(9))), (at(6), at(6)));
        table.release(a, &mut Vec::new());
        assert_eq!(table.expires_until(at(9)), at(7));
        assert_eq!(table.time_of(a, at(9), false), at(9), "it has no locks");
    }

    #[test]
    fn what_waits_behind_a_command_is_granted_when_it_has_run() {
        let mut table = LockTable::default();
        assert!(granted(&mut table, 1, "A"));
        table.wait(set("A"), "push");
        assert_eq!(table.acquire(tx(2), set("A"), "pop"), None);
        let mut ready = Vec::new();
        assert!(table.release(tx(1), &mut ready));
        assert_eq!(ready, ["push"]);
        assert!(table.command_over(&mut ready) && !table.is_empty());
        assert_eq!(ready, ["push", "pop"]);
        assert!(!table.command_over(&mut ready));
    }

    #[test]
    fn readers_share_and_writers_do_not() {
        let mut table = LockTable::<&str>::default();
        assert!(granted(&mut table, 1, "ab"));
        assert!(granted(&mut table, 2, "bc"));
        assert!(table.admits(&set("D")) && !table.admits(&set("!")) && table.admits(&set("*")));
        assert!(released(&mut table, 1).is_empty() && released(&mut table, 2).is_empty());
        assert!(table.is_empty());
    }

    #[test]
    fn nobody_overtakes_what_it_would_conflict_with() {
        let mut table = LockTable::default();
        assert!(granted(&mut table, 1, "a"));
        table.wait(set("A"), "write a");
        table.wait(set("ab"), "read a and b");
        table.wait(set("B"), "write b");
        assert!(!table.admits(&set("a")), "behind the waiting write");
        assert!(table.admits(&set("c")));
        assert_eq!(released(&mut table, 1), ["write a", "read a and b", "write b"]);
        assert!(table.is_empty());
    }

    #[test]
    fn a_waiting_transaction_is_granted_in_its_turn() {
        let mut table = LockTable::default();
        assert!(granted(&mut table, 1, "A"));
        assert_eq!(table.acquire(tx(2), set("AB"), "second"), None);
        assert_eq!(table.acquire(tx(3), set("B"), "third"), None);
        assert_eq!(table.acquire(tx(4), set("C"), "fourth"), Some("fourth"));
        assert_eq!(released(&mut table, 1), ["second"]);
        assert_eq!(released(&mut table, 2), ["third"]);
        assert_eq!(released(&mut table, 3), [""; 0]);
        assert_eq!(released(&mut table, 4), [""; 0]);
        assert!(table.is_empty());
    }

    #[test]
    fn a_request_that_gives_up_waiting_holds_nobody_back() {
        let mut table = LockTable::default();
        assert!(granted(&mut table, 1, "a"));
        assert_eq!(table.acquire(tx(2), set("!"), "flush"), None);
        table.wait(set("a"), "read");
        assert_eq!(released(&mut table, 2), ["read"]);
    }

    #[test]
    fn what_a_snapshot_holds_is_read_and_not_written() {
        let mut table = LockTable::default();
        assert!(granted(&mut table, 1, "b"));
        table.begin_holding();
        assert!(!table.is_empty());
        for key in [b"a", b"b"] {
            table.hold(key);
        }
        assert_eq!(table.stats.held, 1, "who waits for b waits for its reader");
        assert!(table.admits(&set("ab*")) && table.admits(&set("C")) && !table.admits(&set("A")));
        table.wait(set("A"), "write a");
        assert!(!table.admits(&set("a")), "behind the waiting write");
        table.hold(b"a");
        let mut ready = Vec::new();
        table.end_holding(&mut ready);
        run_commands(&mut table, &mut ready);
        assert_eq!(ready, ["write a"]);
        assert!(released(&mut table, 1).is_empty() && table.is_empty());
    }

    #[test]
    fn while_a_script_runs_nothing_is_granted() {
        let mut table = LockTable::default();
        assert!(granted(&mut table, 1, "A"));
        table.wait(set("a"), "read a");
        table.seize();
        assert!(!table.is_empty() && !table.admits(&set("b")));
        assert_eq!(table.acquire(tx(3), set("!"), "flush"), None);
        table.wait(set("c"), "read c");
        assert!(released(&mut table, 1).is_empty());
        let mut ready = Vec::new();
        table.free(&mut ready);
        run_commands(&mut table, &mut ready);
        assert_eq!(ready, ["read a", "flush"]);
        assert_eq!(released(&mut table, 3), ["read c"]);
        assert!(table.is_empty());
    }

    #[test]
    fn the_whole_shard_waits_for_all_that_came_before() {
        let mut table = LockTable::default();
        assert!(granted(&mut table, 1, "A"));
        assert_eq!(table.acquire(tx(2), set("!"), "flush"), None);
        assert_eq!(table.acquire(tx(3), set("*"), "count"), None);
        table.wait(set("b"), "read");
        assert_eq!(released(&mut table, 1), ["flush"]);
        assert_eq!(released(&mut table, 2), ["count", "read"]);
        assert!(!table.admits(&set("C")) && table.admits(&set("c")));
        assert!(released(&mut table, 3).is_empty());
    }

    #[derive(Clone, Debug)]
    enum Action {
        Acquire(LockSet),
        Command(LockSet),
        End(prop::sample::Index),
    }

    fn any_set() -> impl Strategy<Value = LockSet> {
        prop_oneof![8 => "[abcABC]{1,4}", 1 => Just("*".to_string()), 1 => Just("!".to_string())]
            .prop_map(|text| set(&text))
    }

    fn any_action() -> impl Strategy<Value = Action> {
        prop_oneof![
            2 => any_set().prop_map(Action::Acquire),
            1 => any_set().prop_map(Action::Command),
            1 => any::<prop::sample::Index>().prop_map(Action::End),
        ]
    }

    fn conflict(a: &LockSet, b: &LockSet) -> bool {
        let whole = |a: &LockSet, b: &LockSet| a.whole.is_some() && (a.changes() || b.changes());
        let strong = |(key, mode): &(Vec<u8>, Mode)| {
            let common = b.keys.iter().filter(|(other, _)| other == key);
            common.into_iter().any(|(_, other)| (*mode).max(*other) == Mode::Exclusive)
        };
        whole(a, b) || whole(b, a) || a.keys.iter().any(strong)
    }

    proptest! {
        /// The rule, written down once more: granted is what conflicts with nothing that came earlier.
        #[test]
        fn grants_follow_the_order_of_arrival(actions in prop::collection::vec(any_action(), 1..60)) {
            let mut table = LockTable::<u32>::default();
            // Arrived and not over: number, set, granted.
            let mut model: Vec<(u32, LockSet, bool)> = Vec::new();
            for (number, action) in actions.into_iter().enumerate() {
                let number = number as u32;
                let free = |set: &LockSet| !model.iter().any(|(_, other, _)| conflict(set, other));
                let mut ready = Vec::new();
                match action {
                    Action::Acquire(set) => {
                        let granted = free(&set);
                        let given_back = table.acquire(tx(number), set.clone(), number);
                        prop_assert_eq!(given_back, granted.then_some(number));
                        model.push((number, set, granted));
                    }
                    Action::Command(set) => {
                        prop_assert_eq!(table.admits(&set), free(&set));
                        if !free(&set) {
                            table.wait(set.clone(), number + 1000);
                            model.push((number + 1000, set, false));
                        }
                    }
                    Action::End(index) => {
                        let transactions: Vec<usize> = (0..model.len()).filter(|&at| model[at].0 < 1000).collect();
                        if transactions.is_empty() {
                            continue;
                        }
                        let (number, ..) = model.remove(transactions[index.index(transactions.len())]);
                        prop_assert!(table.release(tx(number), &mut ready));
                        run_commands(&mut table, &mut ready);
                    }
                }
                let mut expected = Vec::new();
                let mut at = 0;
                while at < model.len() {
                    let earlier = model[..at].iter().any(|(_, other, _)| conflict(&model[at].1, other));
                    if model[at].2 || earlier {
                        at += 1;
                        continue;
                    }
                    model[at].2 = true;
                    expected.push(model[at].0);
                    if model[at].0 >= 1000 {
                        model.remove(at);
                    } else {
                        at += 1;
                    }
                }
                ready.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(ready, expected);
                prop_assert_eq!(table.is_empty(), model.is_empty());
                prop_assert_eq!(table.waiting(), model.iter().filter(|(.., granted)| !granted).count());
            }
        }
    }
}
