#!/usr/bin/env bash
# Stock clients against the server of four shards: redis-cli, redis-py, ioredis, node-redis; and libraries that live on it:
# BullMQ and Bull, Celery, Django's cache, RQ, Socket.IO's adapters. Needs python3 with venv, node with npm, and network or
# caches for their packages, and valkey-server (VALKEY_SERVER names another binary): what clients make of its replies is
# compared with, and a library's round trip that fails is tried on it, too. ci/clients/run.sh [BINARY [PORT]] takes PORT and
# the next one.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
binary=$(realpath "${1:-$here/../../target/release/peristyle}")
port=${2:-7391}
cache=${CLIENTS_DIR:-${TMPDIR:-/tmp}/peristyle-clients}

mkdir -p "$cache"
[ -x "$cache/venv/bin/python" ] || python3 -m venv "$cache/venv"
python_packages=('redis>=5,<8' 'celery[redis]>=5.4,<6' 'django>=5,<6' 'rq>=2.6,<4')
node_packages=(ioredis@5 redis@5 bullmq@5 bull@4 socket.io@4 socket.io-client@4 @socket.io/redis-adapter@8)
if [ "$(cat "$cache/installed" 2> /dev/null)" != "${python_packages[*]} ${node_packages[*]}" ]; then
  "$cache/venv/bin/pip" install --quiet "${python_packages[@]}"
  (cd "$cache" && npm install --silent --no-save --prefix . "${node_packages[@]}" > /dev/null)
  echo "${python_packages[*]} ${node_packages[*]}" > "$cache/installed"
fi

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
export NODE_PATH=$cache/node_modules PYTHONDONTWRITEBYTECODE=1
"$cache/venv/bin/python" "$here/round_trip.py" "$port"
node "$here/round_trip.mjs" "$port"
"$cache/venv/bin/python" "$here/commands.py" "$port" "$oracle_port"
node "$here/commands.mjs" "$port" "$oracle_port"

round_trip() {
  timeout 120 "$@" "$port" && return
  echo "The same on valkey-server:"
  timeout 120 "$@" "$oracle_port" && echo "it works there"
  exit 1
}
round_trip "$cache/venv/bin/python" "$here/python_libraries.py"
round_trip "$cache/venv/bin/python" "$here/celery_round_trip.py"
round_trip node "$here/bullmq.mjs"
round_trip node "$here/socket_io.mjs"
