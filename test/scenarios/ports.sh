#!/usr/bin/env bash
# Ports of a sandbox reached from here, with the CLI against `berm serve`: a sandbox that has no network. Needs root.
# Ends with `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/../.."
. test/lib/server.sh
trap finish EXIT
[ "$(id -u)" = 0 ] || { echo "ports.sh needs root"; exit 1; }

passed=0 failed=0
check() { # NAME WANT GOT
  if [ "$2" = "$3" ]; then passed=$((passed + 1)); echo "ok      $1"
  else failed=$((failed + 1)); echo "FAILED  $1"; diff <(echo "$2") <(echo "$3") | head -n 20 | sed 's/^/        /'; fi
}
# forward ARGS...: a port-forward in the background, its pid in $forwarder; waits until it says what it listens on, which is $at.
forward() {
  "$BERM" port-forward "$@" >"$WORK/listens" 2>"$WORK/told" & forwarder=$!
  local i; for ((i = 0; i < 600; i++)); do [ -s "$WORK/listens" ] && break; kill -0 $forwarder 2>/dev/null || break; sleep 0.05; done
  at=$(sed -n '1s/ .*//p' "$WORK/listens")
}

serve || exit 1
id=$("$BERM" run -d -- sh -c 'mkdir /tmp/site && cd /tmp/site && head -c 3000000 /dev/urandom >big && echo hello >index.html && exec python3 -m http.server --bind 127.0.0.1 8080')
for ((i = 0; i < 600; i++)); do "$BERM" exec "$id" -- python3 -c 'import socket; socket.create_connection(("127.0.0.1", 8080))' 2>/dev/null && break; sleep 0.1; done

forward "$id" 0:8080 0:8081
check "what is served in a sandbox without a network is reached" hello "$(curl -sS --max-time 60 "http://$at/")"
curl -sS --max-time 60 "http://$at/big" >"$WORK/big"
check "all of it comes" "$("$BERM" exec "$id" -- sha256sum /tmp/site/big | cut -d' ' -f1)" "$(sha256sum <"$WORK/big" | cut -d' ' -f1)"
check "many at once" 20 "$(for ((i = 0; i < 20; i++)); do curl -sS --max-time 60 "http://$at/" & done | grep -c hello)"
closed=$(sed -n '2s/ .*//p' "$WORK/listens")
curl -s --max-time 60 "http://$closed/" >/dev/null; code=$?
# 55 and 56: a reset, found while sending or receiving. An end in order would be 52.
check "a connection to a port at which nothing listens is reset, not ended" reset "$(case $code in 55 | 56) echo reset ;; *) echo "curl: $code" ;; esac)"
check "and told" "a connection failed: nothing listens on port 8081 of the sandbox" "$(head -n 1 "$WORK/told")"
check "the others go on" hello "$(curl -sS --max-time 60 "http://$at/")"
"$BERM" stop "$id" --grace 0 >/dev/null
curl -s --max-time 60 "http://$at/" >/dev/null
wait $forwarder; code=$?
check "it ends when the sandbox has" 6 "$code"
"$BERM" port-forward "$id" 8080 >/dev/null 2>"$WORK/told"; code=$?
check "a sandbox that has ended is refused" "6 error: sandbox $id has ended: COMPLETED" "$code $(head -n 1 "$WORK/told")"
"$BERM" port-forward "$id" eighty >/dev/null 2>&1; code=$?
check "a port that is none is refused" 2 "$code"

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
