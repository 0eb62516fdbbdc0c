#!/usr/bin/env bash
# Stock clients against the server: redis-cli, redis-py, ioredis, node-redis. Needs python3 with venv, node with npm, and
# network or caches for their packages, and valkey-server (VALKEY_SERVER names another binary): what clients make of its
# replies is compared with. ci/clients/run.sh [BINARY [PORT]] takes PORT and the next one.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
binary=$(realpath "${1:-$here/../../target/release/peristyle}")
port=${2:-7391}
cache=${CLIENTS_DIR:-${TMPDIR:-/tmp}/peristyle-clients}

mkdir -p "$cache"
[ -x "$cache/venv/bin/python" ] || python3 -m venv "$cache/venv"
"$cache/venv/bin/pip" install --quiet 'redis>=5,<8'
(cd "$cache" && npm install --silent --no-save --prefix . ioredis@5 redis@5 > /dev/null)

log=$(mktemp)
"$binary" --port "$port" --shards 4 --save '' > "$log" 2>&1 &
server=$!
oracle_port=$((port + 1))
"${VALKEY_SERVER:-valkey-server}" --port "$oracle_port" --save '' --loglevel warning > /dev/null &
oracle=$!
trap 'kill "$server" "$oracle" 2> /dev/null || true; wait 2> /dev/null || true; rm -f "$log"' EXIT
for _ in $(seq 100); do
  grep -q 'Ready to accept connections' "$log" && break
  kill -0 "$server" 2> /dev/null || { cat "$log"; exit 1; }
  sleep 0.1
done

until redis-cli -p "$oracle_port" PING > /dev/null 2>&1; do
  kill -0 "$oracle"
  sleep 0.1
done

for protocol in -2 -3; do
  [ "$(printf 'SET key value\nGET key\n' | redis-cli "$protocol" -p "$port" | tail -1)" = value ]
done
echo "redis-cli works"
"$cache/venv/bin/python" "$here/round_trip.py" "$port"
NODE_PATH=$cache/node_modules node "$here/round_trip.mjs" "$port"
"$cache/venv/bin/python" "$here/commands.py" "$port" "$oracle_port"
NODE_PATH=$cache/node_modules node "$here/commands.mjs" "$port" "$oracle_port"
