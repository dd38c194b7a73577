#!/usr/bin/env bash
# One gateway, three runners: this machine, a cluster with a real node, and a cluster whose nodes are made up. The runners reach the
# gateway over TLS, with an authority of its own. Those on clusters are processes without any right on the machine, and may do on their
# cluster what docs/kubernetes.md says and no more. Needs root, for network namespaces. Ends with `N passed, N failed`.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd) root=$(cd "$here/../.." && pwd)
[ "$(id -u)" = 0 ] || { echo "runners.sh needs root"; exit 1; }
export BERM_CLUSTER=${BERM_CLUSTER:-runners-$$}
REAL=$BERM_CLUSTER MADE=$BERM_CLUSTER-made ADDRESS=172.31.7.1
on() { local name=$1; shift; BERM_CLUSTER=$name "$here/cluster" "$@"; }
in_net() { local name=$1; shift; nsenter --net="/run/netns/berm-$name" -- "$@"; }
state_of() { echo "${TMPDIR:-/tmp}/berm-cluster-$1"; }

if [ -z "${BERM_INSIDE:-}" ]; then # two clusters, a way between their networks, and the rest of this in that of the first
  trap 'code=$?; [ -n "${BERM_CLUSTER_KEEP:-}" ] || { on "$REAL" down; on "$MADE" down; }; exit $code' EXIT
  [ -e "$(state_of "$REAL")" ] || on "$REAL" up all || exit 1
  [ -e "$(state_of "$MADE")" ] || on "$MADE" up api || exit 1
  in_net "$REAL" ip link show gw0 >/dev/null 2>&1 || {
    in_net "$REAL" ip link add gw0 type veth peer name gw1 netns "berm-$MADE"
    in_net "$REAL" ip addr add $ADDRESS/30 dev gw0; in_net "$REAL" ip link set gw0 up
    in_net "$MADE" ip addr add 172.31.7.2/30 dev gw1; in_net "$MADE" ip link set gw1 up
  }
  in_net "$REAL" env BERM_INSIDE=1 "$here/runners.sh" "$@"
  exit
fi

. "$here/lib.sh"
. "$root/test/lib/server.sh"
declare -A PIDS=()
end() { # RUNNER [SIGNAL]
  local pid=${PIDS[$1]:-}
  [ -z "$pid" ] || { kill "-${2:-TERM}" "$pid" 2>/dev/null; wait "$pid" 2>/dev/null; unset "PIDS[$1]"; }
}
finish_all() {
  local code=$? name
  for name in $("$BERM" ls -o json 2>/dev/null | jq -r '.[].sandboxId // empty'); do "$BERM" stop "$name" --grace 0 >/dev/null 2>&1; done
  for name in "${!PIDS[@]}"; do end "$name"; done
  if [ $code -ne 0 ]; then for name in edge real made; do echo "--- last lines of $name"; tail -n 8 "$WORK/$name.log" 2>/dev/null; done; fi
  (exit $code); finish
}
trap finish_all EXIT

passed=0 failed=0
check() { # NAME WANT GOT
  if [ "$2" = "$3" ]; then passed=$((passed + 1)); echo "ok      $1"
  else failed=$((failed + 1)); echo "FAILED  $1"; diff <(echo "$2") <(echo "$3") | head -n 20 | sed 's/^/        /'; fi
}
has() { # NAME PART TEXT
  case $3 in *"$2"*) check "$1" "" "";; *) check "$1" "$2" "$3";; esac
}
at_last() { # WANT CMD...: what CMD prints, once it prints WANT
  local want=$1 got= i; shift
  for ((i = 0; i < 600; i++)); do got=$("$@" 2>/dev/null); [ "$got" = "$want" ] && break; sleep 0.1; done
  echo "$got"
}
problem() { "$BERM" runner get "$1" -o json | jq -r '.installError | "\(.reason) \(.message)"'; }
status() { "$BERM" runner get "$1" -o json | jq -r '"\(.installStatus) \(.connectionStatus)"' | sed 's/RUNNER_[A-Z]*_STATUS_//g'; }
state() { "$BERM" get "$1" -o json | jq -r .sandboxStatus | sed 's/SANDBOX_STATUS_//'; }
# said SANDBOX PATH: value and layer of a field. pod CLUSTER SANDBOX FILTER: of the pod that the API server holds.
said() { "$BERM" explain "$1" -o json | jq -r --arg p "$2" '.fields[] | select(.path == $p) | "\(.value | if type == "string" then . else tojson end) \(.layer)"'; }
pod() { on "$1" k get pods -A -l "berm.dev/sandbox-id=$2" -o json | jq -r ".items[0] | $3"; }

# start RUNNER CMD...: a runner, in the background.
start() { local name=$1; shift; "$@" >>"$WORK/$name.log" 2>&1 & PIDS[$name]=$!; }

# --- what a cluster's owner does: an account for the runner, with a kubeconfig
install -m 755 "$BERM" "$WORK/berm"; BERM=$WORK/berm; chmod 755 "$WORK"
account() { # CLUSTER
  local kubeconfig=$WORK/$1.kubeconfig
  on "$1" k create namespace berm >/dev/null
  on "$1" k apply -f "$root/deploy/manifests/runner-account.yaml" >/dev/null
  install -m 644 "$(state_of "$1")/tls.crt" "$kubeconfig.crt"
  cat >"$kubeconfig" <<Y
{apiVersion: v1, kind: Config, current-context: runner, contexts: [{name: runner, context: {cluster: c, user: runner}}],
 clusters: [{name: c, cluster: {server: "https://127.0.0.1:${2:-6443}", certificate-authority: "$kubeconfig.crt"}}],
 users: [{name: runner, user: {token: "$(on "$1" k create token berm-runner -n berm --duration 1h)"}}]}
Y
  chmod 644 "$kubeconfig"
}
node() { # CLUSTER NAME TYPE: a node that says it is ready; no kubelet is behind it
  on "$1" k apply -f - >/dev/null <<<"{apiVersion: v1, kind: Node, metadata: {name: $2, labels: {node.kubernetes.io/instance-type: $3}}}"
  on "$1" k patch node "$2" --subresource=status -p '{"status": {"allocatable": {"cpu": "8", "memory": "64Gi", "pods": "110", "nvidia.com/gpu": "4"},
    "nodeInfo": {"architecture": "amd64"}, "conditions": [{"type": "Ready", "status": "True"}]}}' >/dev/null
  on "$1" k taint node "$2" node.kubernetes.io/not-ready- >/dev/null 2>&1
}
# The way to the API server of the made-up cluster can be cut: it goes over a port of its own.
way() { start way nsenter --net="/run/netns/berm-$MADE" -- python3 "$here/way.py" 6444 6443; }
account "$REAL"; account "$MADE" 6444; way
build_init "$WORK/init"; build_tools "$WORK/tools"
on "$REAL" image localhost/berm-init:test "$WORK/init" /berm-shim
on "$REAL" image localhost/tools:test "$WORK/tools" /bin/sh

# --- the gateway, with a certificate of an authority that nothing knows
new_key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
openssl req -x509 "${new_key[@]}" -days 2 -subj /CN=authority -keyout "$WORK/ca.key" -out "$WORK/ca.pem" 2>/dev/null
openssl req "${new_key[@]}" -subj /CN=gateway -keyout "$WORK/gw.key" -out "$WORK/gw.csr" 2>/dev/null
openssl x509 -req -in "$WORK/gw.csr" -CA "$WORK/ca.pem" -CAkey "$WORK/ca.key" -CAcreateserial -days 2 -extfile <(echo "subjectAltName=IP:$ADDRESS") -out "$WORK/gw.pem" 2>/dev/null
chmod 644 "$WORK/ca.pem"
export BERM_CA_FILE=$WORK/ca.pem CURL_CA_BUNDLE=$WORK/ca.pem
HOST=$ADDRESS SCHEME=https; serve --tls-cert "$WORK/gw.pem" --tls-key "$WORK/gw.key" || exit 1

# What a runner on a cluster is: a process without any right on this machine.
nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set -all --no-new-privs env -i)
join() { "$BERM" runner create "$1" --zone local --cluster "$1" --profile agent >/dev/null && "$BERM" runner join "$1" -o json | jq -r .token; }
start_kube() { # RUNNER CLUSTER [arguments of berm runner]
  local name=$1 cluster=$2; shift 2
  install -d -o 65534 -g 65534 -m 700 "$WORK/$name"
  start "$name" nsenter --net="/run/netns/berm-$cluster" -- "${nobody[@]}" "$BERM" runner --gateway "$BERM_URL" --ca "$WORK/ca.pem" --data "$WORK/$name" \
    --backend kube --kubeconfig "$WORK/$cluster.kubeconfig" --kube-init-image localhost/berm-init:test --kube-network recorded "$@"
}

cat >"$WORK/agent.yaml" <<'Y'
display_name: agent
spec:
  container_image: localhost/tools:test
  resource_defaults: {cpu_limit: 500m, memory_limit: 64Mi}
  network:
    ingress:
      modes:
        within: {scope: any}
        web: {scope: any, ingress: {controllerName: nobody, template: "{{.SandboxID}}.sandboxes.example"}}
        edge: {scope: any, ingress: {template: "{{.SandboxID}}.sandboxes.example", gateway: {name: edge, namespace: gateways}}}
Y
"$BERM" profile create -f "$WORK/agent.yaml" >/dev/null || exit 1
on "$MADE" k apply -f - >/dev/null <<<'{apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: gvisor}, handler: runsc}'
on "$MADE" k apply -f - >/dev/null <<<'{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Namespace, metadata: {name: lab}}, {apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: lab}}]}' # no controller does it there
on "$MADE" k delete node --all >/dev/null
edge=$(join edge) real=$(join real) made=$(join made)
start edge "$BERM" runner --gateway "$BERM_URL" --ca "$WORK/ca.pem" --data "$WORK/edge" --token "$edge"
start_kube real "$REAL" --token "$real"
start_kube made "$MADE" --token "$made"
for name in edge real made; do check "runner $name comes, over TLS" "READY CONNECTED" "$(at_last "READY CONNECTED" status $name)"; done
start other "$BERM" runner --gateway "$BERM_URL" --data "$WORK/other" --token none
check "another authority is not believed" 1 "$(at_last 1 grep -cm1 x509 "$WORK/other.log")"
end other

# --- what a cluster gives changes while its runner is there
room() { api GET "/v1beta2/runners/$1" | head -n -1 | jq -r '.capabilities | "\(.maxCpuMillicores) \(.maxGpuCount)"'; }
check "a cluster without nodes has no room" "0 0" "$(room made)"
has "a launch there is refused, with the reason" "the whole runner has 0" "$("$BERM" run -d --runner made --profile agent -- true 2>&1)"
node "$MADE" fake-1 fake.large; node "$MADE" fake-2 fake.small
check "nodes come: the gateway knows, without a restart" "16000 8" "$(at_last "16000 8" room made)"
on "$MADE" k delete node fake-2 >/dev/null
check "one goes" "8000 4" "$(at_last "8000 4" room made)"
ready() { on "$MADE" k patch node fake-1 --subresource=status -p "{\"status\": {\"conditions\": [{\"type\": \"Ready\", \"status\": \"$1\"}]}}" >/dev/null; }
ready Unknown
check "one does not answer any more: it has no room" "0 0" "$(at_last "0 0" room made)"
ready True
check "it answers again" "8000 4" "$(at_last "8000 4" room made)"

# --- one profile, three bindings of it, three outcomes
override() { "$BERM" runner bind "$1" agent --overrides - >/dev/null || exit 1; }
override edge <<<'{container_image: host, resource_defaults: {memory_limit: 96Mi}}'
override real <<<'{resource_defaults: {memory_limit: 128Mi}, node_selector: {kubernetes.io/hostname: n1}, namespace: {strategy: per-profile}}'
override made <<<'{runtime_class: gvisor, instance_types: [fake.large], namespace: {strategy: static, static_namespace: lab, auto_create: true}}'
declare -A ID=()
launch() { ID[$1]=$("$BERM" run -d --runner "$1" --profile agent "${@:2}" -- sleep infinity) || exit 1; }
for name in edge real made; do launch $name; done
for name in edge real made; do
  image=$([ $name = edge ] && echo host override || echo localhost/tools:test profile)
  check "$name: image and CPU" "$image, 500m profile" "$(said "${ID[$name]}" container_image), $(said "${ID[$name]}" resource_defaults.cpu_limit)"
done
for name in edge real; do check "$name: it runs" RUNNING "$(at_last RUNNING state "${ID[$name]}")"; done
check "edge: memory of its override" "96Mi override" "$(said "${ID[edge]}" resource_defaults.memory_limit)"
check "edge: that is what holds" 100663296 "$(find /sys/fs/cgroup -path "*${ID[edge]}*" \( -name memory.limit_in_bytes -o -name memory.max \) -exec cat {} + 2>/dev/null | grep -v max | sort -u | head -n 1)"
real_pod='"\(.spec.containers[0].resources.limits.memory) \(.spec.nodeSelector["kubernetes.io/hostname"]) \(.spec.nodeName) \(.spec.runtimeClassName)"'
check "real: memory and node of its override" '128Mi override, {"kubernetes.io/hostname":"n1"} override' "$(said "${ID[real]}" resource_defaults.memory_limit), $(said "${ID[real]}" node_selector)"
check "real: that is what its API server has" "128Mi n1 n1 null" "$(pod "$REAL" "${ID[real]}" "$real_pod")"
check "real: commands, by an account without rights on the machine" "hello n1" "$("$BERM" exec "${ID[real]}" -- echo hello) $(pod "$REAL" "${ID[real]}" .spec.nodeName)"
made_pod='"\(.spec.containers[0].resources.limits.memory) \(.spec.runtimeClassName) \(.metadata.namespace) \(.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values)"'
check "made: runtime class, instance types, namespace of its override" 'gvisor override, ["fake.large"] override, "lab override"' \
  "$(said "${ID[made]}" runtime_class), $(said "${ID[made]}" instance_types), \"$(said "${ID[made]}" namespace.static_namespace)\""
check "made: that is what its API server has" '64Mi gvisor lab ["fake.large"]' "$(pod "$MADE" "${ID[made]}" "$made_pod")"
check "made: no node takes it, and it is not said to run" CREATING "$(state "${ID[made]}")"
check "none of it is on another cluster" "0 0" "$(on "$MADE" k get pods -A -l "berm.dev/sandbox-id=${ID[real]}" -o name | wc -l) $(on "$REAL" k get pods -A -l "berm.dev/sandbox-id=${ID[made]}" -o name | wc -l)"

# --- one managed runner per cluster
twin=$("$BERM" runner create twin --zone local --cluster twin --profile agent >/dev/null && "$BERM" runner join twin -o json | jq -r .token)
start_kube twin "$REAL" --token "$twin"; wait "${PIDS[twin]}"; unset "PIDS[twin]"
has "a cluster is one runner" "this machine or cluster is runner real already" "$(cat "$WORK/twin.log")"
has "a flag of machines says nothing about a cluster" "goes with --backend local" "$("$BERM" runner --gateway "$BERM_URL" --data "$WORK/other" --backend kube --runtime crun 2>&1)"

cp -a "$WORK/real" "$WORK/thief"
start_kube thief "$MADE"; wait "${PIDS[thief]}"; unset "PIDS[thief]"
has "its credential is of no use on another" "was given to another machine, directory or cluster" "$(cat "$WORK/thief.log")"

# --- what a sandbox costs the API server, by its own account
asked() { # the requests of the runner from line $1 of the audit log on, but those that connect, sorted: verb and resource
  tail -n "+$(($1 + 1))" "$(state_of "$REAL")/audit.log" | jq -r 'select(.verb != "watch" and .objectRef.subresource == null) | "\(.verb) \(.objectRef.resource // .requestURI)"' | sort | paste -sd,
}
lines() { wc -l <"$(state_of "$REAL")/audit.log"; }
run_one() { # further JSON fields: a sandbox that ends by itself, followed to its end
  local id; id=$(api POST /v1beta2/sandboxes "{\"runnerIds\": [\"real\"], \"profileNames\": [\"agent\"], \"command\": \"sleep\", \"args\": [\"3\"] ${1:+, $1}}" | head -n -1 | jq -re .sandboxId) &&
    at_last COMPLETED state "$id"
}
cost() { # NAME RESOURCES [further JSON fields]: what one takes: each of the resources is written once and deleted once, and nothing is asked
  local before want; before=$(lines)
  want=$(for r in $2; do printf 'delete %s\npatch %s\n' "$r" "$r"; done | sort | paste -sd,)
  check "$1 runs and ends" COMPLETED "$(run_one "${3:-}")"
  check "$1 takes $2, and no question" "$want" "$(at_last "$want" asked "$before")"
}
file='"mountedFiles": [{"mountPath": "/note", "fileContent": "bm90ZQ=="}]'
at() { echo "\"ports\": [{\"containerPort\": 8080}], \"network\": {\"ingressMode\": \"$1\", \"exposedPorts\": [8080]}"; }
cost "a sandbox" pods
cost "one with a file" "pods secrets" "$file"
has "a Gateway is refused on a cluster that has none" "does not serve httproutes of gateway.networking.k8s.io/v1" "$("$BERM" run -d --runner real --profile agent --ingress edge --expose 8080 -- true 2>&1)"
crds=$(gateway_api) || exit 1
for kind in gatewayclasses gateways httproutes; do on "$REAL" k create -f "$crds/gateway.networking.k8s.io_$kind.yaml" >/dev/null; done
on "$REAL" k wait --for=condition=Established crd --all --timeout=2m >/dev/null
before=$(lines)
check "there are HTTPRoutes: one with a Gateway runs and ends" COMPLETED "$(at_last COMPLETED run_one "$(at edge)")"
has "it is asked whether there are, once" ",get /apis/gateway.networking.k8s.io/v1,patch" "$(asked "$before")"
cost "one with a port" "pods services" "$(at within)"
cost "one with a host" "pods services ingresses" "$(at web)"
cost "one with a host at a Gateway" "pods services httproutes" "$(at edge)"
end real
start_kube real "$REAL" --kube-network policies
check "real comes back, with policies" "READY CONNECTED" "$(at_last "READY CONNECTED" status real)"
untried() { "$BERM" runner describe real | grep -c "not tried yet"; }
check "and has tried them" 0 "$(at_last 0 untried)"
check "a first one, for which it asks for the namespace and HTTPRoutes" COMPLETED "$(run_one "$(at edge)")"
cost "one with a policy" "pods networkpolicies"
cost "one with all of them" "pods networkpolicies secrets services httproutes" "$file, $(at edge)"

# --- and what it costs that sandboxes run: nothing
for mode in within web edge; do
  ID[$mode]=$("$BERM" run -d --runner real --profile agent --ingress "$mode" --expose 8080 -- sleep infinity) || exit 1
  check "one runs at $mode" RUNNING "$(at_last RUNNING state "${ID[$mode]}")"
done
address() { "$BERM" get "${ID[$1]}" | sed -n 's/^Address: *//p'; }
none="none yet (edge): 8080; the cluster has no Gateway gateways/edge"
check "where one is reached is told" "${ID[web]}.sandboxes.example (web): 8080" "$(at_last "${ID[web]}.sandboxes.example (web): 8080" address web)"
check "and what stands in the way of it" "$none" "$(at_last "$none" address edge)"
beats() { "$BERM" runner get real -o json | jq -r .lastHeartbeatAt; }
beaten() { [ "$(beats)" = "$1" ] || echo yes; }
check "real gives a sign of life" yes "$(at_last yes beaten "$(beats)")"
before=$(lines)
for beat in second third fourth; do check "and a $beat" yes "$(at_last yes beaten "$(beats)")"; done
check "it asks nothing meanwhile" "" "$(asked "$before")"
for mode in within web edge; do "$BERM" stop "${ID[$mode]}" --grace 0 >/dev/null; done
end real
start_kube real "$REAL"
check "real comes back" "READY CONNECTED" "$(at_last "READY CONNECTED" status real)"

# --- the runner's process is killed: what is on the cluster stays, and is found again
end real KILL
check "real is killed" "READY DISCONNECTED" "$(at_last "READY DISCONNECTED" status real)"
start_kube real "$REAL"
check "real comes back, without a token" "READY CONNECTED" "$(at_last "READY CONNECTED" status real)"
check "its sandbox went on" "still" "$("$BERM" exec "${ID[real]}" -- echo still)"

# --- what is wrong is said, with what to do, and is over when it is over
end way
check "an API server that is away" "FAILED CONNECTED" "$(at_last "FAILED CONNECTED" status made)"
has "is the reason" "CLUSTER_UNREACHABLE its cluster cannot be reached" "$(problem made)"
has "and comes with a hint" "# hint: Is the API server up" "$("$BERM" runner get made)"
has "nothing is launched there meanwhile" "its cluster cannot be reached" "$("$BERM" run -d --runner made --profile agent -- true 2>&1)"
end made KILL
check "its runner is killed meanwhile" "FAILED DISCONNECTED" "$(at_last "FAILED DISCONNECTED" status made)"
start_kube made "$MADE"
check "comes back, and says that it knows nothing" "FAILED CONNECTED" "$(at_last "FAILED CONNECTED" status made)"
check "nothing is taken for lost" CREATING "$(state "${ID[made]}")"
way
check "the API server is back" "READY CONNECTED" "$(at_last "READY CONNECTED" status made)"
check "and what is on the cluster is known again" "CREATING CURRENT" "$(state "${ID[made]}") $("$BERM" explain "${ID[made]}" -o json | jq -r .observation)"
end real
on "$REAL" k get clusterrole berm:berm-runner -o json | jq '.rules |= map(select(.resources != ["pods/exec"]))' | on "$REAL" k apply -f - >/dev/null
start_kube real "$REAL"
check "an account that may not do all" "FAILED CONNECTED" "$(at_last "FAILED CONNECTED" status real)"
check "is told what it lacks" "CLUSTER_FORBIDDEN its account may not get pods/exec, create pods/exec" "$(problem real)"
on "$REAL" k apply -f "$root/deploy/manifests/runner-account.yaml" >/dev/null
check "and works when it has it, without a restart" "READY CONNECTED" "$(at_last "READY CONNECTED" status real)"
check "its sandbox went on all the time" "still" "$("$BERM" exec "${ID[real]}" -- echo still)"

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
