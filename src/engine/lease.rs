//! The lease: what lets scripts that may touch any key run on the shard of the keys that they declare, one after the
//! other, without asking the other shards each time.
//!
//! Such a script needs every shard for itself. The shard of its keys asks all of them for their locks, as any transaction
//! does, runs what scripts wait by then, and gives up its own lock; those of the others it keeps. While it keeps them,
//! what is on other shards stands still, and the next such script begins at once. Mostly all keys that scripts make of
//! their arguments are where those are that they declare (`keyspace::slots`); a command on another shard's keys pauses the
//! script until that shard, which is locked for it, has run the command.
//!
//! *Why a script finds all in one order.* What stands still elsewhere waits since the lease began. What has run here since
//! then must not be of those behind it: so the lease is stale, and not used any more, as soon as something comes here that
//! is linked with other shards (`RunItem::is_linked`): a part of a transaction in one hop, or a command whose connection
//! has others under way elsewhere. Transactions that take locks have the table of this shard not empty until they are
//! over, and then a script waits for a new lease.
//!
//! *Nobody waits for long.* A shard on which something waits behind the lease calls it back, and so does one whose clock
//! has ticked twice meanwhile (there may be keys to expire); it ends when the script that runs has ended. A lease that others needed is not
//! kept for [`LEASE_REST_NS`]: scripts take locks one by one then.

use std::collections::VecDeque;

use super::msg::RunBatch;
use crate::base::ids::{JobKey, ShardId};
use crate::base::limits::LEASE_REST_NS;

/// A script that waits for the lease: whose it is, and alone in its batch.
pub type WaitingScript = (ShardId, Box<RunBatch>);

#[derive(Debug)]
pub struct Lease {
    state: State,
    waiting: VecDeque<WaitingScript>,
    /// Something has come here that is linked with what stands still elsewhere.
    is_stale: bool,
    /// Another shard needs it back.
    is_recalled: bool,
    /// No lease is kept before this, on the monotonic clock.
    keep_from_ns: u64,
    /// [`LEASE_REST_NS`]; in a simulation less, where time hardly passes.
    pub rest_ns: u64,
    /// Since the clock ticked last, a script has run.
    is_used: bool,
    /// Its script waits for the reply to a command that it calls elsewhere.
    is_calling: bool,
    pub stats: LeaseStats,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    None,
    /// All shards have been asked for their locks, for so many scripts: who comes later stands behind commands that wait for
    /// these locks.
    Asked(JobKey, usize),
    /// They are held, this shard's among them, for so many scripts still.
    Open(JobKey, usize),
    /// This shard's is being given up.
    Closing(JobKey),
    /// Those of the others are held.
    Kept(JobKey),
}

/// Counters for INFO.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeaseStats {
    /// How often all shards were asked.
    pub leases: u64,
    /// Scripts that ran under a lease.
    pub scripts: u64,
}

/// What the core has to do for it.
#[derive(Debug)]
pub enum LeaseAction {
    Nothing,
    /// Ask all shards for their locks, and say so by `asked`.
    Ask,
    Run(WaitingScript),
    /// Give up the lock on this shard.
    CloseOwn(JobKey),
    /// Give up all locks.
    End(JobKey),
}

impl Default for Lease {
    fn default() -> Lease {
        Lease {
            state: State::None,
            waiting: VecDeque::new(),
            is_stale: false,
            is_recalled: false,
            keep_from_ns: 0,
            rest_ns: LEASE_REST_NS,
            is_used: false,
            is_calling: false,
            stats: LeaseStats::default(),
        }
    }
}

impl Lease {
    /// A script may begin, if nothing is locked here.
    #[inline]
    pub fn is_usable(&self) -> bool {
        matches!(self.state, State::Kept(_)) && !self.is_stale && !self.is_recalled && self.waiting.is_empty()
    }

    /// The locks of other shards are held.
    #[inline]
    pub fn is_kept(&self) -> bool {
        matches!(self.state, State::Kept(_))
    }

    /// There is none, and nobody wants one.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.state == State::None && self.waiting.is_empty()
    }

    /// Nobody uses it, or waits for it.
    pub fn is_at_rest(&self) -> bool {
        matches!(self.state, State::None | State::Kept(_)) && self.waiting.is_empty() && !self.is_calling
    }

    /// Shards have been asked for their locks: what comes now may stand still there.
    #[inline]
    pub fn is_under_way(&self) -> bool {
        self.state != State::None
    }

    /// Something comes that is linked with what other shards run. It counts from its coming, though it may have to wait.
    #[inline]
    pub fn link(&mut self) {
        self.is_stale = true;
    }

    pub fn wait(&mut self, script: WaitingScript) {
        self.waiting.push_back(script);
    }

    /// All shards have been asked.
    pub fn asked(&mut self, job: JobKey) {
        assert!(self.state == State::None, "there is one lease");
        self.state = State::Asked(job, self.waiting.len());
        (self.is_stale, self.is_recalled) = (false, false);
        self.stats.leases += 1;
    }

    /// All locks are held.
    pub fn opened(&mut self) {
        let State::Asked(job, scripts) = self.state else { panic!("only what was asked for is opened") };
        self.state = State::Open(job, scripts);
    }

    pub fn is_closing(&self, job: JobKey) -> bool {
        self.state == State::Closing(job)
    }

    /// This shard's lock is given up, and what waited for it goes on.
    pub fn closed(&mut self) {
        let State::Closing(job) = self.state else { panic!("the lock was being given up") };
        self.state = State::Kept(job);
    }

    /// The job that holds the locks.
    pub fn job(&self) -> Option<JobKey> {
        match self.state {
            State::None => None,
            State::Asked(job, _) | State::Open(job, _) | State::Closing(job) | State::Kept(job) => Some(job),
        }
    }

    /// A script runs under it.
    pub fn used(&mut self) {
        self.is_used = true;
        self.stats.scripts += 1;
    }

    /// Its script waits for a reply, or goes on with it.
    pub fn call(&mut self, waits: bool) {
        self.is_calling = waits;
    }

    #[inline]
    pub fn is_calling(&self) -> bool {
        self.is_calling
    }

    /// Another shard needs the lease of this job back; `waits`: something waits there.
    pub fn recall(&mut self, job: JobKey, waits: bool, now_ns: u64) {
        if self.job() != Some(job) {
            // It has ended meanwhile.
            return;
        }
        self.is_recalled = true;
        if waits {
            self.keep_from_ns = now_ns + self.rest_ns;
        }
    }

    /// The clock ticks: a lease that nobody uses ends.
    pub fn tick(&mut self) {
        if !std::mem::take(&mut self.is_used) && self.is_kept() {
            self.is_recalled = true;
        }
    }

    /// What is to be done next, while no script runs. `is_free`: nothing is locked on this shard.
    pub fn next(&mut self, is_free: bool, now_ns: u64) -> LeaseAction {
        match self.state {
            State::None if !self.waiting.is_empty() => LeaseAction::Ask,
            State::None | State::Asked(..) | State::Closing(_) => LeaseAction::Nothing,
            State::Open(job, 0) => {
                self.state = State::Closing(job);
                LeaseAction::CloseOwn(job)
            }
            State::Open(job, left) => {
                self.state = State::Open(job, left - 1);
                LeaseAction::Run(self.waiting.pop_front().expect("it has waited when the lease was opened"))
            }
            State::Kept(job) => {
                let is_good = !self.is_stale && !self.is_recalled && now_ns >= self.keep_from_ns;
                if is_good && self.waiting.is_empty() {
                    return LeaseAction::Nothing;
                }
                if is_good && is_free {
                    return LeaseAction::Run(self.waiting.pop_front().expect("one waits"));
                }
                self.state = State::None;
                LeaseAction::End(job)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: JobKey = JobKey { index: 7, generation: 1 };

    fn script(shard: ShardId) -> WaitingScript {
        (shard, Box::default())
    }

    fn steps(lease: &mut Lease, is_free: bool, now_ns: u64) -> String {
        let mut steps = Vec::new();
        loop {
            steps.push(match lease.next(is_free, now_ns) {
                LeaseAction::Nothing => return steps.join(" "),
                LeaseAction::Ask => {
                    lease.asked(JOB);
                    "ask".to_owned()
                }
                LeaseAction::Run((shard, _)) => format!("run:{shard}"),
                LeaseAction::CloseOwn(_) => {
                    lease.closed();
                    "close-own".to_owned()
                }
                LeaseAction::End(_) => "end".to_owned(),
            });
        }
    }

    #[test]
    fn what_comes_behind_a_link_waits_for_another_lease() {
        for asked in [true, false] {
            let mut lease = Lease::default();
            lease.wait(script(0));
            assert_eq!(steps(&mut lease, true, 0), "ask");
            if !asked {
                lease.opened();
            }
            lease.link();
            lease.wait(script(1));
            if asked {
                lease.opened();
            }
            assert_eq!(steps(&mut lease, true, 0), "run:0 close-own end ask");
        }
    }

    fn kept() -> Lease {
        let mut lease = Lease::default();
        lease.wait(script(0));
        assert_eq!(steps(&mut lease, true, 0), "ask");
        lease.opened();
        assert_eq!(steps(&mut lease, false, 0), "run:0 close-own");
        lease
    }

    #[test]
    fn what_waits_runs_when_all_locks_are_there_and_the_next_script_at_once() {
        let mut lease = Lease::default();
        assert_eq!(steps(&mut lease, true, 0), "");
        lease.wait(script(1));
        lease.wait(script(2));
        assert_eq!(steps(&mut lease, true, 0), "ask");
        lease.wait(script(3));
        lease.opened();
        assert_eq!(steps(&mut lease, true, 0), "run:1 run:2 close-own run:3");
        assert!(lease.is_usable());
        lease.wait(script(4));
        assert!(!lease.is_usable(), "nobody is overtaken");
        assert_eq!(steps(&mut lease, true, 0), "run:4");
    }

    /// Commands may have come before it, and wait behind the locks that were asked for.
    #[test]
    fn a_script_that_comes_when_the_locks_are_asked_for_runs_behind_those_who_wait_for_them() {
        let mut lease = Lease::default();
        lease.wait(script(1));
        assert_eq!(steps(&mut lease, true, 0), "ask");
        lease.wait(script(2));
        lease.opened();
        assert_eq!(steps(&mut lease, false, 0), "run:1 close-own end ask");
    }

    #[test]
    fn a_lease_ends_when_something_linked_runs_or_something_is_locked_here() {
        let mut lease = kept();
        lease.link();
        assert!(!lease.is_usable());
        lease.wait(script(1));
        assert_eq!(steps(&mut lease, true, 0), "end ask");
        let mut lease = kept();
        lease.wait(script(1));
        assert_eq!(steps(&mut lease, false, 0), "end ask");
    }

    #[test]
    fn a_lease_that_others_need_ends_and_is_not_kept_for_a_while() {
        let mut lease = kept();
        lease.recall(JobKey { generation: 0, ..JOB }, true, 5);
        assert!(lease.is_usable(), "that was an earlier one");
        lease.recall(JOB, true, 5);
        assert_eq!(steps(&mut lease, true, 5), "end");
        lease.wait(script(1));
        assert_eq!(steps(&mut lease, true, 6), "ask");
        lease.opened();
        assert_eq!(steps(&mut lease, true, 6), "run:1 close-own end");
        lease.wait(script(1));
        assert_eq!(steps(&mut lease, true, 7), "ask");
        lease.opened();
        assert_eq!(steps(&mut lease, true, 5 + LEASE_REST_NS), "run:1 close-own");
    }

    #[test]
    fn an_idle_lease_ends_with_the_second_tick() {
        let mut lease = kept();
        lease.used();
        lease.tick();
        assert_eq!(steps(&mut lease, true, 0), "");
        lease.tick();
        assert_eq!(steps(&mut lease, true, 0), "end");
    }
}
