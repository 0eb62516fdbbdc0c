//! What surrounds the shards: time, the network, and the order in which things happen. All of it follows from a seed.
//!
//! One step of a run is one of: a shard goes on to its next step, bytes arrive at a shard or at a client, a client
//! does something. Bytes arrive in random pieces, shards are left standing anywhere in a turn, and a shard that sleeps
//! runs only when a message or the network wakes it: so a lost wake-up is a client that waits for ever.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use corosensei::{Coroutine, CoroutineResult};
use peristyle::base::ids::ShardId;
use peristyle::base::rng::Rng;
use peristyle::core::Core;

use crate::client::{Clients, Kind};
use crate::disk::Ended;
use crate::fault::Fault;
use crate::history;
use crate::shard::{self, Remains};
use crate::syncer::Syncer;
use crate::transact::Focus;

/// A run that is longer goes round in circles.
const STEPS_MAX: u64 = 500_000;

thread_local! {
    static CLOCK: Cell<u64> = const { Cell::new(0) };
    static FORESIGHT: Cell<bool> = const { Cell::new(false) };
}

/// The virtual clock: every reading is later than the one before.
pub fn now_ns() -> u64 {
    if FORESIGHT.take() {
        return u64::MAX;
    }
    CLOCK.set(CLOCK.get() + 1);
    CLOCK.get()
}

/// The next reading is from after everything (`Fault::TimeReadLate`).
pub fn read_late_next() {
    FORESIGHT.set(true);
}

fn clock() -> u64 {
    CLOCK.get()
}

/// It is always even, and what expires does so at odd times: nobody asks in the very millisecond, which is the key's last
/// if it is there, and too late for a new one.
pub fn unix_ms(mono_ns: u64) -> u64 {
    mono_ns / 2_000_000 * 2
}

/// How a run is shaped. Drawn from its seed.
#[derive(Clone, Debug)]
pub struct Plan {
    pub shards: usize,
    /// Messages in a mailbox.
    pub capacity: usize,
    pub strict: bool,
    pub clients: Vec<Kind>,
    /// Pipelines of each client.
    pub rounds: u32,
    /// Commands of all transactors together: they go on until there are so many.
    pub commands_min: usize,
    /// Commands in a pipeline.
    pub depth_max: u64,
    /// Replies a transactor waits for, when it sends no more: what many do at once is hard to judge.
    pub waiting_max: usize,
    /// States of the model in which a history is judged.
    pub states_max: usize,
    /// One pipeline in so many is followed by a reset of the connection; 0: none.
    pub reset_one_in: u64,
    /// Steps of a shard before something else may happen.
    pub burst_max: u64,
    /// One time in so many, a shard that has run is left standing where it is, for so many steps at most.
    pub freeze_one_in: u64,
    pub freeze_max: u64,
    pub focus: Focus,
    /// Of what transactors write.
    pub first_token: u64,
    /// The disk may keep commands from running.
    pub may_refuse: bool,
    /// Time that passes with a step, at most.
    pub step_ns_max: u64,
    /// Then the process ends.
    pub end_at_step: Option<u64>,
}

pub type WireId = usize;

/// A connection, as the network sees it.
pub struct Wire {
    pub shard: ShardId,
    /// From the client, not arrived.
    arriving: VecDeque<u8>,
    announced: bool,
    client_end: End,
    /// From the server, not arrived.
    returning: VecDeque<u8>,
    server_closed: bool,
    /// How many bytes had arrived at the server, and left it, after which steps.
    arrived: Vec<(u64, u64)>,
    emitted: Vec<(u64, u64)>,
    /// Nothing further happens here.
    over: bool,
}

/// How far a client is with ending its connection.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Open,
    /// It sends no more; the server does not know yet.
    Finished,
    FinishSeen,
    Reset,
}

/// What the network has for a shard.
pub enum Event {
    Connected(WireId),
    Received(WireId, Vec<u8>),
    /// So many bytes of the reply buffer have left, hence all.
    Sent(WireId, usize),
    Finished(WireId),
    Reset(WireId),
}

/// Where a shard and its surroundings meet.
#[derive(Default)]
pub struct Port {
    pub events: RefCell<Vec<Event>>,
    pub asleep: Cell<bool>,
    pub woken: Cell<bool>,
    /// Asleep: when it has something to do anyway.
    pub deadline_ns: Cell<Option<u64>>,
}

pub struct World {
    pub rng: RefCell<Rng>,
    pub ports: Vec<Port>,
    pub wires: RefCell<Vec<Wire>>,
    pub stopping: Cell<bool>,
    pub step: Cell<u64>,
    /// What the clock showed when each step began.
    clocks: RefCell<Vec<u64>>,
    /// Steps before which nothing was left to happen inside the server.
    quiet: RefCell<Vec<u64>>,
    /// Shards do what the clock asks for.
    pub ticks: bool,
    /// When the turns began in which replies left, by step.
    turns: RefCell<HashMap<u64, u64>>,
    /// By shard: what time it was in its turns, by step.
    times: RefCell<Vec<Vec<(u64, u64)>>>,
}

fn log(steps: &mut Vec<(u64, u64)>, bytes: usize, step: u64) {
    let before = steps.last().map_or(0, |(before, _)| *before);
    steps.push((before + bytes as u64, step));
}

fn step_of(steps: &[(u64, u64)], bytes: u64) -> Option<u64> {
    steps.get(steps.partition_point(|(total, _)| *total < bytes)).map(|(_, step)| *step)
}

impl World {
    /// A reply buffer leaves a shard.
    pub fn send(&self, wire: WireId, bytes: &[u8], turn_ns: u64) {
        self.turns.borrow_mut().insert(self.step.get(), turn_ns);
        let wire = &mut self.wires.borrow_mut()[wire];
        wire.returning.extend(bytes);
        log(&mut wire.emitted, bytes.len(), self.step.get());
    }

    /// The step in which the server had so many bytes of a connection's.
    pub fn arrived_at(&self, wire: WireId, bytes: u64) -> Option<u64> {
        step_of(&self.wires.borrow()[wire].arrived, bytes)
    }

    /// The step in which so many bytes of replies had left the server.
    pub fn emitted_at(&self, wire: WireId, bytes: u64) -> Option<u64> {
        step_of(&self.wires.borrow()[wire].emitted, bytes)
    }

    /// When the turn began in which replies left, and when that step was over at the latest.
    pub fn times_of(&self, step: u64) -> (u64, u64) {
        // Of the step in which all ended it is not known any more.
        let end_ns = self.clocks.borrow().get(step as usize + 1).copied().unwrap_or(u64::MAX);
        (self.turns.borrow().get(&step).copied().unwrap_or(end_ns), end_ns)
    }

    pub fn now_ms(&self) -> u64 {
        unix_ms(clock())
    }

    /// A turn of a shard begins.
    pub fn turn_begins(&self, shard: ShardId, unix_ms: u64) {
        self.times.borrow_mut()[shard].push((self.step.get(), unix_ms));
    }

    /// The first step in which this Unix time had passed for a shard, or for any.
    pub fn passed_at(&self, shard: Option<ShardId>, unix_ms: u64) -> Option<u64> {
        let times = self.times.borrow();
        let passed = |times: &Vec<(u64, u64)>| {
            let turn = times.get(times.partition_point(|&(_, at)| at <= unix_ms))?;
            Some(turn.0)
        };
        match shard {
            Some(shard) => passed(&times[shard]),
            None => times.iter().filter_map(passed).min(),
        }
    }

    /// The server ends a connection.
    pub fn close(&self, wire: WireId) {
        self.wires.borrow_mut()[wire].server_closed = true;
    }

    pub fn must_sleep(&self, shard: ShardId) -> bool {
        let port = &self.ports[shard];
        let is_due = port.deadline_ns.get().is_some_and(|at_ns| at_ns <= clock());
        port.events.borrow().is_empty() && !port.woken.get() && !is_due && !self.stopping.get()
    }

    /// Moments of quiet before this step.
    pub fn quiet_before(&self, step: u64) -> usize {
        self.quiet.borrow().partition_point(|&quiet| quiet <= step)
    }

    /// The first step in which a time may have passed that began in this one; if the clock was set when the server
    /// was quiet, so that nothing was on its way that could have come first.
    pub fn quiet_step_after(&self, step: u64, nanoseconds: u64) -> Option<u64> {
        let clocks = self.clocks.borrow();
        let until = clocks[step as usize] + nanoseconds;
        let at = clocks.partition_point(|&clock| clock < until).saturating_sub(1) as u64;
        self.quiet.borrow().binary_search(&at).is_ok().then_some(at)
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        self.ports.iter().filter(|port| port.asleep.get()).filter_map(|port| port.deadline_ns.get()).min()
    }

    pub fn connect(&self, shard: ShardId) -> WireId {
        let mut wires = self.wires.borrow_mut();
        wires.push(Wire {
            shard,
            arriving: VecDeque::new(),
            announced: false,
            client_end: End::Open,
            returning: VecDeque::new(),
            server_closed: false,
            arrived: Vec::new(),
            emitted: Vec::new(),
            over: false,
        });
        wires.len() - 1
    }

    pub fn write(&self, wire: WireId, bytes: &[u8]) {
        self.wires.borrow_mut()[wire].arriving.extend(bytes);
    }

    /// The client sends no more and waits for the rest.
    pub fn finish(&self, wire: WireId) {
        self.wires.borrow_mut()[wire].client_end = End::Finished;
    }

    /// The client is gone; what it sent may arrive before that is known, or not.
    pub fn reset(&self, wire: WireId) {
        let wire = &mut self.wires.borrow_mut()[wire];
        let arrive = self.rng.borrow_mut().below(wire.arriving.len() as u64 + 1);
        wire.arriving.truncate(arrive as usize);
        wire.client_end = End::Reset;
        wire.returning.clear();
    }

    fn below(&self, n: u64) -> u64 {
        self.rng.borrow_mut().below(n)
    }

    /// A piece of what is on its way: all of it, or little.
    fn piece(&self, length: usize) -> usize {
        let length = length as u64;
        (if self.below(4) > 0 { length } else { 1 + self.below(length.min(64)) }) as usize
    }

    /// Lets the next thing arrive at the server's end of a wire.
    fn arrive(&self, id: WireId) {
        let mut wires = self.wires.borrow_mut();
        let wire = &mut wires[id];
        let event = if !wire.announced {
            wire.announced = true;
            Event::Connected(id)
        } else if !wire.arriving.is_empty() {
            let piece = self.piece(wire.arriving.len());
            log(&mut wire.arrived, piece, self.step.get());
            Event::Received(id, wire.arriving.drain(..piece).collect())
        } else if wire.client_end == End::Reset {
            wire.over = true;
            Event::Reset(id)
        } else {
            wire.client_end = End::FinishSeen;
            Event::Finished(id)
        };
        self.ports[wire.shard].events.borrow_mut().push(event);
    }

    /// Lets a piece of the replies arrive at the client; the shard may send its next buffer when the last has.
    fn give_back(&self, id: WireId) -> Vec<u8> {
        let mut wires = self.wires.borrow_mut();
        let wire = &mut wires[id];
        let piece = self.piece(wire.returning.len());
        let bytes: Vec<u8> = wire.returning.drain(..piece).collect();
        self.ports[wire.shard].events.borrow_mut().push(Event::Sent(id, piece));
        bytes
    }
}

impl Wire {
    fn can_arrive(&self) -> bool {
        if self.over || self.server_closed {
            return false;
        }
        let ends = matches!(self.client_end, End::Finished | End::Reset);
        !self.announced || !self.arriving.is_empty() || ends
    }

    fn can_return(&self) -> bool {
        !self.returning.is_empty() && self.client_end != End::Reset
    }

    fn is_closing(&self) -> bool {
        !self.over && self.server_closed && self.returning.is_empty()
    }
}

type ShardRun = Coroutine<(), (), Remains>;

enum Choice {
    Shard(ShardId),
    Arrive(WireId),
    Return(WireId),
    Closed(WireId),
    Client(usize),
    /// What waits for the disk goes on.
    Syncer,
    /// The clock goes on to when the next shard has something to do.
    Time(u64),
}

struct Run {
    world: Rc<World>,
    plan: Plan,
    shards: Vec<ShardRun>,
    clients: Clients,
    step: u64,
    frozen: Option<(ShardId, u64)>,
    syncer: Option<Syncer>,
}

/// How a life was.
pub struct Lived {
    /// What clients have seen of it.
    pub operations: Vec<history::Operation>,
    pub world: Rc<World>,
    pub stopped_well: bool,
}

/// Sets the clock back to the beginning.
pub fn begin_time() {
    CLOCK.set(1_000_000_000);
    FORESIGHT.set(false);
}

/// One run. An error tells what promise was broken.
pub fn run(plan: Plan, seed: u64, fault: Option<Fault>) -> Result<(), String> {
    begin_time();
    let mut rng = Rng::new(seed);
    let cores = shard::cores(&plan, &mut rng);
    let mut run = Run::new(plan, seed, rng, fault, cores, None);
    run.until_quiet()?;
    run.clients.check_histories()?;
    run.clients.begin_audit();
    run.until_quiet()?;
    run.stop()
}

/// A life of a server that keeps what it has: it stops when its clients are done, or ends before.
pub fn live(plan: Plan, seed: u64, fault: Option<Fault>, cores: Vec<Core>, syncer: Syncer) -> Result<Lived, String> {
    let mut run = Run::new(plan, seed, Rng::new(seed), fault, cores, Some(syncer));
    let ended = match run.until_quiet() {
        Ok(()) if run.clients.are_done() => run.stop(),
        lived => lived,
    };
    let stopped_well = match ended {
        Ok(()) => run.world.stopping.get(),
        Err(broken) if broken == ENDED => false,
        Err(broken) => return Err(broken),
    };
    run.deliver()?;
    Ok(Lived { operations: run.clients.transactions(), world: run.world.clone(), stopped_well })
}

/// All has ended within a call to the disk.
const ENDED: &str = "ended";

impl Run {
    fn new(plan: Plan, seed: u64, rng: Rng, fault: Option<Fault>, cores: Vec<Core>, syncer: Option<Syncer>) -> Run {
        let world = Rc::new(World {
            rng: RefCell::new(rng),
            ports: (0..plan.shards).map(|_| Port::default()).collect(),
            wires: RefCell::new(Vec::new()),
            stopping: Cell::new(false),
            step: Cell::new(0),
            clocks: RefCell::new(vec![clock()]),
            quiet: RefCell::new(Vec::new()),
            ticks: syncer.is_some() || plan.focus == Focus::Expiries,
            turns: RefCell::default(),
            times: RefCell::new(vec![Vec::new(); plan.shards]),
        });
        let shards = shard::start(&world, &plan, fault, cores);
        let clients = Clients::new(world.clone(), &plan, seed);
        Run { world, plan, shards, clients, step: 0, frozen: None, syncer }
    }

    /// Goes on until nothing is left to happen, or the process ends.
    fn until_quiet(&mut self) -> Result<(), String> {
        while let Some(choice) = self.choose() {
            if self.world.ticks && self.clients.are_done() || self.plan.end_at_step == Some(self.step) {
                return Ok(());
            }
            self.step += 1;
            self.world.step.set(self.step);
            if self.plan.step_ns_max > 0 {
                CLOCK.set(clock() + self.world.below(self.plan.step_ns_max));
            }
            self.world.clocks.borrow_mut().push(clock());
            if self.step > STEPS_MAX {
                return Err(format!("no end after {STEPS_MAX} steps; {}", self.clients.describe_waiting()));
            }
            match choice {
                Choice::Shard(shard) => {
                    for _ in 0..=self.world.below(self.plan.burst_max) {
                        if self.is_runnable(shard) {
                            self.resume(shard)?;
                        }
                    }
                    if self.frozen.is_none() && self.world.below(self.plan.freeze_one_in) == 0 {
                        self.frozen = Some((shard, self.step + 1 + self.world.below(self.plan.freeze_max)));
                    }
                }
                Choice::Arrive(wire) => self.world.arrive(wire),
                Choice::Return(wire) => {
                    let bytes = self.world.give_back(wire);
                    self.clients.receive(wire, &bytes, self.step)?;
                }
                Choice::Closed(wire) => {
                    self.world.wires.borrow_mut()[wire].over = true;
                    self.clients.closed(wire)?;
                }
                Choice::Time(at_ns) => CLOCK.set(at_ns.max(clock())),
                Choice::Client(client) => self.clients.act(client, self.step),
                Choice::Syncer => {
                    let syncer = self.syncer.as_mut().expect("it can act");
                    catch_unwind(AssertUnwindSafe(|| syncer.act()))
                        .map_err(|panic| broken_by("the syncer", &*panic))?;
                }
            }
        }
        if self.clients.are_done() {
            return Ok(());
        }
        Err(format!("everything sleeps, yet {}\n{}", self.clients.describe_waiting(), self.clients.describe_history()))
    }

    /// What has left the server arrives, whatever has become of it.
    fn deliver(&mut self) -> Result<(), String> {
        let wires = self.world.wires.borrow().len();
        let can_return = |wire: WireId| self.world.wires.borrow()[wire].can_return();
        for wire in 0..wires {
            while can_return(wire) {
                let bytes = self.world.give_back(wire);
                self.clients.receive(wire, &bytes, self.step)?;
            }
        }
        Ok(())
    }

    fn is_runnable(&self, shard: ShardId) -> bool {
        !self.world.ports[shard].asleep.get() || !self.world.must_sleep(shard)
    }

    fn resume(&mut self, shard: ShardId) -> Result<Option<Remains>, String> {
        let resumed = catch_unwind(AssertUnwindSafe(|| self.shards[shard].resume(())));
        match resumed {
            Ok(CoroutineResult::Yield(())) => Ok(None),
            Ok(CoroutineResult::Return(remains)) => Ok(Some(remains)),
            Err(panic) => Err(broken_by(&format!("shard {shard}"), &*panic)),
        }
    }

    fn choose(&mut self) -> Option<Choice> {
        if self.frozen.is_some_and(|(_, until)| until <= self.step) {
            self.frozen = None;
        }
        let is_frozen = |shard| self.frozen.is_some_and(|(frozen, _)| frozen == shard);
        let mut shards: Vec<ShardId> =
            (0..self.plan.shards).filter(|&shard| self.is_runnable(shard) && !is_frozen(shard)).collect();
        let mut others = Vec::new();
        for (id, wire) in self.world.wires.borrow().iter().enumerate() {
            if wire.can_arrive() {
                others.push(Choice::Arrive(id));
            }
            if wire.can_return() {
                others.push(Choice::Return(id));
            }
            if wire.is_closing() {
                others.push(Choice::Closed(id));
            }
        }
        let is_quiet = others.iter().all(|choice| matches!(choice, Choice::Return(_) | Choice::Closed(_)))
            && (0..self.plan.shards).all(|shard| !self.is_runnable(shard));
        if is_quiet {
            self.world.quiet.borrow_mut().push(self.step + 1);
        }
        let deadline = self.world.next_deadline_ns().filter(|&at_ns| at_ns > clock());
        if self.syncer.as_ref().is_some_and(Syncer::can_act) {
            others.push(Choice::Syncer);
        }
        others.extend(
            (0..self.clients.len()).filter(|&client| self.clients.can_act(client, is_quiet)).map(Choice::Client),
        );
        if shards.is_empty() && others.is_empty() {
            // Only the frozen one, if any, can do something.
            shards.extend(self.frozen.take().map(|(shard, _)| shard).filter(|&shard| self.is_runnable(shard)));
        }
        if !shards.is_empty() && (others.is_empty() || self.world.below(3) > 0) {
            return Some(Choice::Shard(shards[self.world.below(shards.len() as u64) as usize]));
        }
        if let Some(at_ns) = deadline
            && (others.is_empty() || self.world.below(50) == 0)
        {
            return Some(Choice::Time(at_ns));
        }
        if others.is_empty() {
            return None;
        }
        let index = self.world.below(others.len() as u64) as usize;
        Some(others.swap_remove(index))
    }

    /// Ends the shards, and looks at what they leave behind.
    fn stop(&mut self) -> Result<(), String> {
        self.world.stopping.set(true);
        let mut left: Vec<ShardId> = (0..self.shards.len()).collect();
        // By turns: one may wait for what another is about to publish.
        while !left.is_empty() {
            for shard in std::mem::take(&mut left) {
                match self.resume(shard)? {
                    None => left.push(shard),
                    Some(remains) if !self.world.ticks => {
                        remains.check().map_err(|leak| format!("shard {shard} leaves behind {leak}"))?;
                    }
                    // The log may be in the middle of a round, and the clock still has something to do.
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }
}

fn broken_by(whom: &str, panic: &(dyn Any + Send)) -> String {
    if panic.is::<Ended>() {
        return ENDED.to_string();
    }
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
    format!("{whom} panicked: {}", text.unwrap_or_default())
}
