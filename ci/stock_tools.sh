#!/usr/bin/env bash
# redis-cli in all its modes and redis-benchmark with its tests on strings, unmodified, against the server on one shard
# and on four: ci/stock_tools.sh [BINARY [PORT]]. Every step is bounded in time; the first that fails ends it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
binary=$(realpath "${1:-$here/../target/release/peristyle}")
port=${2:-7392}
work=$(mktemp -d)
server=

end() {
  [ -z "$server" ] || { kill "$server" 2> /dev/null || true; wait "$server" 2> /dev/null || true; }
  rm -rf "$work"
}
trap end EXIT

start() {
  "$binary" --port "$port" --shards "$1" --save '' > "$work/log" 2>&1 &
  server=$!
  for _ in $(seq 100); do
    grep -q 'Ready to accept connections' "$work/log" && return
    kill -0 "$server" 2> /dev/null || break
    sleep 0.1
  done
  cat "$work/log"
  return 1
}

stop() {
  kill "$server"
  wait "$server"
  server=
}

cli() { timeout 60 redis-cli -p "$port" "$@"; }

# Modes of redis-cli that go on until they are interrupted.
cli_for() {
  local seconds=$1 status=0
  shift
  timeout --signal INT "$seconds" stdbuf -oL redis-cli -p "$port" "$@" > "$work/out" 2>&1 || status=$?
  # 124: the time was over. Some modes end in order when they are interrupted.
  [ "$status" = 124 ] || [ "$status" = 0 ] || { cat "$work/out"; return 1; }
}

fail() {
  echo "$1"
  [ ! -f "$work/out" ] || head -c 2000 "$work/out"
  exit 1
}

expect() {
  local what=$1 wanted=$2 got
  shift 2
  got=$("$@") || fail "$what failed"
  [ "$got" = "$wanted" ] || fail "$what: '$got' instead of '$wanted'"
}

# $2 must stand in the output of what ran last.
says() { grep -Eq -- "$2" "$work/out" || fail "$1: no '$2' in its output"; }

check_cli() {
  local protocol
  for protocol in -2 -3; do
    expect "redis-cli $protocol ping" PONG cli "$protocol" ping
    expect "redis-cli $protocol get" value bash -c "printf 'SET key value\nGET key\n' | timeout 60 redis-cli $protocol -p $port | tail -1"
  done
  expect "redis-cli -x" OK bash -c "head -c 1000000 /dev/zero | timeout 60 redis-cli -p $port -x set big"
  expect "the value of -x" 1000000 cli strlen big

  # Mass insertion, in the protocol, and a count of what arrived.
  for n in $(seq 20000); do printf '*3\r\n$3\r\nSET\r\n$%d\r\npiped:%d\r\n$5\r\nvalue\r\n' $((6 + ${#n})) "$n"; done > "$work/mass"
  cli --pipe < "$work/mass" > "$work/out" 2>&1 || fail "redis-cli --pipe failed"
  says "redis-cli --pipe" 'errors: 0, replies: 20000'
  expect DBSIZE 20002 cli dbsize

  expect "redis-cli --scan" 20000 bash -c "timeout 60 redis-cli -p $port --scan --pattern 'piped:*' | sort -u | wc -l"
  cli --bigkeys > "$work/out" 2>&1 || fail "redis-cli --bigkeys failed"
  says "redis-cli --bigkeys" 'Biggest string found .*big.* has 1000000 bytes'
  says "redis-cli --bigkeys" '20002 strings with'
  cli --memkeys > "$work/out" 2>&1 || fail "redis-cli --memkeys failed"
  says "redis-cli --memkeys" 'Biggest string found .*big.* has [0-9]+ bytes'
  # The mode asks how keys would be evicted, and for the frequency of each.
  cli config set maxmemory-policy allkeys-lfu > /dev/null
  cli --hotkeys > "$work/out" 2>&1 || fail "redis-cli --hotkeys failed"
  says "redis-cli --hotkeys" 'Sampled 20002 keys'
  cli config set maxmemory-policy noeviction > /dev/null

  cli_for 3 --stat -i 0.2
  says "redis-cli --stat" '^20002 '
  cli_for 2 --latency --raw
  says "redis-cli --latency" '^[0-9]+ [0-9]+ [0-9.]+ [0-9]+'
  cli_for 2 --latency-history -i 1
  cli_for 2 --latency-dist -i 1
  cli_for 3 --lru-test 1000
  says "redis-cli --lru-test" 'Gets/sec.*Hits'
  cli --intrinsic-latency 1 > "$work/out" 2>&1 || fail "redis-cli --intrinsic-latency failed"

  expect "redis-cli -n" OK cli -n 3 set other 1
  expect "redis-cli --csv" '"value",NULL' cli --csv mget key absent
  expect "redis-cli -r" 5 bash -c "timeout 60 redis-cli -p $port -r 5 incr repeated | tail -1"
  expect "redis-cli --json" '{"maxmemory":"0"}' cli --json config get maxmemory
  expect "redis-cli -u" PONG timeout 60 redis-cli -u "redis://127.0.0.1:$port" ping
}

# What redis-cli completes and hints from, when it is used interactively.
check_docs() {
  cli --json command docs > "$work/out" || fail "COMMAND DOCS failed"
  python3 - "$work/out" <<'END'
import json, sys
docs = json.load(open(sys.argv[1]))
for name in ("get", "set", "config", "client", "expire"):
    doc = docs[name]
    assert doc["summary"] and doc["since"] and doc["group"], name
    assert doc.get("arguments") or doc.get("subcommands"), name
assert any(argument.get("token") == "EX" for option in docs["set"]["arguments"]
           for argument in option.get("arguments", [])), "the options of SET"
END
  # On a terminal, HELP and the hints behind what is typed come from the same documents.
  # redis-cli reads them from 7.2 on, as valkey-cli does; older ones have their own.
  local tool
  for tool in redis-cli valkey-cli; do
    ! command -v "$tool" > /dev/null || check_terminal "$tool"
  done
}

check_terminal() {
  timeout 60 python3 - "$1" "$port" > "$work/out" 2>&1 <<'END' || fail "$1 on a terminal failed"
import fcntl, os, pty, select, struct, sys, termios, time
process, terminal = pty.fork()
if process == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
    os.environ |= {"TERM": "xterm", "REDISCLI_HISTFILE": "/dev/null", "VALKEYCLI_HISTFILE": "/dev/null"}
    os.execvp(sys.argv[1], [sys.argv[1], "-p", sys.argv[2]])
seen = b""
def until(text):
    global seen
    deadline = time.monotonic() + 20
    while text not in seen:
        if not select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0]:
            sys.exit(f"no {text!r} in {seen!r}")
        seen += os.read(terminal, 4096)
    seen = seen.split(text, 1)[1]
until(b"> ")
os.write(terminal, b"help set\r")
until(b"summary:")
until(b"> ")
os.write(terminal, b"expire key ")
until(b"seconds [NX|XX|GT|LT]")
os.write(terminal, b"100\r")
until(b"(integer) 1")
# What is typed before the prompt is there is thrown away.
until(b"> ")
os.write(terminal, b"quit\r")
os.waitpid(process, 0)
END
}

check_benchmark() {
  local pipeline
  for pipeline in 1 16; do
    timeout 120 redis-benchmark -p "$port" -q -n 20000 -c 20 -P "$pipeline" -r 1000 -t ping,set,get,incr,mset \
      > "$work/out" 2>&1 || fail "redis-benchmark -P $pipeline failed"
    for test in PING_INLINE PING_MBULK SET GET INCR MSET; do
      says "redis-benchmark -P $pipeline" "$test.*requests per second"
    done
  done
  timeout 60 redis-benchmark -p "$port" -q -n 20000 -c 10 --threads 2 -d 1000 -t set,get > "$work/out" 2>&1 \
    || fail "redis-benchmark --threads failed"
  timeout 60 redis-benchmark -p "$port" -3 --csv -n 5000 -k 0 -c 5 -t get > "$work/out" 2>&1 \
    || fail "redis-benchmark without keep-alive failed"
  timeout 60 redis-benchmark -p "$port" -q -n 5000 -r 1000 setex key:__rand_int__ 100 __data__ > "$work/out" 2>&1 \
    || fail "redis-benchmark with a command of one's own failed"
}

for shards in 1 4; do
  start "$shards"
  check_cli
  check_docs
  check_benchmark
  stop
  echo "stock tools work on $shards shards"
done
