#!/usr/bin/env bash
# Commands that are kept, with the CLI against `berm serve`, whose server is killed in the middle of them. Needs root.
# Ends with `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/../.."
. test/lib/server.sh
trap finish EXIT
[ "$(id -u)" = 0 ] || { echo "execs.sh needs root"; exit 1; }

passed=0 failed=0
check() { # NAME WANT GOT
  if [ "$2" = "$3" ]; then passed=$((passed + 1)); echo "ok      $1"
  else failed=$((failed + 1)); echo "FAILED  $1"; diff <(echo "$2") <(echo "$3") | head -n 20 | sed 's/^/        /'; fi
}
field() { "$BERM" execs get -o json "$id" "$1" | jq -r "$2"; }
kill_server() { kill -KILL "$SERVER_PID"; wait "$SERVER_PID" 2>/dev/null; SERVER_PID=; }

serve || exit 1
id=$("$BERM" run -d --memory 128Mi -- sleep infinity)

x=$("$BERM" exec -d --id first "$id" -- sh -c 'echo out; echo err >&2; exit 3')
check "the id is printed" "first" "$x"
"$BERM" execs wait "$id" first
check "wait has the code of the command" 3 $?
check "the list, as the API has it" "first STATE_ENDED" "$("$BERM" execs list -o json "$id" | jq -r '.[0] | "\(.execId) \(.state)"')"
check "it is read later, its streams apart" "out / err" "$("$BERM" execs attach "$id" first 2>"$WORK/errs") / $(cat "$WORK/errs")"
"$BERM" exec -d --id digits "$id" -- printf 0123456789 >/dev/null
for from in 0 1 5 9 10; do
  check "from offset $from" "$(printf 0123456789 | tail -c +$((from + 1)))" "$("$BERM" execs attach --from $from "$id" digits)"
done
"$BERM" execs attach --from 11 "$id" digits 2>/dev/null
check "an offset that was never reached" 125 $?
check "a second start is none" "first" "$("$BERM" exec -d --id first "$id" -- sh -c 'echo out; echo err >&2; exit 3')"
"$BERM" exec -d --id first "$id" -- true 2>"$WORK/errs"
check "a name is that of one command" 125 $?

# 40 MB each way through a command that is kept, while its server is killed three times.
head -c 40000000 /dev/urandom >"$WORK/in"; : >"$WORK/out"
"$BERM" exec --keep -i --id pipe "$id" -- cat <"$WORK/in" >"$WORK/out" 2>"$WORK/errs" & pipe=$!
for n in 1 2 3; do
  for ((i = 0; i < 200; i++)); do [ "$(stat -c %s "$WORK/out")" -gt $((n * 8000000)) ] && break; sleep 0.02; done
  kill_server; serve || exit 1
done
wait $pipe
check "it ended well" 0 $?
check "no byte is lost or comes twice, either way" "$(sha256sum <"$WORK/in")" "$(sha256sum <"$WORK/out")"

# A writer that is killed, and another one that goes on.
"$BERM" exec -d -i --id sum "$id" -- sha256sum >/dev/null
("$BERM" execs attach -i "$id" sum >/dev/null 2>&1 < <(head -c 1000000 "$WORK/in"; sleep 60) & echo $! >"$WORK/pid"; wait)&
for ((i = 0; i < 200; i++)); do [ "$(field sum .stdinOffset)" = 1000000 ] && break; sleep 0.05; done
kill -KILL "$(cat "$WORK/pid")"
check "what a killed writer sent is there" 1000000 "$(field sum .stdinOffset)"
tail -c +1000001 "$WORK/in" | "$BERM" execs attach -i "$id" sum >"$WORK/sum"
check "another goes on behind it" "$(sha256sum <"$WORK/in")" "$(cat "$WORK/sum")"

# 1 GB that nobody reads, in a sandbox of 128 MiB.
"$BERM" exec -d --id dropped --drop-oldest "$id" -- head -c 1000000000 /dev/zero >/dev/null
"$BERM" execs wait "$id" dropped
check "nobody reads, and it goes on to its end" 0 $?
got=$("$BERM" execs attach "$id" dropped 2>"$WORK/errs" | wc -c)
missing=$(sed -n 's/^berm: \([0-9]*\) bytes of output are not there any more$/\1/p' "$WORK/errs")
check "what was dropped is told to the byte" 1000000000 $((got + missing))
"$BERM" exec -d --id waits "$id" -- head -c 1000000000 /dev/zero >/dev/null
sleep 0.5
check "a command that waits for its reader has not ended" null "$(field waits .exitCode)"
check "and holds no more than its limit" yes "$([ "$(field waits .endOffset)" -le 524288 ] && echo yes)"
check "a reader gets all of it" "$(head -c 1000000000 /dev/zero | sha256sum)" "$("$BERM" execs attach "$id" waits | sha256sum)"

# Ends.
"$BERM" exec -d --id stubborn "$id" -- sh -c 'trap "" TERM; while :; do sleep 0.1; done' >/dev/null
"$BERM" execs signal "$id" stubborn; sleep 0.3
check "TERM can be ignored" null "$(field stubborn .exitCode)"
"$BERM" execs signal "$id" stubborn KILL
"$BERM" execs wait "$id" stubborn
check "KILL cannot" 137 $?
"$BERM" exec -d --id late --timeout 200ms "$id" -- sleep 60 >/dev/null
"$BERM" execs wait "$id" late 2>/dev/null
check "a timeout is 124" 124 $?
"$BERM" exec -d --id daemon "$id" -- sh -c 'sleep 60 & echo done' >/dev/null
check "a child that holds the output open holds up no end" done "$(timeout 10 "$BERM" execs attach "$id" daemon)"
"$BERM" exec -d --id mute "$id" -- sh -c 'exec >&- 2>&-; sleep 0.3; exit 7' >/dev/null
"$BERM" execs wait "$id" mute
check "a command that closed its output ends when it ends" 7 $?
"$BERM" exec -d --id long "$id" -- sleep infinity >/dev/null
kill_server; serve || exit 1
check "a command goes on without its server" null "$(field long .exitCode)"
"$BERM" execs delete "$id" long
"$BERM" execs get "$id" long 2>/dev/null
check "a deleted one is gone" 5 $?
"$BERM" stop "$id" >/dev/null
"$BERM" execs attach "$id" first >/dev/null 2>"$WORK/errs"
check "with the sandbox its commands are gone, and nothing is made up" "125 1" "$? $(grep -c "is COMPLETED\|is TERMINATING\|has ended" "$WORK/errs")"

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
