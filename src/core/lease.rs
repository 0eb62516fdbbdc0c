//! The lease (`engine::lease`) at work: the locks of all shards asked for and given up, the scripts that wait for it, and
//! what these call elsewhere.

use super::Core;
use super::jobs::Work;
use super::log::is_whole;
use crate::base::ids::{ConnKey, JobKey, ShardId};
use crate::command::spec::WRITE;
use crate::dispatch::registry::Run;
use crate::engine::gather::{self, Next, Round};
use crate::engine::lease::LeaseAction;
use crate::engine::lock::{Mode, TxId};
use crate::engine::msg::{Lock, Message, Step, StepOutcome};
use crate::engine::multi::ExecNext;
use crate::engine::script::calling::{Call, Calling, Progress};
use crate::resp::reply::Protocol;
use crate::script::shard::AskedCommand;

/// A lease of another shard's, for which this one is locked.
pub(super) struct Lent {
    to: TxId,
    is_recalled: bool,
    /// The clock has ticked since.
    has_ticked: bool,
}

impl Core {
    /// Does what is next for this shard's lease, and calls back that for which it is locked. Whether there was anything.
    #[inline]
    pub(super) fn serve_lease(&mut self) -> bool {
        if self.lent.is_some() && self.shard.locks.waiting() > 0 {
            self.recall_lease(true);
        }
        !self.shard.lease.is_idle() && self.serve_lease_now()
    }

    #[cold]
    fn serve_lease_now(&mut self) -> bool {
        if self.shard.is_busy() || self.stopped {
            return false;
        }
        let is_free = self.shard.locks.is_empty();
        match self.shard.lease.next(is_free, self.shard.ctx.now.mono_ns) {
            LeaseAction::Nothing => return false,
            LeaseAction::Ask => {
                let key = self.own_job(ConnKey::NOBODY, Work::Lease(None));
                self.shard.lease.asked(key);
                self.ask_all(key, gather::whole_shards(&self.slots, Mode::Exclusive, || Step::Lease));
            }
            LeaseAction::Run((from, mut batch)) => {
                self.shard.run_leased(from, &mut batch);
                self.batch_ran(from, batch);
            }
            LeaseAction::CloseOwn(key) => {
                let releases = self.lets_go(key, self.id);
                self.send_step(key, self.id, 0, Lock::Held, Step::Nothing, releases, false);
            }
            LeaseAction::End(key) => {
                self.release_all(key);
                self.jobs.remove(key.index as usize);
            }
        }
        true
    }

    /// The clock ticks: no lease is kept for longer than it is of use, nor others' for longer than a tick, as there may be
    /// something to expire.
    pub(super) fn tick_lease(&mut self) {
        if self.lent.as_mut().is_some_and(|lent| std::mem::replace(&mut lent.has_ticked, true)) {
            self.recall_lease(false);
        }
        self.shard.lease.tick();
        while self.serve_lease() {}
    }

    /// The shard is locked for a lease from now on.
    pub(super) fn lend(&mut self, to: TxId) {
        if to.shard != self.id {
            self.lent = Some(Lent { to, is_recalled: false, has_ticked: false });
        }
    }

    pub(super) fn is_lent_to(&self, transaction: TxId) -> bool {
        self.lent.as_ref().is_some_and(|lent| lent.to == transaction)
    }

    /// A transaction gives up its locks here.
    pub(super) fn lease_ended(&mut self, transaction: TxId) {
        self.lent.take_if(|lent| lent.to == transaction);
        if transaction.shard == self.id && self.shard.lease.is_closing(transaction.job) {
            self.shard.lease.closed();
        }
    }

    /// What the shard is locked for, if it is a lease, is to end soon. `waits`: something waits for that.
    pub(super) fn recall_lease(&mut self, waits: bool) {
        let Some(lent) = self.lent.as_mut().filter(|lent| !lent.is_recalled) else { return };
        lent.is_recalled = true;
        let TxId { shard, job } = lent.to;
        self.tell(shard, Message::Recall { job, waits });
    }

    /// The locks are there; or the command that the script calls has come one round further.
    pub(super) fn lease_round_done(&mut self, key: JobKey, outcomes: Vec<StepOutcome>) {
        if !self.shard.lease.is_calling() {
            return self.shard.lease.opened();
        }
        let Work::Lease(calling) = &mut self.jobs[key.index as usize].work else { unreachable!("the caller looked") };
        let reply = match calling {
            Some(calling) => match calling.advance(outcomes, &self.slots, &mut self.shard.ctx) {
                Progress::Round(round) => return self.send_leased(key, round),
                Progress::Replied(reply) => reply,
            },
            None => match outcomes.into_iter().next() {
                Some(StepOutcome::Reply(reply)) => reply,
                other => unreachable!("the client's shard answers with a reply, not {other:?}"),
            },
        };
        // Behind a segment that the command began, it goes on in the next one.
        self.shard.ctx.journal.go_on_holding();
        self.shard.lease.call(false);
        self.shard.ctx.scripts.answer = reply;
        self.go_on_with_script();
    }

    /// The script that has the lease calls something that is not this shard's alone, and goes on with the reply.
    pub(super) fn call_for_script(&mut self, asked: AskedCommand) {
        let AskedCommand { words, db, now, protocol } = asked;
        let key = self.shard.lease.job().expect("on several shards only a script with the lease asks");
        self.shard.lease.call(true);
        let slices: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let command = self.registry.find(slices[0]).expect("the script has found it");
        let called = self.registry.called(command, &slices);
        let (Run::Key(row), Some((spec, id))) = (command.run, called) else {
            self.jobs[key.index as usize].work = Work::Lease(None);
            self.await_step(key);
            let (shard, conn) = self.shard.client_of_script();
            return self.tell(shard, Message::ScriptCalls { job: key, conn, words, protocol });
        };
        if spec.flags.has(WRITE) {
            // Clients may wait there for what it brings: they are served when the locks end, which is behind this script.
            self.shard.lease.link();
        }
        let call = Call { row, spec, id, db, words, protocol };
        let (calling, round) = Calling::begin(call, now, &self.slots, self.dbsize, &mut self.shard.ctx);
        self.jobs[key.index as usize].work = Work::Lease(Some(calling));
        self.send_leased(key, round);
    }

    /// A step is what the script of this shard, in the middle of its work, has called.
    pub(super) fn is_called_by_script(&self, from: ShardId, job: JobKey) -> bool {
        from == self.id && self.shard.lease.is_calling() && self.shard.lease.job() == Some(job)
    }

    /// From its first command elsewhere on, what the script does is a transaction over several shards. What changes the
    /// whole keyspace begins a segment: what it has done by then stays before that.
    fn send_leased(&mut self, key: JobKey, round: Round) {
        if let Some(log) = self.log.as_mut() {
            let logging = &mut self.jobs[key.index as usize].logging;
            if logging.transaction == 0 {
                logging.transaction = log.next_transaction().counter;
            }
            if round.iter().any(|(_, step)| is_whole(step)) {
                self.log_part(key);
            }
        }
        self.send_round(key, round, false);
    }

    fn log_part(&mut self, key: JobKey) {
        let id = self.transaction_id(self.id, self.jobs[key.index as usize].logging.transaction);
        let logged = self.shard.ctx.journal.release_part(id);
        self.jobs[key.index as usize].logging.parts += u64::from(logged);
    }

    /// A script that paused has ended: what it did is logged, as a part of a transaction if it did something elsewhere.
    pub(super) fn log_leased(&mut self) {
        let job = self.shard.lease.job().filter(|key| self.jobs[key.index as usize].logging.transaction != 0);
        if let Some(key) = job {
            self.log_part(key);
            self.decide(key);
            self.jobs[key.index as usize].logging.transaction = 0;
        }
        self.shard.ctx.journal.hold(false);
    }

    /// A script of a client of this shard's, which runs on another shard, calls a command without keys.
    pub(super) fn called_by_script(
        &mut self,
        shard: ShardId,
        lease: JobKey,
        conn: ConnKey,
        words: Vec<Vec<u8>>,
        protocol: Protocol,
    ) {
        let key = self.own_job(conn, Work::Called(shard, lease));
        self.jobs[key.index as usize].called_in = Some(protocol);
        if let Some(reply) = self.run_keyless(key, &words) {
            self.go_on(key, ExecNext::Job(Next::Reply(reply)));
        }
    }
}
