#!/usr/bin/env bash
# The walk-through of docs/kubernetes.md, command by command, on a real node: from nothing to a running sandbox, and back to nothing; before
# that, what the page says of a deployment that the server changes (selfupdate.sh).
# What is run is read from the page; what is different here is in `here_it_is`, and nowhere else. Needs root, for a network namespace, and PostgreSQL.
# Ends with `N passed, N failed`.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd) root=$(cd "$here/../.." && pwd)
[ "$(id -u)" = 0 ] || { echo "install.sh needs root"; exit 1; }
export BERM_CLUSTER=${BERM_CLUSTER:-install-$$}
state=${TMPDIR:-/tmp}/berm-cluster-$BERM_CLUSTER
page=$root/docs/kubernetes.md
# How long a part of the page may take.
part_seconds=600

if [ -z "${BERM_INSIDE:-}" ]; then # the cluster, and the rest of this in its network
  helm=$("$root/script/tools" path helm) || exit 1
  trap 'code=$?; [ -n "${BERM_CLUSTER_KEEP:-}" ] || "$here/cluster" down; exit $code' EXIT
  [ -e "$state" ] || "$here/cluster" up services || exit 1
  BERM_INSIDE=1 PATH=$helm:$root/bin:$PATH "$here/cluster" in "$here/install.sh"
  exit
fi

. "$here/lib.sh"
. "$root/test/lib/postgres.sh"
work=$(mktemp -d "${TMPDIR:-/tmp}/berm-install.XXXXXX")
# Nothing of the user's: no context, no server that runs, no repository of charts.
export HOME=$work XDG_CONFIG_HOME=$work/config XDG_STATE_HOME=$work/state XDG_CACHE_HOME=$work/cache XDG_DATA_HOME=$work/share
passed=0 failed=0
# The start of a maintenance window that does not open while this runs.
closed="0 $((($(date -u +%-H) + 6) % 24)) * * *"
finish() {
  local code=$? pod
  if [ $code -ne 0 ]; then
    kubectl get pods,pvc,events -A 2>&1 | tail -n 40
    for pod in berm-gateway-0 berm-gateway-1 berm-runner-0; do echo "--- $pod"; kubectl logs -n berm $pod --tail 15 2>&1; done
  fi
  for pod in "$work"/forward*.pid; do [ ! -s "$pod" ] || kill "$(cat "$pod")" 2>/dev/null; done
  stop_postgres
  rm -rf "$work"
}
trap finish EXIT
check() { # NAME WANT GOT
  if [ "$2" = "$3" ]; then passed=$((passed + 1)); echo "ok      $1"
  else failed=$((failed + 1)); echo "FAILED  $1"; diff <(echo "$2") <(echo "$3") | head -n 20 | sed 's/^/        /'; fi
}
at_last() { # WANT CMD...: what CMD prints, once it prints WANT
  local want=$1 got= i; shift
  for ((i = 0; i < 600; i++)); do got=$("$@" 2>/dev/null); [ "$got" = "$want" ] && break; sleep 0.1; done
  echo "$got"
}

# --- what the page presupposes: volumes, and an image that the node can have
for n in 1 2 3 4 5; do
  install -d -m 755 "$state/volume$n"
  kubectl apply -f - >/dev/null <<Y || exit 1
{apiVersion: v1, kind: PersistentVolume, metadata: {name: volume$n}, spec: {capacity: {storage: 10Gi}, accessModes: [ReadWriteOnce],
 local: {path: "$state/volume$n"}, nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [n1]}]}]}}}}
Y
done
build_tools "$work/tools"
"$here/cluster" image docker.io/library/busybox:1.37 "$work/tools" /bin/sh || exit 1

# here_it_is makes of the page's commands those of this place. There is no registry: what is pushed goes to the node. There is no name
# server: the runner is told the address of the server. What stays in the background is ended.
here_it_is() {
  # Saturday comes when it comes: a window of one minute, in six hours.
  local window="s|\"0 2 \* \* SAT\", duration_seconds: 7200|\"$closed\", duration_seconds: 60|"
  local alias='--set hostAliases[0].hostnames[0]=berm-gateway.berm.svc --set hostAliases[0].ip=$(kubectl get service -n berm berm-gateway -o "jsonpath={.spec.clusterIP}")'
  sed -E -e "s|^crane push ([^ ]+) .*|$here/cluster load \1|" \
    -e "s#^(berm runner join .*) \| sh\$#\1 | sed 's|\$| $alias|' | sh#" \
    -e "$window" -e "s#^(kubectl port-forward .*) &\$#\1 \& echo \$! >$work/forward.pid#"
}
# steps PART: the commands of a part of the page: 1 of the walk-through, before the heading that takes it all away again, 2 after it, or what is
# under a heading. With $SEVERAL the server is installed as the page says of several.
steps() {
  walk "$1" | if [ -n "${SEVERAL:-}" ]; then instead; else cat; fi | here_it_is
}
walk() {
  local heading=$1
  case $1 in 1) heading="From nothing to a running sandbox" ;; 2) heading="And away again" ;; esac
  awk -v want="$heading" '!block && /^###? /{on = (substr($0, index($0, " ") + 1) == want)} /^```/{block = (on && $0 == "```sh"); next} block' "$page"
}
# instead puts what the page says of several servers in the place of the one.
instead() {
  awk '/^## /{on = ($0 == "## What is installed")} /^ *```/{block = (on && $0 == "  ```sh"); next} block' "$page" | sed "s|=postgres://.*|=$DATABASE|" >several.sh
  awk '/^helm install berm-gateway /{while ((getline line <"several.sh") > 0) print line; skip = 1} !skip {print} skip && !/\\$/{skip = 0}'
}
# follow PART: run it as one script. It goes on with the variables of the part before.
follow() {
  local code part=part${1// /-}
  { echo 'set -euo pipefail; [ ! -e variables ] || . ./variables'; steps "$1"; echo 'declare -p BERM_URL BERM_CA_FILE BERM_TOKEN ID >variables'; } >"$part.sh"
  timeout $part_seconds bash -x "$part.sh" >"$part.out" 2>"$part.err" </dev/null
  code=$?
  [ $code -eq 0 ] || { echo "the page fails here ($code):"; tail -n 15 "$part.err" "$part.out"; }
  check "part $1 of the page" 0 $code
  [ $code -eq 0 ] || exit 1
}
ln -s "$root/deploy" "$work/deploy"; cd "$work" || exit 1
for part in 1:21 2:4 "By hand:6" "By the runner itself:4" "A release is offered:9" "It is applied now:2" "It is the owner's again:1"; do
  check "the page has commands: ${part%:*}" yes "$([ "$(steps "${part%:*}" | wc -l)" -ge "${part##*:}" ] && echo yes)"
done
follow 1
. ./variables
check "the sandbox's output" 1 "$(grep -cx "hello from a pod" part1.out)"
check "a command in the sandbox" 1 "$(grep -cxF "$(kubectl get pods -A -l "berm.dev/sandbox-id=$ID" -o 'jsonpath={.items[0].metadata.name}')" part1.out)"
check "explain says where its image is from" "profile profile agent" "$(berm explain "$ID" -o json | jq -r '.fields[] | select(.path == "container_image") | "\(.layer) \(.object)"')"
check "it is a pod of the profile's namespace" sandboxes "$(kubectl get pods -A -l "berm.dev/sandbox-id=$ID" -o 'jsonpath={.items[0].metadata.namespace}')"

# --- what the page says beside its commands
check "the namespace takes restricted pods alone" restricted "$(kubectl get namespace berm -o 'jsonpath={.metadata.labels.pod-security\.kubernetes\.io/enforce}')"
kubectl delete secret -n berm berm-runner-token >/dev/null
kubectl delete pod -n berm berm-runner-0 berm-gateway-0 >/dev/null
# The way to a pod ends with the pod, and there is none to one that is not there yet.
way() { kill -0 "$(cat forward.pid)" 2>/dev/null || { kubectl port-forward -n berm service/berm-gateway 7070 >port-forward.log 2>&1 & echo $! >forward.pid; }; }
still() { way; berm exec "$ID" -- echo still; }
check "server and runner come back, the runner without its token" still "$(at_last still still)"
for file in "$root"/deploy/manifests/*.yaml; do
  check "$(basename "$file"), as an API server takes it" "" "$(sed 's/namespace: berm$/namespace: default/' "$file" | kubectl apply --server-side --force-conflicts --dry-run=server --validate=strict -n default -f - 2>&1 >/dev/null)"
done
several=$(helm template several deploy/helm/berm-gateway -n default --set image=a,tls.secretName=t,database.secretName=db,replicas=3)
check "several servers, as an API server takes it" "" "$(kubectl apply --server-side --dry-run=server --validate=strict -n default -f - <<<"$several" 2>&1 >/dev/null)"
check "each with the address of its pod" 1 "$(grep -cF -- '--advertise=[$(BERM_POD_IP)]:7070' <<<"$several")"
check "several servers need the database" 1 "$(helm template several deploy/helm/berm-gateway --set image=a,tls.secretName=t,replicas=2 2>&1 | grep -c "'/database/secretName'")"
refused=$(helm template berm-runner deploy/helm/berm-runner --set image=a,gateway.url=http://a:1,replicas=2 2>&1)
check "the chart refuses what it does not know, and plain text" 2 "$(grep -c "additional properties 'replicas' not allowed\|'http://a:1' does not match" <<<"$refused")"

. "$here/selfupdate.sh"

left() {
  kubectl get all,pvc,secrets,configmaps,networkpolicies,serviceaccounts,roles,rolebindings -A -l app.kubernetes.io/part-of=berm -o name
  kubectl get clusterroles,clusterrolebindings -o name | grep berm
  kubectl get namespaces -o name | grep -E 'berm|sandboxes'
}
follow 2
check "nothing is left" "" "$(left)"

# --- the same with several servers, over a database
kill "$(cat forward.pid)" 2>/dev/null; rm variables berm.tar berm-*.tar
free_port() { echo 5432; } # in this network nobody else has it, and the chart's policy lets the servers there
PG_HOST=172.30.0.1 start_postgres || exit 1 # the node's address, which pods reach
SEVERAL=1
follow 1
. ./variables
check "there are two servers" 2 "$(kubectl get statefulset -n berm berm-gateway -o 'jsonpath={.status.readyReplicas}')"
# through N CMD...: berm, by way of one of the servers.
forward() { kubectl port-forward -n berm "pod/berm-gateway-$1" "707$(($1 + 1)):7070" >"forward$1.log" 2>&1 & echo $! >"forward$1.pid"; }
through() {
  local n=$1; shift
  kill -0 "$(cat "forward$n.pid" 2>/dev/null)" 2>/dev/null || forward "$n"
  BERM_URL=https://localhost:707$((n + 1)) berm "$@"
}
for n in 0 1; do check "server $n knows the runner" 1 "$(at_last 1 eval "through $n runner list | grep -cw CONNECTED")"; done
ID=$(through 0 run --detach -- sleep 600)
check "what one launched the other reaches" hello "$(at_last hello through 1 exec "$ID" -- echo hello)"
uid=$(kubectl get pod -n berm berm-gateway-0 -o 'jsonpath={.metadata.uid}')
kubectl delete pod -n berm berm-gateway-0 >/dev/null
check "one is deleted: the other reaches the sandbox" still "$(at_last still through 1 exec "$ID" -- echo still)"
check "and launches" new "$(through 1 run -- echo new)"
check "it comes back, as another pod" yes "$(kubectl wait -n berm --for=condition=Ready pod/berm-gateway-0 --timeout=5m >/dev/null && [ "$(kubectl get pod -n berm berm-gateway-0 -o 'jsonpath={.metadata.uid}')" != "$uid" ] && echo yes)"
check "and reaches it, too" back "$(at_last back through 0 exec "$ID" -- echo back)"
check "the way of the page leads there again" still "$(at_last still still)" # It ended with the pod that it was to.
follow 2
check "nothing is left of it" "" "$(left)"

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
