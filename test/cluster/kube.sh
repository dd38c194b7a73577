#!/usr/bin/env bash
# Run the Kubernetes backend against a real node: the backend contract, and what may go wrong on a cluster. With arguments, they are
# given to the tests (-test.run X). The last line is `N passed, N failed`.
set -euo pipefail
cd "$(dirname "$0")"
export BERM_CLUSTER=${BERM_CLUSTER:-kube-$$}
here=$PWD root=$(cd ../.. && pwd)

work=$(mktemp -d "${TMPDIR:-/tmp}/berm-kube.XXXXXX")
finish() { local code=$?; [ -n "${BERM_CLUSTER_KEEP:-}" ] || ./cluster down; rm -rf "$work"; exit $code; }
trap finish EXIT

# Compiled outside: inside the namespace there is no network, not even for a module that is missing.
(cd "$root" && go test -c -tags cluster -o "$work/kube.test" ./internal/backend/kube)
mkdir -p "$work/init" "$work/tools/bin" "$work/tools/tmp" "$work/tools/workspace" "$work/tools/usr" "$work/tools/etc"
(cd "$root" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$work/init/berm-shim" ./cmd/berm-shim)
cp "$(command -v busybox)" "$work/tools/bin/busybox"
for tool in sh true false echo cat sleep printenv pwd head stty env mkdir rm kill ls dd; do ln -s busybox "$work/tools/bin/$tool"; done
chmod 1777 "$work/tools/tmp"
# Debian's busybox lacks a tool that the contract needs: the machine's own, with the libraries that it names.
rm -f "$work/tools/bin/printenv"
cp "$(command -v printenv)" "$work/tools/bin/printenv"
for library in $(ldd "$(command -v printenv)" | grep -oE '/[^ ]+'); do install -D "$library" "$work/tools$library"; done

state=${TMPDIR:-/tmp}/berm-cluster-$BERM_CLUSTER
[ -e "$state" ] || ./cluster up all
./cluster image localhost/berm-init:test "$work/init" /berm-shim
./cluster image localhost/tools:test "$work/tools" /bin/sh
code=0
export BERM_CLUSTER_STATE=$state
(cd "$root/internal/backend/kube" && "$here/cluster" in "$work/kube.test" -test.v -test.timeout 10m -test.run '^(TestContract|TestFault)' "$@") >"$work/log" 2>&1 || code=$?

passed=$(grep -cE '^ *--- PASS: ' "$work/log" || true)
failed=$(grep -cE '^ *--- FAIL: ' "$work/log" || true)
if [ $code -ne 0 ] && [ "$failed" -eq 0 ] || [ "$passed" -eq 0 ]; then failed=$((failed + 1)); code=1; fi
[ $code -eq 0 ] || cat "$work/log"
echo "$passed passed, $failed failed"
exit $code
