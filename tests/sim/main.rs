//! Shards under a seeded scheduler, in one thread: promises P1 and P3, one history for each key, nothing left behind; and
//! what P5 promises of what the disk has kept ([`life`]).
//!
//! The product's `Core` and `ShardMesh` run as they are; only threads, time, network and disk are simulated. A failing run
//! prints its seed, which replays it:
//!
//! ```text
//! cargo test --test sim                               40 seeds of each shape, and every planted bug
//! PERISTYLE_SEEDS=10000 cargo test --test sim         more of them
//! PERISTYLE_SEED=17 cargo test --test sim -- mixed    one of them
//! ```

mod check;
mod client;
mod disk;
mod fault;
mod history;
mod life;
mod merge;
mod model;
mod news;
mod script;
mod shard;
mod store;
mod syncer;
mod transact;
mod world;

use std::ops::Range;

use client::Kind;
use fault::Fault;
use life::Tally;
use peristyle::base::rng::Rng;
use peristyle::config::value::AppendFsync;
use transact::Focus;
use world::Plan;

/// Which schedules a run is rich in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Mixed,
    /// Pipelines whose commands go to several shards, and who watches them.
    CausalPipelines,
    /// Mailboxes of one or two messages.
    OverflowQueues,
    /// Clients that go away at any point, and whose slots others take.
    SlotReuse,
    /// Few clients and short pipelines, so that shards mostly sleep.
    Sleepers,
    /// `pipeline-order strict`.
    Strict,
    /// Commands over shards, MULTI, WATCH, lists that are waited for: of full size ([`FULL_COMMANDS`]).
    Transactions,
    /// The same with less of everything: many seeds in little time.
    FewTransactions,
    /// The same, mostly WATCH and EXEC.
    Watches,
    /// The same, mostly commands that read here and write there.
    Moves,
    /// The same, mostly lists that are waited for.
    Waits,
    /// Scripts, with declared keys and undeclared ones, beside all that transactions do: of full size.
    Scripts,
    /// The same with less of everything.
    FewScripts,
    /// One shard's lease, which others seldom need.
    Leases,
    /// Keys that expire.
    Expiries,
    /// What is published, and who listens.
    Channels,
    /// Copies that clients keep, and transactions and scripts that make them old.
    Copies,
}

/// What a run of full size has, at least.
const FULL_CLIENTS: u64 = 8;
const FULL_COMMANDS: usize = 200;
const FULL_SHARDS: u64 = 3;

impl Shape {
    fn plan(self, rng: &mut Rng) -> Plan {
        let mut pick = |low: u64, high: u64| low + rng.below(high - low + 1);
        let mut plan = Plan {
            shards: pick(1, 4) as usize,
            capacity: [2, 4, 64][pick(0, 2) as usize],
            strict: false,
            clients: Vec::new(),
            rounds: pick(4, 12) as u32,
            commands_min: 0,
            depth_max: [1, 3, 10, 25, 25, 1500][pick(0, 5) as usize],
            waiting_max: 3,
            states_max: 200_000,
            reset_one_in: [0, 10, 30][pick(0, 2) as usize],
            burst_max: [1, 5, 40][pick(0, 2) as usize],
            freeze_one_in: [20, 200, 5000][pick(0, 2) as usize],
            freeze_max: [50, 300, 1000][pick(0, 2) as usize],
            focus: Focus::Everything,
            first_token: 0,
            may_refuse: false,
            step_ns_max: 0,
            end_at_step: None,
        };
        let (mut private, mut registers, mut writers, mut readers) = (pick(0, 3), pick(0, 3), pick(0, 2), pick(0, 2));
        let (mut transactors, mut publishers, mut listeners, mut keepers) = (0, 0, 0, 0);
        if plan.depth_max > 1000 {
            plan.rounds = 2;
        }
        match self {
            Shape::Mixed => {}
            Shape::CausalPipelines => {
                (private, registers, writers, readers) = (0, 0, pick(1, 2), pick(2, 4));
                (plan.shards, plan.rounds) = ([2, 3, 4, 4][pick(0, 3) as usize], pick(30, 100) as u32);
                plan.burst_max = [1, 3][pick(0, 1) as usize];
                (plan.depth_max, plan.freeze_one_in, plan.freeze_max) =
                    (pick(1, 2), pick(2, 20), [200, 600][pick(0, 1) as usize]);
            }
            Shape::OverflowQueues => {
                (plan.shards, plan.capacity) = (pick(2, 4) as usize, pick(1, 2) as usize);
                (plan.burst_max, plan.freeze_one_in) = (pick(1, 10), 30);
                (private, writers, readers) = (pick(1, 3), pick(0, 2), pick(1, 2));
            }
            Shape::SlotReuse => (private, plan.reset_one_in, plan.shards) = (pick(2, 5), 3, pick(2, 4) as usize),
            Shape::Sleepers => {
                (private, registers, writers, readers) = (1, pick(0, 1), 0, 0);
                (plan.shards, plan.depth_max, plan.rounds) = (pick(2, 4) as usize, pick(1, 2), 30);
            }
            Shape::Strict => (plan.strict, plan.depth_max) = (true, plan.depth_max.min(200)),
            Shape::Transactions | Shape::Scripts => {
                (private, registers, writers, readers) = (0, 0, 0, 0);
                (transactors, plan.shards) =
                    (pick(FULL_CLIENTS, FULL_CLIENTS + 1), pick(FULL_SHARDS, FULL_SHARDS + 1) as usize);
                (plan.rounds, plan.commands_min) = (pick(18, 24) as u32, FULL_COMMANDS);
                (plan.depth_max, plan.waiting_max) = (pick(2, 3), 1);
                plan.reset_one_in = [0, 30, 60][pick(0, 2) as usize];
                let focus = [Focus::Everything, Focus::Watches, Focus::Moves, Focus::Waits][pick(0, 3) as usize];
                plan.focus = if self == Shape::Scripts { Focus::Scripts } else { focus };
            }
            Shape::FewTransactions | Shape::Watches | Shape::Moves | Shape::Waits | Shape::FewScripts => {
                (private, registers, writers, readers) = (0, 0, 0, 0);
                (transactors, plan.shards, plan.rounds) = (pick(2, 5), pick(1, 4) as usize, pick(5, 20) as u32);
                (plan.depth_max, plan.reset_one_in) = (pick(1, 3), [0, 5, 20][pick(0, 2) as usize]);
                plan.strict = pick(0, 9) == 0;
                if self == Shape::Moves {
                    plan.rounds = plan.rounds.min(12);
                }
                plan.focus = match self {
                    Shape::Watches => Focus::Watches,
                    Shape::Moves => Focus::Moves,
                    Shape::Waits => Focus::Waits,
                    Shape::FewScripts => Focus::Scripts,
                    _ => Focus::Everything,
                };
            }
            Shape::Leases => {
                (private, registers, writers, readers) = (0, 0, 0, 0);
                (transactors, plan.shards, plan.rounds) = (pick(2, 4), pick(2, 4) as usize, pick(5, 20) as u32);
                (plan.depth_max, plan.reset_one_in) = (pick(1, 4), [0, 5, 20][pick(0, 2) as usize]);
                plan.focus = Focus::Leases;
            }
            Shape::Expiries => {
                (private, registers, writers, readers) = (0, 0, 0, 0);
                (transactors, plan.shards, plan.rounds) = (pick(2, 5), pick(1, 4) as usize, pick(5, 20) as u32);
                (plan.depth_max, plan.reset_one_in) = (pick(1, 3), [0, 5, 20][pick(0, 2) as usize]);
                plan.focus = Focus::Expiries;
                plan.step_ns_max = [100_000, 300_000, 1_000_000][pick(0, 2) as usize];
            }
            Shape::Channels => {
                (private, registers, writers, readers) = (0, 0, 0, 0);
                (publishers, listeners, plan.shards) = (pick(1, 4), pick(1, 4), pick(2, 4) as usize);
                (plan.rounds, plan.depth_max) = (pick(5, 20) as u32, pick(1, 3));
                plan.reset_one_in = [0, 0, 20][pick(0, 2) as usize];
            }
            Shape::Copies => {
                (private, registers, writers, readers) = (0, 0, 0, 0);
                (transactors, keepers, plan.shards) = (pick(1, 4), pick(1, 4), pick(2, 4) as usize);
                (plan.rounds, plan.depth_max) = (pick(5, 20) as u32, pick(1, 3));
                plan.reset_one_in = [0, 0, 20][pick(0, 2) as usize];
                plan.focus = [Focus::Everything, Focus::Scripts][pick(0, 1) as usize];
            }
        }
        let kinds = [
            (Kind::Private, private),
            (Kind::Register, registers),
            (Kind::Writer, writers),
            (Kind::Reader, readers),
            (Kind::Transactor, transactors),
            (Kind::Publisher, publishers),
            (Kind::Listener, listeners),
            (Kind::Keeper, keepers),
        ];
        plan.clients = kinds.iter().flat_map(|&(kind, count)| (0..count).map(move |_| kind)).collect();
        plan
    }

    fn run(self, seed: u64, fault: Option<Fault>) -> Result<(), String> {
        let mut plan = self.plan(&mut Rng::new(seed));
        if fault.is_some() {
            // To show that there is no order takes longer than to find one; some other seed is easier.
            plan.states_max = 3000;
        }
        run_plan(plan, seed, fault)
    }

    /// All seeds, none of which may show a bug.
    fn holds(self, test: &str) {
        let seeds = seeds();
        let (count, mut tangled) = (seeds.end - seeds.start, 0);
        for seed in seeds {
            let mut outcome = self.run(seed, None);
            if is_tangled(&outcome) {
                let mut plan = self.plan(&mut Rng::new(seed));
                plan.states_max *= PATIENCE;
                outcome = run_plan(plan, seed, None);
            }
            if is_tangled(&outcome) {
                tangled += 1;
            } else if let Err(broken) = outcome {
                panic!("seed {seed}: {broken}\nreplay: PERISTYLE_SEED={seed} cargo test --test sim -- {test}");
            }
        }
        println!("{test}: {count} seeds, {tangled} of them too tangled to be judged");
        assert!(tangled <= count / TANGLED_ONE_IN, "{tangled} of {count} seeds are too tangled to be judged");
    }

    /// A planted bug must show.
    fn finds(self, fault: Fault) {
        let found = (0..1000).find_map(|seed| {
            let outcome = self.run(seed, Some(fault));
            if is_tangled(&outcome) { None } else { Some((seed, outcome.err()?)) }
        });
        let (seed, broken) = found.unwrap_or_else(|| panic!("{fault:?} is not found in 1000 seeds"));
        println!("{fault:?} shows with seed {seed}: {broken}");
    }
}

/// So many times as many states are looked at before a seed is given up.
const PATIENCE: usize = 20;
/// Of so many seeds, one may be.
const TANGLED_ONE_IN: u64 = 500;

fn run_plan(plan: Plan, seed: u64, fault: Option<Fault>) -> Result<(), String> {
    let described = format!("{plan:?}");
    world::run(plan, seed, fault).map_err(|broken| format!("{broken}\n{described}"))
}

/// Neither right nor wrong.
fn is_tangled(outcome: &Result<(), String>) -> bool {
    outcome.as_ref().is_err_and(|broken| broken.starts_with(history::TANGLED))
}

/// Which ones are to be run.
fn seeds() -> Range<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let first = number("PERISTYLE_SEED");
    let count = number("PERISTYLE_SEEDS").unwrap_or(if first.is_some() { 1 } else { 40 });
    first.unwrap_or(0)..first.unwrap_or(0) + count
}

#[test]
fn mixed() {
    Shape::Mixed.holds("mixed");
}

#[test]
fn causal_pipelines() {
    Shape::CausalPipelines.holds("causal_pipelines");
}

#[test]
fn overflow_queues() {
    Shape::OverflowQueues.holds("overflow_queues");
}

#[test]
fn slot_reuse() {
    Shape::SlotReuse.holds("slot_reuse");
}

#[test]
fn sleepers() {
    Shape::Sleepers.holds("sleepers");
}

#[test]
fn strict() {
    Shape::Strict.holds("strict");
}

#[test]
fn transactions() {
    Shape::Transactions.holds("transactions");
}

#[test]
fn watches() {
    Shape::Watches.holds("watches");
}

#[test]
fn waits() {
    Shape::Waits.holds("waits");
}

#[test]
fn moves() {
    Shape::Moves.holds("moves");
}

#[test]
fn scripts() {
    Shape::Scripts.holds("scripts");
}

#[test]
fn few_scripts() {
    Shape::FewScripts.holds("few_scripts");
}

/// Not even a command of the client's own shard, which could run at once, nor another script.
#[test]
fn nothing_overtakes_a_script_in_its_pipeline() {
    for seed in [439, 2194, 6601, 10780] {
        let outcome = Shape::FewScripts.run(seed, None);
        outcome.unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    }
}

/// Which waited for the lease beside the lock table, and was overtaken there; or never went on behind a script that had
/// run at once.
#[test]
fn scripts_that_wait_for_the_lease_keep_their_place_in_their_pipeline() {
    for seed in [243, 815, 843, 1421, 2415, 4972] {
        let outcome = Shape::FewScripts.run(seed, None);
        outcome.unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    }
}

#[test]
fn leases() {
    Shape::Leases.holds("leases");
}

#[test]
fn expiries() {
    Shape::Expiries.holds("expiries");
}

/// Not between a transaction's commands, not for its scripts, not where it runs on copies; nor behind a WATCH that found it
/// expired.
#[test]
fn what_was_seen_does_not_expire_meanwhile() {
    for seed in [225, 884, 1188] {
        let outcome = Shape::Expiries.run(seed, None);
        outcome.unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    }
}

#[test]
fn channels() {
    Shape::Channels.holds("channels");
}

#[test]
fn copies() {
    Shape::Copies.holds("copies");
}

#[test]
fn few_transactions() {
    Shape::FewTransactions.holds("few_transactions");
}

/// All seeds, none of which may lose what was promised.
fn lasts(fsync: AppendFsync, test: &str) {
    let mut tally = Tally::default();
    for seed in seeds() {
        if let Err(broken) = life::run(fsync, seed, None, &mut tally) {
            panic!("seed {seed}: {broken}\nreplay: PERISTYLE_SEED={seed} cargo test --test sim -- {test}");
        }
    }
    println!("{tally:?}");
}

/// A planted bug must lose something.
fn loses(fsync: AppendFsync, fault: Fault) {
    let shows = |broken: &String| !broken.starts_with(history::TANGLED);
    let run = |seed| life::run(fsync, seed, Some(fault), &mut Tally::default());
    let found = (0..1000).find_map(|seed| Some((seed, run(seed).err().filter(shows)?)));
    let (seed, broken) = found.unwrap_or_else(|| panic!("{fault:?} is not found in 1000 seeds"));
    println!("{fault:?} shows with seed {seed}: {broken}");
}

#[test]
fn synced_always_it_lasts() {
    lasts(AppendFsync::Always, "synced_always_it_lasts");
}

#[test]
fn synced_every_second_it_lasts() {
    lasts(AppendFsync::EverySecond, "synced_every_second_it_lasts");
}

/// What a call to the disk that failed once has cost.
#[test]
fn synced_every_second_it_lasts_though_a_sync_failed() {
    for seed in [2255, 2665, 4897, 6937, 14759] {
        let outcome = life::run(AppendFsync::EverySecond, seed, None, &mut Tally::default());
        outcome.unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    }
}

#[test]
fn never_synced_it_outlasts_the_process() {
    lasts(AppendFsync::No, "never_synced_it_outlasts_the_process");
}

#[test]
fn replies_before_sync_is_found() {
    loses(AppendFsync::Always, Fault::RepliesBeforeSync);
}

#[test]
fn flush_in_segment_is_found() {
    loses(AppendFsync::Always, Fault::FlushInSegment);
}

#[test]
fn parts_undecided_is_found() {
    loses(AppendFsync::No, Fault::PartsUndecided);
}

#[test]
fn cut_unlocked_is_found() {
    loses(AppendFsync::EverySecond, Fault::CutUnlocked);
}

#[test]
fn snapshot_bit_flips_is_found() {
    loses(AppendFsync::EverySecond, Fault::SnapshotBitFlips);
}

#[test]
fn late_publication_is_found() {
    Shape::CausalPipelines.finds(Fault::LatePublication);
}

#[test]
fn time_read_late_is_found() {
    Shape::CausalPipelines.finds(Fault::TimeReadLate);
}

#[test]
fn own_part_first_is_found() {
    Shape::CausalPipelines.finds(Fault::OwnPartFirst);
}

#[test]
fn lost_wake_up_is_found() {
    Shape::Sleepers.finds(Fault::LostWakeUp);
}

#[test]
fn generation_ignored_is_found() {
    Shape::SlotReuse.finds(Fault::GenerationIgnored);
}

#[test]
fn overflow_overtaken_is_found() {
    Shape::OverflowQueues.finds(Fault::OverflowOvertaken);
}

#[test]
fn torn_publication_is_found() {
    Shape::OverflowQueues.finds(Fault::TornPublication);
}

#[test]
fn time_goes_on_is_found() {
    Shape::Expiries.finds(Fault::TimeGoesOn);
}

#[test]
fn early_release_is_found() {
    Shape::FewTransactions.finds(Fault::EarlyRelease);
}

#[test]
fn shared_for_exclusive_is_found() {
    Shape::FewTransactions.finds(Fault::SharedForExclusive);
}

#[test]
fn watched_unlocked_is_found() {
    Shape::Watches.finds(Fault::WatchedUnlocked);
}

#[test]
fn waiting_as_granted_is_found() {
    Shape::Moves.finds(Fault::WaitingAsGranted);
}

#[test]
fn waiter_overtaken_is_found() {
    Shape::Moves.finds(Fault::WaiterOvertaken);
}

#[test]
fn requests_apart_is_found() {
    Shape::Moves.finds(Fault::RequestsApart);
}

#[test]
fn parts_apart_is_found() {
    Shape::FewTransactions.finds(Fault::PartsApart);
}

#[test]
fn release_lost_is_found() {
    Shape::FewTransactions.finds(Fault::ReleaseLost);
}

#[test]
fn commit_after_release_is_found() {
    Shape::Moves.finds(Fault::CommitAfterRelease);
}

#[test]
fn check_forgotten_is_found() {
    Shape::Watches.finds(Fault::CheckForgotten);
}

#[test]
fn commands_beside_locks_is_found() {
    Shape::Moves.finds(Fault::CommandsBesideLocks);
}

#[test]
fn whole_unlocked_is_found() {
    Shape::FewTransactions.finds(Fault::WholeUnlocked);
}

#[test]
fn unwatch_lost_is_found() {
    Shape::FewTransactions.finds(Fault::UnwatchLost);
}

#[test]
fn undeclared_unlocked_is_found() {
    Shape::FewScripts.finds(Fault::UndeclaredUnlocked);
}

#[test]
fn link_forgotten_is_found() {
    Shape::Leases.finds(Fault::LinkForgotten);
}

#[test]
fn script_torn_is_found() {
    Shape::FewScripts.finds(Fault::ScriptTorn);
}

#[test]
fn message_late_is_found() {
    Shape::Channels.finds(Fault::MessageLate);
}

#[test]
fn invalidation_lost_is_found() {
    Shape::Copies.finds(Fault::InvalidationLost);
}

#[test]
fn push_overtakes_reply_is_found() {
    Shape::Copies.finds(Fault::PushOvertakesReply);
}

#[test]
fn wake_lost_is_found() {
    Shape::Waits.finds(Fault::WakeLost);
}

#[test]
fn served_lost_is_found() {
    Shape::Waits.finds(Fault::ServedLost);
}

#[test]
fn unblock_lost_is_found() {
    Shape::Waits.finds(Fault::UnblockLost);
}

#[test]
fn ticket_forgotten_is_found() {
    Shape::Waits.finds(Fault::TicketForgotten);
}
