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
# 7, 55 and 56: a reset, found while connecting, sending or receiving. An end in order would be 52.
check "a connection to a port at which nothing listens is reset, not ended" reset "$(case $code in 7 | 55 | 56) echo reset ;; *) echo "curl: $code" ;; esac)"
check "and told" "a connection failed: nothing listens on port 8081 of the sandbox" "$(head -n 1 "$WORK/told")"
check "the others go on" hello "$(curl -sS --max-time 60 "http://$at/")"

# The same over HTTP, through the server's own port.
with() { curl -sS --max-time 60 -H "Authorization: Bearer $BERM_TOKEN" "$@"; }
path=$BERM_URL/berm/v1/sandboxes/$id/ports
host=(--resolve "8080-$id.localhost:$PORT:127.0.0.1" "http://8080-$id.localhost:$PORT")
check "a path of the server" hello "$(with "$path/8080/")"
check "a host of the server" hello "$(with "${host[@]}/")"
with "$path/8080/big" >"$WORK/big"
check "all of it comes that way" "$("$BERM" exec "$id" -- sha256sum /tmp/site/big | cut -d' ' -f1)" "$(sha256sum <"$WORK/big" | cut -d' ' -f1)"
check "many at once that way" 20 "$(for ((i = 0; i < 20; i++)); do with "$path/8080/" & done | grep -c hello)"
link=$("$BERM" port-link "$id" 8080)
jar=$WORK/cookies
follow() { curl -sS --max-time 60 --resolve "8080-$id.localhost:$PORT:127.0.0.1" -c "$jar" -b "$jar" -H "Sec-Fetch-Site: none" "$@"; }
check "a link lets a browser in, and away from the link" "hello http://8080-$id.localhost:$PORT/" "$(follow -L -w '%{url_effective}' "$link" | tr '\n' ' ')"
check "it comes again" hello "$(follow "http://8080-$id.localhost:$PORT/")"
check "the link is used up" "401 TOKEN_INVALID" "$(curl -s --max-time 60 --resolve "8080-$id.localhost:$PORT:127.0.0.1" -o /dev/null -w '%{http_code} %header{x-berm-error}' "$link")"
check "no token" "401 TOKEN_INVALID" "$(curl -s --max-time 60 -o /dev/null -w '%{http_code} %header{x-berm-error}' "${host[@]}/")"
check "nothing listens" "502 PORT_CLOSED" "$(with -o /dev/null -w '%{http_code} %header{x-berm-error}' "$path/8081/")"
check "the sandbox's own error" "404 " "$(with -o /dev/null -w '%{http_code} %header{x-berm-error}' "$path/8080/none")"
cat >"$WORK/upgrade.py" <<'PY'
# An upgrade: what is sent comes back, and each half ends by itself.
import socket
l = socket.create_server(("127.0.0.1", 8082))
while True:
    c, _ = l.accept()
    f = c.makefile("rwb")
    head = b""
    while (line := f.readline()) not in (b"\r\n", b""): head += line
    if head:
        f.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        f.write(b"token" if b"berm_" in head else b"clean")
        f.flush()
        f.write(f.read())
        f.flush()
    f.close()
    c.close()
PY
"$BERM" cp "$WORK/upgrade.py" "$id:/tmp/upgrade.py" >/dev/null 2>&1
"$BERM" exec "$id" -- sh -c 'setsid python3 /tmp/upgrade.py >/dev/null 2>&1 & until python3 -c "import socket; socket.create_connection((\"127.0.0.1\", 8082))"; do sleep 0.1; done' 2>/dev/null
check "an upgrade, each half of which ends by itself, and no token inside" "101 cleanhello" "$(python3 - "$PORT" "$id" <<'PY'
import os, socket, sys
c = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 60)
c.sendall((f"GET /berm/v1/sandboxes/{sys.argv[2]}/ports/8082/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {os.environ['BERM_TOKEN']}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n").encode())
f = c.makefile("rb")
status = f.readline().split()[1].decode()
while f.readline() != b"\r\n": pass
c.sendall(b"hello")
c.shutdown(socket.SHUT_WR)
print(status, f.read().decode())
PY
)"

# Exposed ports: an address that curl reaches, and who may without a token of the organization.
cat >"$WORK/web.yaml" <<'EOF'
display_name: web
spec:
  network:
    egress: {default: none, modes: {none: {type: none}}}
    ingress: {modes: {public: {scope: any, expectsExternalAddress: true}, inside: {scope: any}, own: {scope: org}, node: {service: {serviceType: NodePort}}}}
EOF
"$BERM" profile create -f "$WORK/web.yaml" >/dev/null && "$BERM" runner bind local web >/dev/null || failed=$((failed + 1))
exposing() { # MODE [PROTOCOL]: what Start answers
  api POST /v1beta2/sandboxes '{"profileNames":["web"],"command":"sh","args":["-c","cd /tmp && echo '"$1"' >index.html && exec python3 -m http.server --bind 127.0.0.1 8080"],
    "ports":[{"containerPort":8080,"protocol":"'"${2:-TCP}"'"},{"containerPort":8081}],"network":{"ingressMode":"'"$1"'","exposedPorts":[8080]}}'
}
reach() { # ADDRESS ARGS...: once the program listens
  local i to=$1; shift
  for ((i = 0; i < 600; i++)); do
    got=$(curl -sS --max-time 60 -w ' %{http_code}' --resolve "${to%:*}:$PORT:127.0.0.1" "$@" "http://$to/" | tail -n 1)
    case $got in *' 502') sleep 0.1 ;; *) break ;; esac
  done
  echo "${got##* }"
}
for mode in public inside; do
  exposed=$(exposing $mode | sed '$d' | jq -r .sandboxId)
  for ((i = 0; i < 600; i++)); do
    shown=$(api GET "/v1beta2/sandboxes/$exposed" | sed '$d') address=$(jq -r .serviceAddress <<<"$shown")
    [ -n "$address" ] && break; sleep 0.1
  done
  check "$mode: the address of the exposed port" "8080-$exposed.localhost:$PORT 8080" "$address $(jq -r '.exposedPorts[].containerPort' <<<"$shown")"
  check "$mode: with a token" 200 "$(reach "$address" -H "Authorization: Bearer $BERM_TOKEN")"
  check "$mode: without" "$([ $mode = public ] && echo 200 || echo 401)" "$(reach "$address")"
  check "$mode: another port without" 401 "$(reach "8081-${address#8080-}")"
  check "$mode: berm get tells it, too" 1 "$("$BERM" get "$exposed" | grep -c "$address")"
  "$BERM" stop "$exposed" --grace 0 >/dev/null
done
exposed=$("$BERM" run -d --profile web --ingress own --expose 8080 --expose 8081/tcp -- sh -c 'sleep infinity')
check "by flags" "8080 TCP 8081 TCP" "$(api GET "/v1beta2/sandboxes/$exposed" | sed '$d' | jq -r '.exposedPorts[] | "\(.containerPort) \(.protocol)"' | tr '\n' ' ' | sed 's/ $//')"
"$BERM" stop "$exposed" --grace 0 >/dev/null
"$BERM" run -d --expose 0 -- true >/dev/null 2>&1; code=$?
check "a port that is none" 2 $code
check "a node's port is refused, and what would pass is told" "1 400" "$(exposing node | tee "$WORK/node" | grep -c 'say ClusterIP') $(tail -n 1 "$WORK/node")"
check "so are datagrams" "1 400" "$(exposing public UDP | tee "$WORK/udp" | grep -c 'exposes TCP alone') $(tail -n 1 "$WORK/udp")"

"$BERM" stop "$id" --grace 0 >/dev/null
check "a sandbox that ended" "503 CWSANDBOX_SANDBOX_NOT_RUNNING" "$(with -o /dev/null -w '%{http_code} %header{x-berm-error}' "$path/8080/")"
curl -s --max-time 60 "http://$at/" >/dev/null
wait $forwarder; code=$?
check "it ends when the sandbox has" 6 "$code"
"$BERM" port-forward "$id" 8080 >/dev/null 2>"$WORK/told"; code=$?
check "a sandbox that has ended is refused" "6 error: sandbox $id has ended: COMPLETED" "$code $(head -n 1 "$WORK/told")"
"$BERM" port-forward "$id" eighty >/dev/null 2>&1; code=$?
check "a port that is none is refused" 2 "$code"

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
