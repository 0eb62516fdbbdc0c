//! The driver of one simulated shard: the product's core and mesh, with the network of [`crate::world`] in place of
//! the ring. It keeps the order of `runtime::shard_loop`'s turn, and may be left standing between any two of its steps.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use corosensei::{Coroutine, Yielder};
use peristyle::admin::ctx::Server;
use peristyle::base::clock::Now;
use peristyle::base::ids::{ConnKey, ShardId};
use peristyle::base::rng::Rng;
use peristyle::command::ctx::ShardCtx;
use peristyle::config::Config;
use peristyle::config::value::PipelineOrder;
use peristyle::core::{Core, Input};
use peristyle::engine::lock::TxId;
use peristyle::engine::mesh::Mesh;
use peristyle::engine::msg::{Envelope, Lock, Message, StepRequest};
use peristyle::keyspace::slots::SlotMap;
use peristyle::keyspace::{HashSeeds, Keyspace};
use peristyle::runtime::mesh::{self, Pace, ShardMesh};
use peristyle::session::{Close, Peer, Session};

use crate::fault::Fault;
use crate::world::{self, Event, Plan, WireId, World, now_ns, read_late_next};

/// Lets the scheduler choose who goes on.
#[derive(Clone, Copy)]
struct Stop<'y>(&'y Yielder<(), ()>);

impl Pace for Stop<'_> {
    fn step(&mut self) {
        self.0.suspend(());
    }

    fn wait(&mut self, _: u32) {
        self.0.suspend(());
    }
}

/// The product's mesh, or what a fault makes of it.
struct FaultyMesh<'y> {
    mesh: ShardMesh<Stop<'y>>,
    yielder: &'y Yielder<(), ()>,
    fault: Option<Fault>,
    /// The disk may keep commands from leaving.
    may_be_late: bool,
    /// What a fault holds back.
    late: VecDeque<(ShardId, Message)>,
}

impl Mesh for FaultyMesh<'_> {
    fn has_room(&mut self) -> bool {
        matches!(self.fault, Some(Fault::TornPublication | Fault::OverflowOvertaken)) || self.mesh.has_room()
    }

    fn publish(&mut self, together: &mut Vec<(ShardId, Message)>, messages: &mut Vec<(ShardId, Message)>) {
        match self.fault {
            Some(Fault::LatePublication) => self.publish_apart(together, messages),
            Some(Fault::RequestsApart) if matches!(together[..], [(_, Message::Step(_)), ..]) => {
                self.publish_apart(together, messages);
            }
            Some(Fault::PartsApart) if matches!(together[..], [(_, Message::Run(_)), ..]) => {
                self.publish_apart(together, messages);
            }
            Some(Fault::OwnPartFirst) => self.late.extend(together.drain(..).chain(messages.drain(..))),
            Some(Fault::OverflowOvertaken) if !self.mesh.has_room() => {
                self.late.extend(together.drain(..).chain(messages.drain(..)));
            }
            Some(Fault::TornPublication) if !self.mesh.has_room() => {
                messages.splice(0..0, together.drain(..));
                self.mesh.publish(together, messages);
            }
            None => {
                let commands = together.iter().any(|(_, message)| matches!(message, Message::Run(_)));
                // What the log of this shard kept back leaves when it may.
                let late = self.may_be_late;
                assert!(!commands || late || self.mesh.has_room(), "commands leave though a mailbox is full");
                self.mesh.publish(together, messages);
            }
            Some(_) => self.mesh.publish(together, messages),
        }
    }
}

impl FaultyMesh<'_> {
    fn publish_apart(&mut self, together: &mut Vec<(ShardId, Message)>, messages: &mut Vec<(ShardId, Message)>) {
        for message in together.drain(..).chain(messages.drain(..)) {
            self.yielder.suspend(());
            self.mesh.publish(&mut vec![message], &mut Vec::new());
        }
    }

    fn receive(&mut self, mail: &mut Vec<(ShardId, Envelope)>) {
        if self.fault == Some(Fault::TimeReadLate) {
            read_late_next();
        }
        self.mesh.receive(mail);
    }

    fn publish_late(&mut self) {
        if self.fault == Some(Fault::OwnPartFirst) || self.mesh.has_room() {
            self.mesh.publish(&mut Vec::new(), &mut self.late.drain(..).collect());
        }
    }

    fn may_sleep(&mut self, starved: bool) -> bool {
        if self.fault == Some(Fault::LostWakeUp) {
            let quiet = self.mesh.is_empty();
            self.yielder.suspend(());
            self.mesh.may_sleep(starved);
            return quiet;
        }
        self.mesh.may_sleep(starved) && self.late.is_empty()
    }
}

/// What the driver knows of a connection.
struct Conn {
    key: ConnKey,
    wire: WireId,
    /// The buffer that is on its way, and how much of it has arrived.
    sending: Option<(Vec<u8>, usize)>,
}

/// What a shard is when everything is over.
pub struct Remains {
    core_at_rest: bool,
    sessions: usize,
    mesh_empty: bool,
}

impl Remains {
    pub fn check(&self) -> Result<(), String> {
        match self {
            Remains { sessions: 1.., .. } => Err(format!("{} sessions", self.sessions)),
            Remains { core_at_rest: false, .. } => {
                Err("a job, a batch, a lock, or somebody who watches or waits".to_string())
            }
            Remains { mesh_empty: false, .. } => Err("messages".to_string()),
            _ => Ok(()),
        }
    }
}

/// The cores of a server that keeps nothing.
pub fn cores(plan: &Plan, rng: &mut Rng) -> Vec<Core> {
    let pipeline_order = if plan.strict { PipelineOrder::Strict } else { PipelineOrder::Causal };
    let config = Arc::new(Config { pipeline_order, databases: 2, ..Config::default() });
    let server = Arc::new(Server::new("0".repeat(40), 0, plan.shards, config.clone()));
    cores_of(&server, &config, rng)
}

pub fn cores_of(server: &Arc<Server>, config: &Arc<Config>, rng: &mut Rng) -> Vec<Core> {
    let core = |id: ShardId| {
        let keyspace = Keyspace::new(config.databases as usize, HashSeeds([1, 2, 3, 4]), 0);
        let ctx = ShardCtx::new(keyspace, config.clone(), rng.next_u64(), id, SlotMap::contiguous(server.shards));
        let mut core = Core::new(id, ctx, server.clone(), now_ns);
        core.shard.lease.rest_ns = 0;
        core
    };
    (0..server.shards).map(core).collect()
}

/// All shards, each stopped before its first turn.
pub fn start(
    world: &Rc<World>,
    plan: &Plan,
    fault: Option<Fault>,
    cores: Vec<Core>,
) -> Vec<Coroutine<(), (), Remains>> {
    let meshes = mesh::connect(plan.shards, plan.capacity, now_ns);
    let shard = |(mesh, mut core): (Box<ShardMesh>, Box<Core>)| {
        let (id, strict, may_be_late, world) = (mesh.id(), plan.strict, plan.may_refuse, world.clone());
        if fault == Some(Fault::FlushInSegment) {
            core.shard.ctx.journal.is_shared = false;
        }
        Coroutine::new(move |yielder: &Yielder<(), ()>, ()| {
            let (mesh, late) = (mesh.paced(Stop(yielder)), VecDeque::new());
            let mesh = FaultyMesh { mesh, yielder, fault, may_be_late, late };
            let (conns, keys, delayed) = (Vec::new(), HashMap::new(), Vec::new());
            Driver { world, id, core, mesh, conns, keys, strict, delayed, next_tick_ns: 0 }.run(yielder)
        })
    };
    meshes.into_iter().map(Box::new).zip(cores.into_iter().map(Box::new)).map(shard).collect()
}

struct Driver<'y> {
    world: Rc<World>,
    id: ShardId,
    core: Box<Core>,
    mesh: FaultyMesh<'y>,
    /// By the index of their sessions.
    conns: Vec<Option<Conn>>,
    keys: HashMap<WireId, ConnKey>,
    strict: bool,
    /// Messages that a fault delivers in the next turn.
    delayed: Vec<(ShardId, Message)>,
    next_tick_ns: u64,
}

/// How long a shard sleeps that tries something again.
const NAP_NS: u64 = 1_000_000;

impl Driver<'_> {
    fn run(mut self, yielder: &Yielder<(), ()>) -> Remains {
        let (mut mail, mut inputs, mut ended) = (Vec::new(), Vec::new(), Vec::new());
        while !self.world.stopping.get() {
            for event in self.reap(yielder) {
                self.handle(event, &mut inputs, &mut ended);
            }
            if self.mesh.fault == Some(Fault::SnapshotBitFlips) {
                self.core.shard.ctx.keyspace.flip_snapshot_numbers();
            }
            let mono_ns = now_ns();
            let unix_ms = if self.world.ticks { world::unix_ms(mono_ns) } else { 0 };
            self.core.set_now(Now { unix_ms: unix_ms as i64, mono_ns });
            self.world.turn_begins(self.id, unix_ms);
            self.mesh.receive(&mut mail);
            let delayed = std::mem::take(&mut self.delayed);
            for (from, Envelope { message, .. }) in mail.drain(..) {
                let message = self.misdirect(message);
                self.take(from, message);
                yielder.suspend(());
            }
            for (from, message) in delayed {
                self.core.message(from, message, &mut self.mesh);
            }
            self.mesh.mesh.drain_overflow();
            let turn: Vec<Input> = inputs.iter().map(|(conn, bytes)| Input { conn: *conn, bytes }).collect();
            self.core.turn(&turn, &mut self.mesh);
            inputs.clear();
            self.core.run_background(|| false);
            let leaves = self.core.end_turn(&mut self.mesh);
            self.end_turn(&mut ended, leaves);
            if self.world.ticks && mono_ns >= self.next_tick_ns {
                self.next_tick_ns = mono_ns + self.core.tick().as_nanos() as u64;
            }
            yielder.suspend(());
            self.mesh.publish_late();
            let world = &self.world;
            self.mesh.mesh.take_sleepers(|shard, _| world.ports[shard].woken.set(true));
        }
        self.core.close_log();
        Remains {
            core_at_rest: self.core.is_at_rest(),
            sessions: self.core.sessions.len(),
            mesh_empty: self.mesh.mesh.is_empty(),
        }
    }

    /// A message, or what a fault makes of it.
    fn take(&mut self, from: ShardId, message: Message) {
        let Some(fault) = self.mesh.fault else { return self.core.message(from, message, &mut self.mesh) };
        match (fault, &message) {
            (Fault::UnwatchLost, Message::Unwatch(_))
            | (Fault::WakeLost, Message::Wake(_))
            | (Fault::ServedLost, Message::Served { .. })
            | (Fault::UnblockLost, Message::Unblock(_))
            | (Fault::InvalidationLost, Message::Tracking(_)) => return,
            (Fault::PushOvertakesReply, Message::Tracking(_)) => return self.push_ahead(from, message),
            (Fault::TimeGoesOn, Message::Step(request)) => {
                let Core { shard, .. } = &mut *self.core;
                shard.locks.time_of(TxId { shard: from, job: request.job }, shard.ctx.now, true);
            }
            (Fault::MessageLate, Message::PubSub(_)) => {
                self.delayed.push((from, message));
                return;
            }
            (Fault::WaiterOvertaken, Message::Step(request)) if self.has_to_wait(request) => {
                self.delayed.push((from, message));
                return;
            }
            (Fault::CommandsBesideLocks, Message::Run(_)) => {
                let locks = std::mem::take(&mut self.core.shard.locks);
                self.core.message(from, message, &mut self.mesh);
                self.core.shard.locks = locks;
                return;
            }
            _ => {}
        }
        let (message, later) = fault.alter(message, &self.core);
        self.delayed.extend(later.map(|later| (from, later)));
        self.core.message(from, message, &mut self.mesh);
    }

    /// Nothing keeps it behind the replies that are still to come.
    fn push_ahead(&mut self, from: ShardId, message: Message) {
        let keys: Vec<ConnKey> = self.conns.iter().flatten().map(|conn| conn.key).collect();
        let waits = |session: &mut Session| (std::mem::take(&mut session.pipeline), session.pause.take());
        let waiting: Vec<_> = keys.iter().map(|&key| waits(self.core.sessions.at(key))).collect();
        self.core.message(from, message, &mut self.mesh);
        for (key, (pipeline, pause)) in keys.into_iter().zip(waiting) {
            let session = self.core.sessions.at(key);
            (session.pipeline, session.pause) = (pipeline, pause);
        }
    }

    fn has_to_wait(&self, request: &StepRequest) -> bool {
        matches!(&request.lock, Lock::Acquire(set) if !self.core.shard.locks.admits(set))
    }

    /// What the network brought; sleeps before, if there is nothing to do.
    fn reap(&mut self, yielder: &Yielder<(), ()>) -> Vec<Event> {
        let world = self.world.clone();
        let port = &world.ports[self.id];
        if !self.core.has_work() && self.delayed.is_empty() {
            if self.mesh.may_sleep(self.core.is_starved()) {
                let tick_ns = self.world.ticks.then_some(self.next_tick_ns);
                let nap_ns = self.core.may_only_nap().then(|| now_ns() + NAP_NS);
                port.deadline_ns.set([self.core.next_deadline_ns(), tick_ns, nap_ns].into_iter().flatten().min());
                port.asleep.set(true);
                while world.must_sleep(self.id) {
                    yielder.suspend(());
                }
                port.asleep.set(false);
            }
            self.mesh.mesh.awake();
        }
        port.woken.set(false);
        port.events.take()
    }

    fn handle(&mut self, event: Event, inputs: &mut Vec<(ConnKey, Vec<u8>)>, ended: &mut Vec<ConnKey>) {
        match event {
            Event::Connected(wire) => {
                let key = self.core.connect(wire as i32, Peer::Unix);
                let index = key.index as usize;
                if self.conns.len() <= index {
                    self.conns.resize_with(index + 1, || None);
                }
                self.conns[index] = Some(Conn { key, wire, sending: None });
                self.keys.insert(wire, key);
            }
            Event::Received(wire, bytes) => inputs.extend(self.keys.get(&wire).map(|&key| (key, bytes))),
            Event::Sent(wire, bytes) => {
                if let Some(&key) = self.keys.get(&wire) {
                    self.sent(key, bytes);
                }
            }
            Event::Finished(wire) => ended.extend(self.keys.get(&wire)),
            Event::Reset(wire) => {
                if let Some(&key) = self.keys.get(&wire) {
                    self.disconnect(key);
                }
            }
        }
    }

    fn sent(&mut self, key: ConnKey, bytes: usize) {
        let conn = self.conns[key.index as usize].as_mut().expect("a live connection");
        let (buffer, before) = conn.sending.take().expect("sent what is being sent");
        if before + bytes < buffer.len() {
            conn.sending = Some((buffer, before + bytes));
            return;
        }
        let session = self.core.sessions.at(key);
        session.output.sent(buffer.len());
        let more = session.output.is_pending() || session.close.is_some();
        self.core.sessions.pool.put(buffer);
        if more {
            self.core.sessions.mark_dirty(key);
        }
    }

    /// `leaves`: replies may be sent.
    fn end_turn(&mut self, ended: &mut Vec<ConnKey>, leaves: bool) {
        for conn in ended.drain(..) {
            self.core.input_ended(conn);
        }
        while leaves && let Some(key) = self.core.sessions.next_dirty() {
            if !self.core.is_held(key) {
                self.serve(key);
            }
        }
        let alone = self.core.sessions.iter().all(|session| session.pipeline.waiting() <= 1);
        assert!(alone || !self.strict, "in strict order, a connection's commands wait for each other");
    }

    fn serve(&mut self, key: ConnKey) {
        self.core.check_output_limits(key);
        let session = self.core.sessions.at(key);
        let conn = self.conns[key.index as usize].as_mut().expect("a session has a connection");
        match session.close {
            Some(Close::Now) => self.close(key),
            Some(Close::AfterReplies) if session.is_answered() && conn.sending.is_none() => self.close(key),
            _ if session.output.is_pending() && conn.sending.is_none() => {
                let buffer = session.output.take();
                self.world.send(conn.wire, &buffer, self.core.shard.ctx.now.mono_ns);
                conn.sending = Some((buffer, 0));
            }
            _ => {}
        }
    }

    fn close(&mut self, key: ConnKey) {
        let wire = self.conns[key.index as usize].as_ref().expect("a session has a connection").wire;
        self.world.close(wire);
        self.disconnect(key);
    }

    fn disconnect(&mut self, key: ConnKey) {
        let conn = self.conns[key.index as usize].take().expect("a session has a connection");
        self.keys.remove(&conn.wire);
        self.core.disconnect(key);
    }

    /// `Fault::GenerationIgnored`: replies are for the slot, whoever has it.
    fn misdirect(&self, mut message: Message) -> Message {
        if let (Some(Fault::GenerationIgnored), Message::Ran(batch)) = (self.mesh.fault, &mut message) {
            for item in &mut batch.items {
                if let Some(conn) = &self.conns[item.session.index as usize] {
                    item.session = conn.key;
                }
            }
        }
        message
    }
}
