#!/usr/bin/env bash
# The measured table of the README; `ci/bench.sh smoke` only shows that it still can be measured.
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1:-full}" in
  # Not the transactions: redis-server takes minutes over that section even then.
  smoke) exec benches/compare --smoke --only cpu shards clients hash-tag latency memory expiry idle redis-benchmark \
    collections collections-memory ;;
  full) exec benches/compare ;;
  *) echo "usage: ci/bench.sh [smoke|full]" >&2; exit 2 ;;
esac
