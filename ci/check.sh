#!/usr/bin/env bash
# What must hold before a change lands, and what a developer runs: tests, format, lints, conformance, a smoke of the
# fuzzer and of the benchmark. ci/check.sh [STEP ...]; without a step, all of them.
set -euo pipefail
cd "$(dirname "$0")/.."
suite=${SUITE_DIR:-/tmp/peristyle-suite}
binary=$PWD/target/release/peristyle
units=(unit/type/string unit/type/incr unit/quit unit/protocol unit/info-command unit/sort unit/dump unit/keyspace unit/scan unit/expire)

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
step_fuzz() { ci/fuzz.sh; }
step_types() { python3 ci/fuzz_types.py --server-bin "$binary" --commands 200000; }
step_bench() { ci/bench.sh smoke; }

steps=("$@")
[ ${#steps[@]} -gt 0 ] || steps=(tools test format lint build conformance fuzz types bench)
for step in "${steps[@]}"; do
  printf '\n== %s\n' "$step"
  started=$SECONDS
  "step_$step"
  printf '== %s: %d s\n' "$step" $((SECONDS - started))
done
