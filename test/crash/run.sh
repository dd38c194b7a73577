#!/usr/bin/env bash
# Kill the server, and shims, at every failpoint, and at random moments (see doc.go). BERM_CRASH=regexp chooses failpoints,
# BERM_CRASH_RUN tests, BERM_CRASH_BINARY another binary, BERM_CRASH_TURN=n a later hit. The last line is the count.
set -uo pipefail
cd "$(dirname "$0")/../.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Cases wait for the disk and for processes: three at a time keep two cores busy.
go test -tags crash -count 1 -timeout 30m -parallel "${BERM_CRASH_PARALLEL:-3}" -v -run "${BERM_CRASH_RUN:-.}" ./test/crash/ 2>&1 |
  tee "$log" | grep -v -e '^=== ' -e '--- PASS.*/'
code=${PIPESTATUS[0]}
grep -o '[0-9]* of [0-9]* failpoints killed.*' "$log" | tail -n 1
exit "$code"
