#!/usr/bin/env bash
# Leases, with the CLI against `berm serve`: holders that end, that are killed, and a server that is killed. Needs root.
# Ends with `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/../.."
. test/lib/server.sh
trap finish EXIT
[ "$(id -u)" = 0 ] || { echo "leases.sh needs root"; exit 1; }

passed=0 failed=0
check() { # NAME WANT GOT
  if [ "$2" = "$3" ]; then passed=$((passed + 1)); echo "ok      $1"
  else failed=$((failed + 1)); echo "FAILED  $1"; diff <(echo "$2") <(echo "$3") | head -n 20 | sed 's/^/        /'; fi
}
sandbox() { api GET "/berm/v1/sandboxes/$1" | head -n -1 | jq -r "$2"; }
ended() { # prints how a sandbox ended
  local i
  for ((i = 0; i < 300; i++)); do [ "$(sandbox "$1" .status)" = COMPLETED ] && break; sleep 0.2; done
  sandbox "$1" '.status + " " + (.reason | split(":")[0])' # a reason may say more: that it was stopped before it ran
}

serve || exit 1
# A holder that ends by itself, and what its exit code becomes.
"$BERM" lease hold --purpose 'run 17' -- sh -c '"$0" run -d --purpose rollout -- sleep 1000 >"$1/held"; exit 7' "$BERM" "$WORK"
check "the exit code is the command's" 7 $?
check "what ran under the lease is stopped with it" "COMPLETED LEASE_RELEASED" "$(ended "$(cat "$WORK/held")")"
"$BERM" lease hold -- sh -c 'kill -TERM $$'
check "a signal is told as one" 143 $?
"$BERM" lease hold -- /no/such/program 2>"$WORK/err"
check "a command that does not exist" "125 error: /no/such/program cannot be run here" "$? $(head -n 1 "$WORK/err" | cut -d: -f1-2)"
# Published clients have their token alone.
"$BERM" lease hold -- sh -c 'curl -fsS -H "Authorization: Bearer $CWSANDBOX_API_KEY" -H "Content-Type: application/json" --data "{\"command\":\"sleep\",\"args\":[\"1000\"]}" "$CWSANDBOX_BASE_URL/v1beta2/sandboxes"' >"$WORK/published"
check "a client that knows no leases launches under one" "COMPLETED LEASE_RELEASED" "$(ended "$(jq -r .sandboxId "$WORK/published")")"
# A sandbox for one command.
"$BERM" run --lease 10s -- sh -c 'exit 3'
check "run --lease" 3 $?
check "it leaves no lease" "[]" "$("$BERM" lease ls -o json | jq -c .)"

# A holder that is killed, and then its server: the sandbox outlives the server by the TTL and the grace.
"$BERM" lease hold --ttl 10s --grace 5s -- sh -c 'echo $PPID >"$1/holder"; "$0" run -d -- sleep 1000 >"$1/id"; exec sleep 1000' "$BERM" "$WORK" & started=$!
for ((i = 0; i < 200; i++)); do [ -s "$WORK/id" ] && break; sleep 0.1; done
id=$(cat "$WORK/id") lease=$("$BERM" lease ls -o json | jq -r '.[0].leaseId')
for ((i = 0; i < 15; i++)); do sleep 1; done
check "it is renewed" "LEASE_STATE_ACTIVE" "$("$BERM" lease get "$lease" -o json | jq -r .state)"
child=$(pgrep -P "$started" || true)
kill -KILL "$started"; wait "$started" 2>/dev/null
[ -n "$child" ] && kill "$child"
kill -KILL "$SERVER_PID"; wait "$SERVER_PID" 2>/dev/null
sleep 16
since=$(date +%s)
serve || exit 1
check "no time in which the server was away counts" "RUNNING" "$(sandbox "$id" .status)"
for ((i = 0; i < 60; i++)); do [ "$("$BERM" ls --orphans -o json | jq length)" = 1 ] && break; sleep 0.5; done
check "it is an orphan" "$id ORPHAN_REASON_LEASE_LOST" "$("$BERM" ls --orphans -o json | jq -r '.[] | .sandboxId + " " + .reasons[0]')"
case $(sandbox "$id" .reason) in LEASE_LOST:*) check "and says so" 1 1 ;; *) check "and says so" LEASE_LOST "$(sandbox "$id" .reason)" ;; esac
check "nobody renews it: it is stopped" "COMPLETED LEASE_EXPIRED" "$(ended "$id")"
took=$(($(date +%s) - since))
check "not before TTL and grace are over" "yes" "$([ $took -ge 14 ] && echo yes || echo "after $took s")"
check "a renewal of what has ended" "6" "$("$BERM" lease renew "$lease" 2>/dev/null; echo $?)"
check "the audit has the end" "EXPIRED" "$("$BERM" audit list --object "$lease" -o json | jq -r '[.[] | select(.outcome == "done")][0].objectName')"

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
