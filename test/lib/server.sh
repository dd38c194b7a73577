# Sourced by the scripts of test/: start and stop a private server on a free loopback port, with its data in a temporary folder.
# Everything that is started here is ended here, by pid.

BERM=${BERM:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/bin/berm}
WORK=$(mktemp -d "${TMPDIR:-/tmp}/berm-test.XXXXXX")
DATA=$WORK/data
SERVER_PID=
# What runs here is nobody's default server, and none of the user's is found.
export XDG_STATE_HOME=$WORK/state XDG_CONFIG_HOME=$WORK/config

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

serve() { # further arguments of `berm serve`; $HOST and $SCHEME where it is not http on loopback
  PORT=${PORT:-$(free_port)} HOST=${HOST:-127.0.0.1}
  "$BERM" serve --data "$DATA" --listen "$HOST:$PORT" "$@" >>"$WORK/server.log" 2>&1 &
  SERVER_PID=$!
  export BERM_URL=${SCHEME:-http}://$HOST:$PORT
  local i
  for ((i = 0; i < 300; i++)); do
    curl -fs "$BERM_URL/readyz" >/dev/null 2>&1 && break
    kill -0 "$SERVER_PID" 2>/dev/null || { echo "the server ended:"; tail -n 20 "$WORK/server.log"; return 1; }
    sleep 0.05
  done
  BERM_TOKEN=$(cat "$DATA/admin.token"); export BERM_TOKEN
}

stop_server() {
  [ -n "$SERVER_PID" ] || return 0
  kill "$SERVER_PID" 2>/dev/null || true
  wait "$SERVER_PID" 2>/dev/null || true
  SERVER_PID=
}

# api METHOD PATH [BODY]: prints the body, then the HTTP status alone on the last line.
api() {
  local method=$1 path=$2 body=${3:-}
  curl -sS -X "$method" -H "Authorization: Bearer $BERM_TOKEN" -H 'Content-Type: application/json' ${body:+--data "$body"} -w '\n%{http_code}\n' "$BERM_URL$path"
}

finish() { # stops every sandbox of this server, then the server, then removes the data
  local code=$? id
  if [ -n "$SERVER_PID" ] && kill -0 "$SERVER_PID" 2>/dev/null; then
    for id in $("$BERM" ls -o json 2>/dev/null | jq -r '.[].sandboxId // empty' 2>/dev/null); do "$BERM" stop "$id" --grace 0 >/dev/null 2>&1 || true; done
  fi
  stop_server
  if [ $code -ne 0 ] && [ -s "$WORK/server.log" ]; then echo "--- last lines of the server's log"; tail -n 15 "$WORK/server.log"; fi
  rm -rf "$WORK"
  exit $code
}
