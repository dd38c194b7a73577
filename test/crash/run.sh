#!/usr/bin/env bash
# Kill the server at every failpoint (see crash_test.go). BERM_CRASH=regexp chooses some.
set -euo pipefail
cd "$(dirname "$0")/../.."
go test -tags crash -count 1 -timeout 60m -v -run "TestCrashMatrix/${BERM_CRASH:-}" ./test/crash/ | grep -v -e '^=== RUN' -e '^=== PAUSE' -e '^=== CONT'
