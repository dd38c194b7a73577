#!/usr/bin/env bash
# Submit every golden pod of internal/backend/kube, with its namespace and secret, to a real API server: server-side apply, dry run,
# strict validation. The last line is `N passed, N failed`.
set -euo pipefail
cd "$(dirname "$0")"
export BERM_CLUSTER=dryrun-$$
root=$(cd ../.. && pwd)
. ./lib.sh

work=$(mktemp -d "${TMPDIR:-/tmp}/berm-dryrun.XXXXXX")
finish() { local code=$?; ./cluster down; rm -rf "$work"; exit $code; }
trap finish EXIT

# Compiled outside: inside the namespace there is no network, not even for a module that is missing.
BERM_GATEWAY_API=$(gateway_api) && export BERM_GATEWAY_API
go test -c -tags cluster -o "$work/dryrun" .
./cluster up
code=0
./cluster in "$work/dryrun" -test.v -test.timeout 5m >"$work/log" 2>&1 || code=$?

passed=$(grep -cE '^ +--- PASS: ' "$work/log" || true)
failed=$(grep -cE '^ +--- FAIL: ' "$work/log" || true)
# A failure outside of any case counts too: nothing may end in success that did not run.
if [ $code -ne 0 ] && [ "$failed" -eq 0 ] || [ "$passed" -eq 0 ]; then failed=$((failed + 1)); code=1; fi
[ $code -eq 0 ] || cat "$work/log"
echo "$passed passed, $failed failed"
exit $code
