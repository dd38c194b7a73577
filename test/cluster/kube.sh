#!/usr/bin/env bash
# Run the Kubernetes backend against a real node: the mission's statements, the backend contract, and what may go wrong on a cluster. With
# arguments, they are given to the tests (-test.run X), which run alone. The last line is `N passed, N failed`. With `bench`, the
# benchmarks run in their place, with `mission` the statements alone.
set -euo pipefail
cd "$(dirname "$0")"
export BERM_CLUSTER=${BERM_CLUSTER:-kube-$$}
here=$PWD root=$(cd ../.. && pwd)
. ./lib.sh

work=$(mktemp -d "${TMPDIR:-/tmp}/berm-kube.XXXXXX")
finish() { local code=$?; [ -n "${BERM_CLUSTER_KEEP:-}" ] || ./cluster down; rm -rf "$work"; exit $code; }
trap finish EXIT

# Compiled outside: inside the namespace there is no network, not even for a module that is missing.
(cd "$root" && go test -c -tags cluster -o "$work/kube.test" ./internal/backend/kube)
build_init "$work/init"
build_tools "$work/tools"
(cd "$root" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$work/port-server" ./internal/backend/backendtest/ports/cmd/port-server)
export BERM_PORT_SERVER=$work/port-server

BERM_GATEWAY_API=$(gateway_api) && export BERM_GATEWAY_API

state=${TMPDIR:-/tmp}/berm-cluster-$BERM_CLUSTER
[ -e "$state" ] || ./cluster up all
./cluster image localhost/berm-init:test "$work/init" /berm-shim
./cluster image localhost/tools:test "$work/tools" /bin/sh
if [ "${1:-}" = bench ]; then
  shift
  (cd "$root/internal/backend/kube" && "$here/cluster" in "$work/kube.test" -test.timeout 30m -test.run '^$' -test.bench '^BenchmarkPod(Start|Burst|Exec)$' "$@")
  exit
fi
code=0
if [ $# = 0 ] || [ "$1" = mission ]; then
  ./cluster in "$root/test/scenarios/mission.sh" kube || code=$?
  [ "${1:-}" != mission ] || exit $code
fi
export BERM_CLUSTER_STATE=$state
(cd "$root/internal/backend/kube" && "$here/cluster" in "$work/kube.test" -test.v -test.timeout 15m -test.run '^(TestContract|TestFault|TestNetwork)' "$@") >"$work/log" 2>&1 || code=$?

passed=$(grep -cE '^ *--- PASS: ' "$work/log" || true)
failed=$(grep -cE '^ *--- FAIL: ' "$work/log" || true)
if [ $code -ne 0 ] && [ "$failed" -eq 0 ] || [ "$passed" -eq 0 ]; then failed=$((failed + 1)); code=1; fi
[ $code -eq 0 ] || cat "$work/log"
echo "$passed passed, $failed failed"
exit $code
