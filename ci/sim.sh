#!/usr/bin/env bash
# Runs many seeds of the simulation, of every shape, optimised and on all cores. ci/sim.sh [SEEDS [TEST]]; the result stands
# in the README. `ci/sim.sh 20000 lasts` runs those of the append-only file alone.
set -euo pipefail
cd "$(dirname "$0")/.."
seeds=${1:-1000}
started=$SECONDS
PERISTYLE_SEEDS=$seeds cargo test --release --test sim -- --skip is_found --nocapture ${2:+"$2"}
printf '%d seeds of each shape are clean: %d s\n' "$seeds" $((SECONDS - started))
