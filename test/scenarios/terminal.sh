#!/usr/bin/env bash
# People at terminals: `berm shell`, `berm run -it`, `berm exec -it`, with the window's size, job control, exit codes, and the terminal as it
# was after every kind of end. Needs root. Ends with `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/../.."
. test/lib/server.sh
trap finish EXIT
[ "$(id -u)" = 0 ] || { echo "terminal.sh needs root"; exit 1; }

passed=0 failed=0
check() { # NAME PATTERN GOT
  if [[ "$3" =~ $2 ]]; then passed=$((passed + 1)); echo "ok      $1"
  else failed=$((failed + 1)); echo "FAILED  $1"; echo "        want $2"; echo "        got  $3"; fi
}
at() { python3 test/scenarios/terminal.py "$@" 2>&1; }
status() { "$BERM" get "$1" -o json | jq -r .sandboxStatus; }
sleeps() { "$BERM" exec "$1" -- sh -c 'cat /proc/[0-9]*/cmdline 2>/dev/null | tr "\0" " " | grep -c "sleep 432[1]"'; }
gone() { local i; for ((i = 0; i < 200; i++)); do [ "$(sleeps "$1")" = 0 ] && break; sleep 0.05; done; sleeps "$1"; }

serve || exit 1
id=$("$BERM" run -d -- sleep infinity)
check "shell: sizes, jobs, interrupts, the exit code" "exit" "$(at session 7 "$BERM" shell "$id")"
check "run -it: the same" "exit" "$(at session 9 "$BERM" run -it -- bash)"
check "exec -it: the same" "exit" "$(at session 11 "$BERM" exec -it "$id" -- bash)"

for signal in 1 2 15; do check "shell: the terminal after signal $signal" "interrupted" "$(at "signal $signal" 130 "$BERM" shell "$id")"; done
ran=$("$BERM" ls -o json | jq length)
check "run -it: the terminal after SIGTERM" "interrupted" "$(at "signal 15" 130 "$BERM" run -it --rm -- bash)"
check "run -it: its sandbox went with it" "^$ran\$" "$("$BERM" ls -o json | jq length)"

check "shell: detached" "detached; the command was ended, sandbox $id goes on" "$(at detach 0 "$BERM" shell "$id")"
check "shell: what ran there has ended" "^0\$" "$(gone "$id")"
left=$(at detach 0 "$BERM" run -it -- bash)
check "run -it: detached, with the id" "^[0-9a-z-]+\$" "$left"
check "run -it: the sandbox goes on" "RUNNING" "$(status "$left")"
check "run -it: what ran there has ended" "^0\$" "$(gone "$left")"
check "exec -it: detached by other keys" "detached" "$(KEYS='~.' at detach 0 "$BERM" exec -it --detach-keys '~,.' "$id" -- bash)"

other=$("$BERM" run -d -- sleep infinity)
check "shell: the terminal after a stop of the sandbox" "." "$(EVENT="$BERM stop --grace 0 $other" at event 137 "$BERM" shell "$other")"
check "shell: the terminal after the death of the server" "under way there may go on" "$(EVENT="kill -9 $SERVER_PID" at event 125 "$BERM" shell "$id")"
wait "$SERVER_PID" 2>/dev/null; serve || exit 1
check "run -it: the terminal after the death of the server" "under way there may go on" "$(EVENT="kill -9 $SERVER_PID" at event 125 "$BERM" run -it -- bash)"
wait "$SERVER_PID" 2>/dev/null; serve || exit 1

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
