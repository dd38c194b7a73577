#!/usr/bin/env bash
# A runner in another process, with the real binaries: enrolment, sandboxes, and what becomes of them when the runner or the gateway is
# killed. Needs root. Ends with `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/../.."
. test/lib/server.sh
RUNNER_PID=
end_runner() { [ -z "$RUNNER_PID" ] || { kill "-${1:-TERM}" "$RUNNER_PID" 2>/dev/null; wait "$RUNNER_PID" 2>/dev/null; RUNNER_PID=; }; }
trap 'code=$?; (exit $code); finish_all' EXIT
finish_all() { local code=$?; for id in $("$BERM" ls -o json 2>/dev/null | jq -r '.[].sandboxId // empty' 2>/dev/null); do "$BERM" stop "$id" --grace 0 >/dev/null 2>&1; done; end_runner; (exit $code); finish; }
[ "$(id -u)" = 0 ] || { echo "runner.sh needs root"; exit 1; }

passed=0 failed=0
check() { # NAME WANT GOT
  if [ "$2" = "$3" ]; then passed=$((passed + 1)); echo "ok      $1"
  else failed=$((failed + 1)); echo "FAILED  $1"; diff <(echo "$2") <(echo "$3") | head -n 20 | sed 's/^/        /'; fi
}
has() { # NAME PART TEXT
  case $3 in *"$2"*) check "$1" "" "";; *) check "$1" "$2" "$3";; esac
}
start_runner() { # further arguments of `berm runner`; waits until it is connected or has ended
  "$BERM" runner --gateway "$BERM_URL" --data "$WORK/edge" "$@" >>"$WORK/runner.log" 2>&1 & RUNNER_PID=$!
  wait_for edge CONNECTED
}
connection() { "$BERM" runner get "$1" -o json | jq -r .connectionStatus | sed 's/.*STATUS_//'; }
wait_for() { # RUNNER STATUS
  local i
  for ((i = 0; i < 600; i++)); do [ "$(connection "$1" 2>/dev/null)" = "$2" ] && return; kill -0 "$RUNNER_PID" 2>/dev/null || [ "$2" != CONNECTED ] || break; sleep 0.1; done
  echo "runner $1 is not $2:"; tail -n 5 "$WORK/runner.log"; return 1
}
state() { "$BERM" get "$1" -o json | jq -r '.sandboxStatus' | sed 's/SANDBOX_STATUS_//'; }

serve --runner-credential-ttl 6s || exit 1
"$BERM" runner create edge --zone local --cluster edge --profile default >/dev/null || exit 1
has "an embedded runner cannot be joined" "part of a server" "$("$BERM" runner join local 2>&1)"
token=$("$BERM" runner join edge -o json | jq -r .token)
start_runner --token "$token" || exit 1
check "the credential is for its owner alone" 600 "$(stat -c %a "$WORK/edge/credential.json")"
has "a token is good for one use" "not valid" "$("$BERM" runner --gateway "$BERM_URL" --data "$WORK/other" --token "$token" 2>&1)"
has "one machine and directory has one process" "another berm runner uses" "$("$BERM" runner --gateway "$BERM_URL" --data "$WORK/edge" 2>&1)"
check "a credential allows nothing on the API" 4 "$("$BERM" --token "$(jq -r .secret "$WORK/edge/credential.json")" ls >/dev/null 2>&1; echo $?)"
has "plain text over a network is refused" "plain text over a network" "$("$BERM" runner --gateway http://192.0.2.1:7070 --data "$WORK/other" --token "$token" 2>&1)"

check "run" "hello 7" "$("$BERM" run --runner edge -- sh -c 'echo hello; exit 7' 2>/dev/null | tr '\n' ' '; echo "${PIPESTATUS[0]}")"
id=$("$BERM" run -d --runner edge -- sh -c 'echo begun; sleep infinity')
check "exec" "out" "$("$BERM" exec "$id" -- echo out)"
check "exec, the code" 3 "$("$BERM" exec "$id" -- sh -c 'exit 3'; echo $?)"
head -c 3000000 /dev/urandom >"$WORK/file"
"$BERM" cp -q "$WORK/file" "$id:/tmp/file"; "$BERM" cp -q "$id:/tmp/file" "$WORK/back"
check "cp, there and back" "$(sha256sum <"$WORK/file")" "$(sha256sum <"$WORK/back")"
check "logs" "begun" "$("$BERM" logs "$id")"
check "explain" "edge" "$("$BERM" explain "$id" -o json | jq -r .runnerId)"

first=$(jq -r .secret "$WORK/edge/credential.json")
for ((i = 0; i < 100; i++)); do [ "$(jq -r .secret "$WORK/edge/credential.json")" != "$first" ] && break; sleep 0.1; done
check "the credential is replaced while the line is up" 1 "$([ "$(jq -r .secret "$WORK/edge/credential.json")" != "$first" ] && echo 1)"
for ((i = 0; i < 50; i++)); do "$BERM" --token "$first" whoami 2>&1 | grep -q "not valid" && break; sleep 0.1; done
has "the one before is revoked" "not valid" "$("$BERM" --token "$first" whoami 2>&1)"

"$BERM" exec "$id" -- sh -c 'echo first; sleep infinity' >"$WORK/cut" 2>"$WORK/cut.err" & cut=$!
for ((i = 0; i < 100; i++)); do grep -q first "$WORK/cut" && break; sleep 0.1; done
end_runner KILL
wait $cut; check "a command on a line that breaks has no code of its own" 125 $?
wait_for edge DISCONNECTED
check "a dead runner: the last status stays" RUNNING "$(state "$id")"
has "and says that nobody knows" "RUNNER_UNREACHABLE since" "$("$BERM" get "$id" -o json | jq -r '.statusReason // .status_reason')"
check "and its observation" UNKNOWN "$("$BERM" explain "$id" -o json | jq -r .observation)"
start_runner || exit 1
check "it comes back: truth again" "RUNNING CURRENT" "$(state "$id") $("$BERM" explain "$id" -o json | jq -r .observation)"
check "the sandbox went on" "begun" "$("$BERM" exec "$id" -- sh -c 'cat /proc/1/comm >/dev/null && echo begun')"

kill -KILL "$SERVER_PID"; wait "$SERVER_PID" 2>/dev/null; SERVER_PID=
serve --runner-credential-ttl 6s || exit 1
wait_for edge CONNECTED
check "the gateway is killed and started again" "still" "$("$BERM" exec "$id" -- echo still)"

printf 'guardrails:\n  resources: {max_cpu: "1"}\n' >"$WORK/owner.yaml"
end_runner; start_runner --guardrails "$WORK/owner.yaml" || exit 1
has "guardrails of the owner" "above the maximum 1 (owner of runner edge)" "$("$BERM" run -d --runner edge --cpu 2 -- true 2>&1)"
printf 'tags: [a]\n' >"$WORK/owner.yaml"
has "a file of guardrails has nothing else" "guardrails: and nothing else" "$("$BERM" runner --gateway "$BERM_URL" --data "$WORK/other" --guardrails "$WORK/owner.yaml" 2>&1)"

# A credential that is replaced between the list and the revocation is not in the list: until the runner ends, all there are.
for ((i = 0; i < 300; i++)); do
  kill -0 "$RUNNER_PID" 2>/dev/null || break
  for t in $("$BERM" token list -o json | jq -r '.[] | select(.role == "runner") | .id'); do "$BERM" token revoke "$t" >/dev/null 2>&1; done
  sleep 0.1
done
kill -0 "$RUNNER_PID" 2>/dev/null && end_runner
wait "$RUNNER_PID"; check "a runner whose credential is revoked ends" 4 $?
RUNNER_PID=
start_runner --token "$("$BERM" runner join edge -o json | jq -r .token)" || exit 1
check "and is enrolled again in its place" "still" "$("$BERM" exec "$id" -- echo still)"

# The gateway is killed at every place that only a runner's coming passes, then the runner where it writes its credential. Each time
# both are started again, and find each other.
dies() { local i; for ((i = 0; i < 300; i++)); do kill -0 "$1" 2>/dev/null || return 0; sleep 0.1; done; return 1; }
for point in $("$BERM" serve --print-failpoints | grep '^control.runner-'); do
  end_runner; stop_server
  export BERM_FAILPOINT=$point; serve --runner-credential-ttl 6s; unset BERM_FAILPOINT
  token=$("$BERM" runner join edge -o json 2>/dev/null | jq -r .token)
  [ -z "$token" ] || case $point in *enrol*) rm -f "$WORK/edge/credential.json";; esac
  if [ -n "$token" ]; then "$BERM" runner --gateway "$BERM_URL" --data "$WORK/edge" --token "$token" >>"$WORK/runner.log" 2>&1 & RUNNER_PID=$!; fi
  dies "$SERVER_PID"; check "$point kills the gateway" 0 $?
  wait "$SERVER_PID" 2>/dev/null; SERVER_PID=; end_runner
  serve --runner-credential-ttl 6s || exit 1
  start_runner --token "$("$BERM" runner join edge -o json | jq -r .token)" || exit 1
  check "$point: the sandbox is there" "still" "$("$BERM" exec "$id" -- echo still)"
done
for point in runner.before-credential-write runner.after-credential-write; do
  end_runner
  BERM_FAILPOINT=$point start_runner
  dies "$RUNNER_PID"; check "$point kills the runner" 0 $?
  wait "$RUNNER_PID" 2>/dev/null; RUNNER_PID=
  start_runner || exit 1
  check "$point: the credential is good" "still" "$("$BERM" exec "$id" -- echo still)"
done

# How its process is deployed.
deployed() { "$BERM" runner get edge -o json | jq -r '"\(.deployment.kind) \(.activeRevision) of \(.targetRevision) \(.rolloutInProgress)"'; }
check "a process runs what was installed" "process 1 of 1 false" "$(deployed)"
printf 'managed_spec:\n  overrides: {env: {TZ: UTC}, args: [--verbose], node_selector: {a: b}}\n' >"$WORK/managed.yaml"
has "it does not apply overrides" "managed_spec.overrides.env is not applied" "$("$BERM" runner edit edge -f "$WORK/managed.yaml" --yes 2>&1)"
check "which is told as long as it is so" "process 1 of 2 true" "$(deployed)"
has "join has them" "TZ=UTC BERM_DEPLOYMENT_REVISION=2 berm runner --gateway" "$("$BERM" runner join edge 2>/dev/null)"
end_runner; BERM_DEPLOYMENT_REVISION=2 BERM_RUNNER_ARGS='["--verbose"]' start_runner || exit 1
check "a process that is started so runs them" "process 2 of 2 false" "$(deployed)"
has "no argument among them says where it connects" "cannot be given to a runner" "$(BERM_RUNNER_ARGS='["--gateway=http://127.0.0.1:1"]' "$BERM" runner --gateway "$BERM_URL" --data "$WORK/other" 2>&1)"
has "it runs what the server's channels offer" "no update is available" "$("$BERM" runner upgrade edge 2>&1)"

# Out of service and back.
check "cordon" "true 1" "$("$BERM" runner cordon edge --reason "new kernel" -o json | jq -r '"\(.cordoned) \(.liveSandboxes)"')"
has "the list says so" "CONNECTED, CORDONED" "$("$BERM" runner list)"
has "a launch is refused with the reason" "new kernel" "$("$BERM" run --runner edge -- true 2>&1)"
check "what ran goes on" "still" "$("$BERM" exec "$id" -- echo still)"
check "drain" "true 0" "$("$BERM" runner drain edge --grace 0 -o json 2>/dev/null | jq -r '"\(.cordoned) \(.liveSandboxes // 0)"')"
check "what ran was stopped" "COMPLETED" "$(state "$id")"
"$BERM" runner uncordon edge >/dev/null
check "uncordon" "again" "$("$BERM" run --runner edge -- echo again 2>/dev/null)"

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
