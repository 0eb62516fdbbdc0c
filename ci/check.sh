#!/usr/bin/env bash
# What must hold before a change lands, and what a developer runs: tests, format, lints, the public suite, files of other servers, what COMMAND
# says, stock clients and tools, random commands against valkey-server, kills, a smoke of the fuzzer and of the benchmark. ci/check.sh [STEP ...]; without a step,
# all but `full`.
set -euo pipefail
cd "$(dirname "$0")/.."
suite=${SUITE_DIR:-/tmp/peristyle-suite}
binary=$PWD/target/release/peristyle
units=(
  unit/type/string unit/type/incr unit/quit unit/protocol unit/info-command
  unit/type/hash unit/type/list unit/type/list-2 unit/type/list-3 unit/type/set unit/type/zset unit/type/stream
  unit/type/stream-cgroups unit/bitops unit/bitfield unit/hyperloglog unit/geo unit/sort
  unit/keyspace unit/scan unit/expire unit/dump unit/other
  unit/slowlog unit/latency-monitor unit/introspection unit/introspection-2 unit/tracking
  unit/pubsub unit/pubsubshard unit/lazyfree
  unit/multi unit/scripting unit/functions unit/pause
  unit/querybuf unit/replybufsize unit/violations
)
# In full mode the suite starts, restarts and kills the server itself.
full=(
  integration/rdb integration/aof integration/aof-multi-part integration/corrupt-dump integration/corrupt-dump-fuzzer
  integration/convert-ziplist-hash-on-load integration/convert-ziplist-zset-on-load integration/convert-zipmap-hash-on-load
  integration/logging integration/dismiss-mem unit/aofrw unit/shutdown unit/info unit/networking unit/auth unit/oom-score-adj
  unit/limits unit/memefficiency unit/client-eviction unit/multi unit/other unit/type/stream-cgroups
)
full_long=(
  integration/shutdown integration/skip-rdb-checksum integration/valkey-cli integration/valkey-benchmark unit/maxmemory
  unit/obuf-limits unit/querybuf unit/pubsubshard unit/dump unit/expire unit/scan unit/functions unit/scripting unit/keyspace
  unit/pause unit/introspection unit/introspection-2 unit/slowlog unit/latency-monitor unit/tracking unit/pubsub unit/lazyfree
  unit/protocol unit/quit unit/info-command unit/violations unit/replybufsize unit/bitops unit/bitfield unit/hyperloglog
  unit/geo unit/sort unit/type/string unit/type/incr unit/type/hash unit/type/list unit/type/list-2 unit/type/list-3
  unit/type/set unit/type/zset unit/type/stream
)

step_tools() { ci/conformance/get_suite.sh "$suite"; }
step_test() { cargo test --workspace; }
step_format() { cargo fmt --all --check; }
step_lint() { cargo clippy --workspace --all-targets -- -D warnings; }
step_build() { cargo build --release --workspace; }
step_conformance() {
  for shards in 1 4; do
    python3 ci/conformance/check.py --server-bin "$binary" --suite-dir "$suite" --shards "$shards" "${units[@]}"
  done
}
step_files() {
  python3 ci/rdb_both_ways.py --server-bin "$binary" --keys 150
  python3 ci/aof_effects.py --server-bin "$binary" --rounds 4
  FILE_TIMEOUT=300 python3 ci/conformance/check.py --server-bin "$binary" --suite-dir "$suite" --shards 1 --mode full "${full[@]}"
}
# The rest of the units whose servers the suite starts itself: ten minutes.
step_full() {
  FILE_TIMEOUT=400 python3 ci/conformance/check.py --server-bin "$binary" --suite-dir "$suite" --shards 1 --mode full "${full_long[@]}"
}
step_commands() {
  "$binary" --port 7390 --save '' > /dev/null 2>&1 &
  local server=$! differs=0
  timeout 10 bash -c 'until redis-cli -p 7390 ping > /dev/null 2>&1; do sleep 0.1; done'
  python3 ci/compare_commands.py 127.0.0.1:7390 || differs=1
  kill "$server"
  wait "$server"
  return "$differs"
}
step_clients() {
  ci/clients/run.sh "$binary"
  ci/stock_tools.sh "$binary"
}
step_fuzz() { ci/fuzz.sh; }
step_types() { python3 ci/fuzz_types.py --server-bin "$binary" --commands 60000; }
step_events() { python3 ci/compare_events.py --server-bin "$binary" --commands 10000; }
step_atomicity() {
  python3 ci/money.py --server-bin "$binary" --shards 4
  python3 ci/jobs.py --server-bin "$binary" --shards 4
}
step_crash() { python3 ci/crash.py --server-bin "$binary" --rounds 20; }
step_bench() { ci/bench.sh smoke; }

steps=("$@")
[ ${#steps[@]} -gt 0 ] || steps=(tools test format lint build conformance files commands clients types events fuzz atomicity crash bench)
for step in "${steps[@]}"; do
  printf '\n== %s\n' "$step"
  started=$SECONDS
  "step_$step"
  printf '== %s: %d s\n' "$step" $((SECONDS - started))
done
