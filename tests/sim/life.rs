//! Lives of one server with an append-only file, one after the other: each ends at any step of a shard or within any call
//! to the disk, as the process dies, the machine stops, or all is done; the next begins with what the disk has kept, with
//! other shards perhaps. What it finds is held against what clients have seen of the life before.
//!
//! The files lie in memory while a server runs ([`crate::disk`]). Recovery is the product's own, over real files.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use peristyle::admin::ctx::Server;
use peristyle::base::clock::Now;
use peristyle::base::rng::Rng;
use peristyle::command::args::Args;
use peristyle::command::ctx::{self, ShardCtx};
use peristyle::config::Config;
use peristyle::config::value::{AppendFsync, PipelineOrder};
use peristyle::core::Core;
use peristyle::keyspace::slots::{SlotMap, prefix_sum};
use peristyle::persist::aof::Run;
use peristyle::persist::aof::load::Deal;
use peristyle::persist::aof::manifest::Manifest;
use peristyle::persist::aof::open::{Place, Plan as Found, Source, open};
use peristyle::persist::status::LoadOf;
use peristyle::resp::reply::{Protocol, Reply};
use peristyle::resp::skip;

use crate::client::Kind;
use crate::disk::{Dangers, Ended, Image, SimDisk, Trouble};
use crate::fault::Fault;
use crate::history::{self, Operation};
use crate::merge::{Command, Entry, merge};
use crate::shard;
use crate::store::{Call, DATABASES, Database, Store, Value, changes_nothing};
use crate::syncer::{self, Syncer};
use crate::transact::Focus;
use crate::world::{self, Lived, Plan};

const APPEND_FILE: &str = "a";
const LIVES_MAX: u64 = 3;
/// What `everysec` may lose, of what was acknowledged before the last acknowledgement of all.
const LOSS_MAX_NS: u64 = 2_000_000_000;

/// How a life ends that does not stop by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Process,
    Power,
}

#[derive(Debug)]
struct LifePlan {
    plan: Plan,
    fsync: AppendFsync,
    end: End,
    dangers: Dangers,
    preamble: bool,
    timestamps: bool,
    /// See [`Syncer`].
    gives_up_one_in: u64,
}

impl LifePlan {
    fn new(rng: &mut Rng, fsync: AppendFsync, life: u64, fault: Option<Fault>) -> LifePlan {
        let mut pick = |low: u64, high: u64| low + rng.below(high - low + 1);
        let trouble = match pick(0, 7) {
            _ if fault.is_some() => Trouble::None,
            0 => Trouble::Once(pick(1, 150)),
            1 => Trouble::Full(pick(1, 100), pick(1, 30)),
            _ => Trouble::None,
        };
        let (end_at, end_at_step) = match pick(0, 9) {
            0 => (None, None),
            1..4 => (None, Some(pick(1, 800))),
            _ => (Some(pick(1, 100)), None),
        };
        let end = if pick(0, 2) == 0 { End::Process } else { End::Power };
        let plan = Plan {
            shards: pick(if fault.is_some() { 2 } else { 1 }, 4) as usize,
            capacity: [2, 4, 64][pick(0, 2) as usize],
            strict: pick(0, 9) == 0,
            clients: vec![Kind::Transactor; pick(2, 4) as usize],
            rounds: pick(4, 16) as u32,
            commands_min: 0,
            depth_max: pick(1, 3),
            waiting_max: 2,
            states_max: if fault.is_some() { 3000 } else { 200_000 },
            reset_one_in: [0, 10, 30][pick(0, 2) as usize],
            burst_max: [1, 5, 40][pick(0, 2) as usize],
            freeze_one_in: [20, 200, 5000][pick(0, 2) as usize],
            freeze_max: [50, 300, 1000][pick(0, 2) as usize],
            focus: Focus::Lasting,
            first_token: life * 10_000,
            may_refuse: trouble != Trouble::None,
            step_ns_max: [1_000_000, 10_000_000, 50_000_000][pick(0, 2) as usize],
            end_at_step,
        };
        let dangers = Dangers { end_at, trouble, syncs_late: fault == Some(Fault::RepliesBeforeSync) };
        let (preamble, timestamps) = (pick(0, 1) == 0, pick(0, 3) == 0);
        let gives_up_one_in =
            if fault == Some(Fault::SnapshotBitFlips) { 4 } else { [0, 0, 10, 4][pick(0, 3) as usize] };
        LifePlan { plan, fsync, end, dangers, preamble, timestamps, gives_up_one_in }
    }
}

/// A life that is over.
struct Past {
    plan: LifePlan,
    before: Store,
    /// Nothing, if it ended before anybody was served.
    lived: Option<Lived>,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub seeds: u64,
    pub process_ends: u64,
    pub power_losses: u64,
    pub stops: u64,
}

/// Some lives. An error tells what promise was broken.
pub fn run(fsync: AppendFsync, seed: u64, fault: Option<Fault>, tally: &mut Tally) -> Result<(), String> {
    let mut plans = String::new();
    lives(fsync, seed, fault, tally, &mut plans).map_err(|broken| format!("{broken}{plans}"))
}

fn lives(
    fsync: AppendFsync,
    seed: u64,
    fault: Option<Fault>,
    tally: &mut Tally,
    plans: &mut String,
) -> Result<(), String> {
    let mut rng = Rng::new(seed ^ 0x11fe);
    let home = Home::new();
    let (mut image, mut boot, mut past) = (Image::new(), 0, None::<Past>);
    let lives = 1 + rng.below(LIVES_MAX);
    tally.seeds += 1;
    for life in 0..=lives {
        let plan = LifePlan::new(&mut rng, fsync, life + 1, fault);
        *plans += &format!("\nlife {life}: {plan:?}");
        world::begin_time();
        let mut started = Started::new(&plan, &home, &image, boot, &mut rng)?;
        if let Some(past) = &past {
            past.explains(&started.store, tally)?;
        }
        if life == lives {
            break;
        }
        let (disk, before) = (started.disk.clone(), started.store.clone());
        let end = plan.end;
        past = match (started.begin(), past) {
            (Ok(()), _) => {
                let Started { server, cores, .. } = started;
                let syncer = Syncer::new(server, disk.clone(), plan.gives_up_one_in, rng.next_u64());
                let lived = world::live(plan.plan.clone(), rng.next_u64(), fault, cores, syncer)?;
                Some(Past { plan, before, lived: Some(lived) })
            }
            (Err(NotBegun), None) => Some(Past { plan, before, lived: None }),
            // Nobody was served: it is still the end of the life before.
            (Err(NotBegun), Some(past)) => {
                let end = if end == End::Power { end } else { past.plan.end };
                Some(Past { plan: LifePlan { end, ..past.plan }, ..past })
            }
        };
        (image, boot) = match end {
            End::Process => (disk.left_by_process(), boot),
            End::Power => (disk.left_by_power_loss(), boot + 1),
        };
    }
    Ok(())
}

/// A server that has loaded what there was.
struct Started {
    server: Arc<Server>,
    cores: Vec<Core>,
    store: Store,
    disk: SimDisk,
    run: Option<(Manifest, u64, Run)>,
}

/// The disk failed, or all ended, before anybody was served.
struct NotBegun;

impl Started {
    fn new(plan: &LifePlan, home: &Home, image: &Image, boot: u64, rng: &mut Rng) -> Result<Started, String> {
        home.write(image);
        let place = Place {
            server_directory: home.0.clone(),
            directory: DIRECTORY.to_owned(),
            append_file: APPEND_FILE.to_owned(),
            truncates: true,
            boot: format!("boot{boot}"),
        };
        let found = open(&place).map_err(|reason| format!("does not start: {reason}"))?;
        // What recovery leaves is on disk.
        let disk = SimDisk::new(home.read(), plan.dangers, rng.next_u64());
        let config = Arc::new(Config {
            databases: DATABASES as u32,
            appendonly: true,
            pipeline_order: if plan.plan.strict { PipelineOrder::Strict } else { PipelineOrder::Causal },
            appendfsync: plan.fsync,
            aof_use_rdb_preamble: plan.preamble,
            aof_timestamp_enabled: plan.timestamps,
            ..Config::default()
        });
        let mut server = Server::new("0".repeat(40), 0, plan.plan.shards, config.clone());
        Arc::get_mut(&mut server.persistence).expect("nobody else has it yet").spawn = syncer::spawn;
        let server = Arc::new(server);
        let mut cores = shard::cores_of(&server, &config, rng);
        let (mut manifest, mut generation, mut start, mut merged) = (Manifest::default(), 0, 1, None);
        if let Some(found) = found.map(Arc::new) {
            (manifest, generation, start) = (found.manifest.clone(), found.generation, found.start + 1);
            load(&server, &mut cores, found.clone())?;
            merged = Some(store_of_stream(&found, &config, rng)?);
        }
        let run = Some((manifest, generation, Run { start, boot: place.boot, prefixes: prefix_sum(&[]) }));
        let store = store_of(&mut cores)?;
        if let Some(merged) = merged.filter(|merged| *merged != store) {
            let shown = |store: &Store| String::from_utf8_lossy(&store.whole()).into_owned();
            return Err(format!("the merged stream makes {}\nof {}", shown(&merged), shown(&store)));
        }
        Ok(Started { server, cores, store, disk, run })
    }

    /// The file is opened, and begun if there is nothing yet.
    fn begin(&mut self) -> Result<(), NotBegun> {
        let (manifest, generation, run) = self.run.take().expect("it begins once");
        let (server, disk) = (&self.server, Arc::new(self.disk.clone()));
        let aof = &server.aof;
        let begin = || {
            aof.open(disk, PathBuf::from(DIRECTORY), APPEND_FILE, manifest, generation, run)?;
            if aof.is_empty() {
                aof.create_base(&[], "aof")?;
            }
            aof.begin()
        };
        match catch_unwind(AssertUnwindSafe(begin)) {
            Ok(Ok(())) => {
                aof.set_on(true);
                Ok(())
            }
            Ok(Err(_)) => Err(NotBegun),
            Err(panic) if panic.is::<Ended>() => Err(NotBegun),
            Err(panic) => resume_unwind(panic),
        }
    }
}

impl Past {
    /// Whether what is left may be left of this.
    fn explains(&self, left: &Store, tally: &mut Tally) -> Result<(), String> {
        let Past { plan, before, lived } = self;
        // Who cannot write has nothing to stop well with.
        let stopped_well =
            lived.as_ref().is_some_and(|lived| lived.stopped_well) && plan.dangers.trouble == Trouble::None;
        let mut operations = lived.as_ref().map_or_else(Vec::new, |lived| lived.operations.clone());
        if plan.dangers.trouble != Trouble::None && plan.fsync != AppendFsync::Always {
            // While the disk takes nothing, what is not written yet can be read.
            operations.retain(|Operation { call, answer, .. }| {
                answer.as_ref().is_none_or(|(_, reply)| !changes_nothing(call, reply))
            });
        }
        let states_max = plan.plan.states_max;
        let is_power_loss = plan.end == End::Power && !stopped_well;
        let count = match (stopped_well, is_power_loss) {
            (true, _) => &mut tally.stops,
            (false, false) => &mut tally.process_ends,
            (false, true) => &mut tally.power_losses,
        };
        *count += 1;
        let outcome = match (plan.fsync, is_power_loss) {
            (AppendFsync::No, true) => nothing_is_half_done(&operations, left),
            (AppendFsync::EverySecond, true) => {
                let after = lived.as_ref().map_or(0, latest_that_lasts);
                moment_explains(before, &operations, left, after, states_max)
            }
            _ => explains_all(before, &operations, left, plan.dangers.trouble != Trouble::None, states_max),
        };
        let shown = |store: &Store| String::from_utf8_lossy(&store.whole()).into_owned();
        outcome.map_err(|broken| format!("{broken}\nbefore: {}\nleft:   {}", shown(before), shown(left)))
    }
}

/// All that was acknowledged is there. What was not may be `unordered`: a disk that fails keeps some of it.
fn explains_all(
    before: &Store,
    operations: &[Operation],
    left: &Store,
    unordered: bool,
    states_max: usize,
) -> Result<(), String> {
    let mut operations = operations.to_vec();
    if unordered {
        let untold = operations.iter_mut().filter(|operation| operation.answer.is_none());
        untold.zip(1..).for_each(|(operation, number)| operation.connection = usize::MAX - number);
    }
    operations.push(Operation {
        connection: usize::MAX,
        call: Call::Whole,
        plain: None,
        sent: u64::MAX - 2,
        earliest: u64::MAX - 2,
        waits: None,
        answer: Some((u64::MAX - 1, left.whole())),
    });
    history::serializable_from(before, &operations, states_max)
}

/// What is there is what there was at one moment behind that step.
fn moment_explains(
    before: &Store,
    operations: &[Operation],
    left: &Store,
    after: u64,
    states_max: usize,
) -> Result<(), String> {
    let end = |operation: &Operation| operation.answer.as_ref().map(|(end, _)| *end);
    let mut moments: Vec<u64> =
        operations.iter().flat_map(|operation| [Some(operation.sent), end(operation)]).flatten().collect();
    moments.extend([after + 1, u64::MAX - 3]);
    moments.retain(|&moment| moment > after);
    moments.sort_unstable();
    moments.dedup();
    let mut outcome = Ok(());
    for moment in moments.into_iter().rev() {
        let until = |operation: &Operation| {
            let answer = operation.answer.clone().filter(|(end, _)| *end < moment);
            (operation.sent <= moment).then(|| Operation { answer, ..operation.clone() })
        };
        let operations: Vec<Operation> = operations.iter().filter_map(until).collect();
        match explains_all(before, &operations, left, false, states_max) {
            Ok(()) => return Ok(()),
            Err(broken) => {
                if outcome.is_ok() || broken.starts_with(history::TANGLED) {
                    outcome = Err(broken);
                }
            }
        }
    }
    outcome
}

/// Each log has lost what it liked, yet no transaction is on one shard and not on another: where MSET has written one of
/// its keys, the other does not hold what was older for sure.
fn nothing_is_half_done(operations: &[Operation], left: &Store) -> Result<(), String> {
    let called = |operation: &Operation| match &operation.call {
        Call::Command(words) => vec![words.clone()],
        Call::Exec(commands) => commands.clone(),
        Call::Forget | Call::Whole | Call::Expire(..) => Vec::new(),
    };
    let all: Vec<(&Operation, Vec<Vec<u8>>)> = operations
        .iter()
        .flat_map(|operation| called(operation).into_iter().map(move |words| (operation, words)))
        .collect();
    // What is moved there may be older.
    let is_moved = |key: &Vec<u8>| {
        let moves = |words: &[Vec<u8>]| {
            words[0] == b"SWAPDB" || matches!(&words[0][..], b"RENAME" | b"COPY") && words[2] == *key
        };
        all.iter().any(|(_, words)| moves(words))
    };
    for (mset, words) in all.iter().filter(|(_, words)| words[0] == b"MSET" && words[1] != words[3]) {
        for (here, there) in [(&words[1], &words[3]), (&words[3], &words[1])] {
            let older = left.texts_of(there).into_iter().any(|text| {
                let wrote =
                    |words: &[Vec<u8>]| words[1..].iter().any(|word| word.strip_prefix(b",").unwrap_or(word) == text);
                all.iter().any(|(operation, words)| {
                    wrote(words) && operation.answer.as_ref().is_some_and(|(end, _)| *end < mset.sent)
                })
            });
            if left.texts_of(here).contains(&words[2])
                && older
                && !left.texts_of(there).contains(&words[2])
                && !is_moved(there)
            {
                let shown = words.iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" ");
                return Err(format!("half of {shown}: {}", history::describe(operations, u64::MAX)));
            }
        }
    }
    Ok(())
}

/// The step before which all that was acknowledged must last: two seconds before a write was acknowledged at last.
fn latest_that_lasts(lived: &Lived) -> u64 {
    let answered = || lived.operations.iter().filter_map(|operation| Some((operation, operation.answer.as_ref()?)));
    let writes = answered().filter(|(operation, (_, reply))| !changes_nothing(&operation.call, reply));
    let Some(last_ns) = writes.map(|(_, (end, _))| lived.world.times_of(*end).0).max() else { return 0 };
    let lasts = |end: &u64| lived.world.times_of(*end).1.saturating_add(LOSS_MAX_NS) < last_ns;
    answered().map(|(_, (end, _))| *end).filter(lasts).max().unwrap_or(0)
}

/// All shards load what is theirs.
fn load(server: &Server, cores: &mut [Core], found: Arc<Found>) -> Result<(), String> {
    let deal = Deal::new(server.shards);
    let what = LoadOf::Log { has_dump: found.has_dump() };
    server.persistence.start_load(found.bytes(), what, Now::default());
    cores.iter_mut().for_each(|core| core.begin_load_log(found.clone(), &deal));
    while server.persistence.loading.is_under_way() {
        cores.iter_mut().for_each(|core| core.run_background(|| false));
    }
    let never = AtomicBool::new(false);
    server.persistence.wait_for_load(&never).map_err(|reason| format!("does not load: {reason}"))
}

/// What a replica has that got the base, and then the logs as one stream.
fn store_of_stream(found: &Found, config: &Arc<Config>, rng: &mut Rng) -> Result<Store, String> {
    let server = Arc::new(Server::new("0".repeat(40), 0, 1, config.clone()));
    let mut cores = shard::cores_of(&server, config, rng);
    let (base, segments): (Vec<Source>, Vec<Source>) =
        found.sources.iter().filter(|source| source.bytes > 0).cloned().partition(|source| source.is_base);
    load(&server, &mut cores, Arc::new(Found { sources: base, ..found.clone() }))?;
    let segments = segments.iter().map(|source| {
        let mut bytes = fs::read(&source.path).expect("it is there");
        bytes.truncate(source.bytes as usize);
        bytes
    });
    let ctx = &mut cores[0].shard.ctx;
    for entry in merge(&segments.collect::<Vec<_>>(), ctx)? {
        let commands = match entry {
            Entry::Command(command) => vec![command],
            Entry::Transaction(commands) => commands,
        };
        for Command { db, words } in commands {
            ctx.db = db;
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            run_here(ctx, &words);
        }
    }
    store_of(&mut cores)
}

/// What all shards have.
fn store_of(cores: &mut [Core]) -> Result<Store, String> {
    let mut databases: [Database; DATABASES] = Default::default();
    let slots = SlotMap::contiguous(cores.len());
    for core in cores {
        let id = core.id;
        let ctx = &mut core.shard.ctx;
        for (db, database) in databases.iter_mut().enumerate() {
            ctx.db = db;
            let keys: Vec<Vec<u8>> = ctx.keyspace.db(db).iter().map(|entry| entry.key().to_vec()).collect();
            for key in keys {
                if slots.shard_of(&key) != id {
                    return Err(format!("{} is on shard {id}", String::from_utf8_lossy(&key)));
                }
                let value = match key[0] {
                    b't' => Value::Text(ask(ctx, &[b"GET", &key]).remove(0)),
                    b'l' => Value::List(ask(ctx, &[b"LRANGE", &key, b"0", b"-1"]).into()),
                    _ => Value::Set(ask(ctx, &[b"SMEMBERS", &key]).into_iter().collect()),
                };
                database.insert(key, value);
            }
        }
    }
    Ok(Store::new(databases))
}

/// The strings of a reply.
fn ask(ctx: &mut ShardCtx, words: &[&[u8]]) -> Vec<Vec<u8>> {
    let output = run_here(ctx, words);
    let text = |bulk: &[u8]| {
        let line = bulk.iter().position(|&byte| byte == b'\n').expect("a bulk string has a length") + 1;
        bulk[line..bulk.len() - 2].to_vec()
    };
    match output.first() {
        Some(b'*') => skip::elements(&output).expect("it is whole").map(text).collect(),
        _ => vec![text(&output)],
    }
}

/// The reply of a command on keys.
fn run_here(ctx: &mut ShardCtx, words: &[&[u8]]) -> Vec<u8> {
    let ctx::Found::Key(row, ..) = ctx.find_command(words) else { unreachable!("commands on keys") };
    let mut output = Vec::new();
    let outcome = (row.run)(ctx, &Args::new(words), &mut Reply::new(&mut output, Protocol::Resp2));
    outcome.expect("the key holds what its name tells");
    ctx.forget_hash();
    output
}

const DIRECTORY: &str = "aof";

/// A directory of the test's own, in memory where there is one.
struct Home(PathBuf);

impl Home {
    fn new() -> Home {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let memory = PathBuf::from("/dev/shm");
        let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let path = parent.join(format!("peristyle-sim-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed)));
        fs::create_dir_all(path.join(DIRECTORY)).expect("a new directory");
        Home(path)
    }

    fn directory(&self) -> PathBuf {
        self.0.join(DIRECTORY)
    }

    fn write(&self, image: &Image) {
        fs::remove_dir_all(self.directory()).expect("it is there");
        fs::create_dir(self.directory()).expect("it is gone");
        for (name, bytes) in image {
            fs::write(self.directory().join(name), bytes).expect("there is room");
        }
    }

    fn read(&self) -> Image {
        let files = fs::read_dir(self.directory()).expect("it is there").map(|file| file.expect("it is read").path());
        let name = |path: &Path| path.file_name().expect("a file").to_string_lossy().into_owned();
        files.map(|path| (name(&path), fs::read(&path).expect("it is there"))).collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
