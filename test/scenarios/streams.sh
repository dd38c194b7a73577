#!/usr/bin/env bash
# What moves between a person and a sandbox, with the CLI against `berm serve`: logs and directories. Needs root.
# Ends with `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/../.."
. test/lib/server.sh
trap finish EXIT
[ "$(id -u)" = 0 ] || { echo "streams.sh needs root"; exit 1; }

passed=0 failed=0
check() { # NAME WANT GOT
  if [ "$2" = "$3" ]; then passed=$((passed + 1)); echo "ok      $1"
  else failed=$((failed + 1)); echo "FAILED  $1"; diff <(echo "$2") <(echo "$3") | head -n 20 | sed 's/^/        /'; fi
}

serve --output-retention 1h || exit 1
id=$("$BERM" run -d -- sh -c 'echo out; echo err >&2; while ! [ -e /tmp/go ]; do sleep 0.05; done; echo last; exit 3')
"$BERM" logs -f "$id" >"$WORK/followed" 2>"$WORK/errs" & follower=$!
for ((i = 0; i < 200; i++)); do grep -q out "$WORK/followed" && break; sleep 0.05; done
check "logs come while they are printed" "out" "$(cat "$WORK/followed")"
stop_server; serve --output-retention 1h || exit 1
echo | "$BERM" cp -q - "$id:/tmp/go"
wait $follower
check "a follower survives a restart of the server" $'out\nlast' "$(cat "$WORK/followed")"
check "standard error is kept apart" "err" "$("$BERM" logs "$id" 2>&1 >/dev/null)"
check "the last line, of a sandbox that has ended" "last" "$("$BERM" logs -n 1 "$id")"

id=$("$BERM" run -d -- sleep infinity)
tree=$WORK/tree
mkdir -p "$tree/sub/empty"
echo content >"$tree/file"; echo run >"$tree/sub/program"; chmod 750 "$tree/sub/program"; ln -s file "$tree/link"; ln -s /etc/passwd "$tree/out"
for ((i = 0; i < 500; i++)); do echo $i >"$tree/sub/$i"; done
list() { (cd "$1" && find . \( -type l -printf '%P %M %l\n' -o -printf '%P %M %T@\n' \) -type f -exec cat {} + | sort); }
"$BERM" cp -q "$tree" "$id:/workspace/"
check "a directory is there" "content" "$("$BERM" exec "$id" -- cat /workspace/tree/link)"
mkdir "$WORK/back"
left=$("$BERM" cp "$id:/workspace/tree" "$WORK/back" 2>&1 | grep 'left out')
check "a link that leads out is left out, and told" "left out out: it is a link that leads out" "$left"
rm "$tree/out"; touch -d '2020-01-01' "$tree" "$WORK/back/tree"
check "a directory comes back as it was" "$(list "$tree")" "$(list "$WORK/back/tree")"

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
