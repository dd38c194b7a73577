#!/usr/bin/env bash
# Two servers on one PostgreSQL database and a runner that is connected to both, with the real binaries: everything through either, one
# killed, both replaced one after the other while calls go on, the runner killed. Needs root. Ends with `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/../.."
. test/lib/server.sh
. test/lib/postgres.sh
declare -A PIDS=()
trap 'finish_all $?' EXIT
[ "$(id -u)" = 0 ] || { echo "servers.sh needs root"; exit 1; }

passed=0 failed=0
check() { # NAME WANT GOT
  if [ "$2" = "$3" ]; then passed=$((passed + 1)); echo "ok      $1"
  else failed=$((failed + 1)); echo "FAILED  $1"; diff <(echo "$2") <(echo "$3") | head -n 20 | sed 's/^/        /'; fi
}
end() { # NAME [SIGNAL]
  [ -n "${PIDS[$1]:-}" ] || return 0
  kill "-${2:-TERM}" "${PIDS[$1]}" 2>/dev/null; wait "${PIDS[$1]}" 2>/dev/null; unset "PIDS[$1]"
}
finish_all() {
  for id in $(a ls -o json 2>/dev/null | jq -r '.[].sandboxId // empty' 2>/dev/null); do a stop "$id" --grace 0 >/dev/null 2>&1; done
  for name in runner a b; do end $name; done
  stop_postgres
  if [ "$1" -ne 0 ]; then for log in "$WORK"/*.log; do echo "--- last lines of $log"; tail -n 15 "$log"; done; fi
  rm -rf "$WORK"
  exit "$1"
}
PORT_A=$(free_port) PORT_B=$(free_port)
a() { BERM_URL=http://127.0.0.1:$PORT_A "$BERM" "$@"; }
b() { BERM_URL=http://127.0.0.1:$PORT_B "$BERM" "$@"; }
start() { # a or b: a server, which is ready
  local port=$PORT_A i
  [ "$1" = a ] || port=$PORT_B
  "$BERM" serve --no-runner --db "$DATABASE" --data "$WORK/$1" --listen "127.0.0.1:$port" --advertise "127.0.0.1:$port" >>"$WORK/$1.log" 2>&1 &
  PIDS[$1]=$!
  until_true 60 curl -fs "http://127.0.0.1:$port/readyz" || { echo "server $1 is not ready"; exit 1; }
}
start_runner() { # further arguments of `berm runner`
  "$BERM" runner --gateway "http://127.0.0.1:$PORT_A" --data "$WORK/edge" "$@" >>"$WORK/runner.log" 2>&1 & PIDS[runner]=$!
}
until_true() { # SECONDS COMMAND...
  local until=$((SECONDS + $1))
  shift
  while ! "$@" >/dev/null 2>&1; do [ $SECONDS -lt $until ] || return 1; sleep 0.1; done
}
connected() { [ "$("$1" runner get edge -o json | jq -r .connectionStatus)" = RUNNER_CONNECTION_STATUS_CONNECTED ]; }
reaches() { # the servers that the runner is to be connected to
  for s in "$@"; do until_true 60 connected "$s" || { echo "the runner is not connected to $s"; $s runner get edge; exit 1; }; done
}
state() { "$1" get "$2" -o json | jq -r '.sandboxStatus' | sed 's/SANDBOX_STATUS_//'; }

start_postgres || exit 1
start a
start b
BERM_TOKEN=$(cat "$WORK/a/admin.token"); export BERM_TOKEN
printf 'display_name: default\nspec:\n  container_image: host\n  network: {egress: {default: none, modes: {none: {type: none}}}}\n' >"$WORK/profile.yaml"
a profile create -f "$WORK/profile.yaml" >/dev/null && a runner create edge --zone local --cluster edge --profile default >/dev/null || exit 1
start_runner --token "$(b runner join edge -o json | jq -r .token)"
reaches a b

one=$(a run -d -- sh -c 'echo one; sleep infinity') two=$(b run -d -- sh -c 'echo two; sleep infinity')
check "exec through the other server" "out 3" "$(b exec "$one" -- sh -c 'echo out; exit 3' | tr '\n' ' '; echo "${PIPESTATUS[0]}")"
check "and the other way" "out 4" "$(a exec "$two" -- sh -c 'echo out; exit 4' | tr '\n' ' '; echo "${PIPESTATUS[0]}")"
check "logs" "one two" "$(b logs "$one") $(a logs "$two")"
head -c 1000000 /dev/urandom >"$WORK/file"
a cp -q "$WORK/file" "$one:/tmp/file"; b cp -q "$one:/tmp/file" "$WORK/back"
check "a file in through one, out through the other" "$(sha256sum <"$WORK/file")" "$(sha256sum <"$WORK/back")"
three=$(a run -d -- sleep infinity)
b stop "$three" --grace 0 >/dev/null
ended() { [ "$(state "$1" "$2")" = COMPLETED ]; }
until_true 30 ended a "$three"; until_true 30 ended b "$three"
check "stopped through the other server" "COMPLETED COMPLETED" "$(state b "$three") $(state a "$three")"

# Many at once through both: each ends once, with its code, and both servers say the same.
for ((i = 0; i < 24; i++)); do
  server=a; [ $((i % 2)) = 0 ] || server=b
  ($server run -- sh -c "exit $((i + 1))" >/dev/null 2>&1; echo "$i $?" >"$WORK/code.$i") & codes[i]=$!
done
wait "${codes[@]}"
check "24 at once: every code" "$(for ((i = 0; i < 24; i++)); do echo "$i $((i + 1))"; done)" "$(for ((i = 0; i < 24; i++)); do cat "$WORK/code.$i"; done)"
told() { $1 ls --all -o json | jq -r '.[] | "\(.sandboxId) \(.sandboxStatus)"' | sort; }
check "both servers tell the same" "$(told a)" "$(told b)"
ends() { for id in $(a ls --all -o json | jq -r '.[] | select(.sandboxStatus | test("COMPLETED|FAILED")) | .sandboxId'); do a explain "$id" -o json | jq '[.timeline[] | select(.name == "ended")] | length'; done | sort | uniq -c | tr -s ' '; }
check "each ended once" " 25 1" "$(ends)"

# A server is killed: the other goes on, with what either has launched.
end a KILL
check "a server is killed: exec" "still still" "$(b exec "$one" -- echo still) $(b exec "$two" -- echo still)"
check "and launches" "new" "$(b run -- echo new 2>/dev/null)"
check "it knows what the other launched" RUNNING "$(state b "$one")"
start a
reaches a
check "it comes back" "still" "$(a exec "$two" -- echo still)"

# The runner is killed and comes back to both.
end runner KILL
for s in a b; do until_true 60 eval "! connected $s"; done
check "a dead runner: both keep the last status" "RUNNING RUNNING" "$(state a "$one") $(state b "$one")"
start_runner
reaches a b
check "it is back at both" "still still" "$(a exec "$one" -- echo still) $(b exec "$one" -- echo still)"

# Both servers are replaced, one after the other, while calls go to the one that is there.
calls() { # SERVER FILE: until FILE is removed, three at least
  local n=0 bad=0
  while [ -e "$2" ] || [ $n -lt 3 ]; do
    n=$((n + 1))
    [ "$($1 run -- echo hello 2>>"$WORK/calls.log")" = hello ] || bad=$((bad + 1))
  done
  echo "$n $bad" >"$2.done"
}
for pair in "a b" "b a"; do
  read -r goes stays <<<"$pair"
  touch "$WORK/go"; calls "$stays" "$WORK/go" & traffic=$!
  end "$goes"; start "$goes"
  reaches "$goes"
  rm "$WORK/go"; wait $traffic
  read -r n bad <"$WORK/go.done"
  check "$goes is replaced during $n launches through $stays: failures" 0 "$bad"
done
check "what ran went on" "still still" "$(a exec "$one" -- echo still) $(b exec "$two" -- echo still)"
b stop "$one" "$two" --grace 0 >/dev/null
for s in a b; do for id in "$one" "$two"; do until_true 30 ended $s "$id"; done; done
check "nothing is left" "0 0" "$(a ls -o json | jq length) $(b ls -o json | jq length)"

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
