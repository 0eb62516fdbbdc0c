#!/usr/bin/env bash
# Runs many seeds of the simulation, of every shape, optimised and on all cores. ci/sim.sh [SEEDS]; the result stands in the README.
set -euo pipefail
cd "$(dirname "$0")/.."
seeds=${1:-1000}
started=$SECONDS
PERISTYLE_SEEDS=$seeds cargo test --release --test sim -- --skip is_found
printf '%d seeds of each shape are clean: %d s\n' "$seeds" $((SECONDS - started))
