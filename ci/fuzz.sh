#!/usr/bin/env bash
# Feeds random bytes to everything that reads bytes from outside: ci/fuzz.sh [SECONDS [TARGET ...]]
#
# SECONDS is the time of each target (10: a smoke run). New inputs gather in fuzz/corpus; what fails goes to
# fuzz/artifacts, and the failed target's binary with that file as its argument runs it once more.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-10}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(resp config dump rdb aof lzf glob intset listpack hll)

# What `cargo fuzz` would say, without its need of a nightly compiler: coverage counters for the engine. They are for
# the code under test, and --target keeps them out of build scripts.
host=$(rustc -vV | sed -n 's/^host: //p')
coverage="-Cpasses=sancov-module"
for option in level=4 inline-8bit-counters pc-table trace-compares; do
  coverage+=" -Cllvm-args=-sanitizer-coverage-$option"
done
RUSTFLAGS="--cfg fuzzing $coverage" \
  cargo build --manifest-path fuzz/Cargo.toml --release --target "$host" "${targets[@]/#/--bin=}"

for target in "${targets[@]}"; do
  corpus=fuzz/corpus/$target artifacts=fuzz/artifacts/$target/
  mkdir -p "$corpus" "$artifacts"
  # An argument long enough for an allocation of its own; too long to be committed.
  [ "$target" != resp ] || printf 'ab*1\r\n$32768\r\n%32768s\r\n*1\r\n$4\r\nPING\r\n' "" >"$corpus/large_argument"
  printf '\n== %s\n' "$target"
  "fuzz/target/$host/release/$target" "$corpus" "fuzz/seeds/$target" -artifact_prefix="$artifacts" \
    -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -print_final_stats=1 -verbosity=0
done
