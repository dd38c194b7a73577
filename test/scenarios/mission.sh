#!/usr/bin/env bash
# The statements of the specifying document, one check each, with nothing but curl and the CLI against `berm serve` with two runners:
# on this machine, or with the argument `kube` on the cluster of $KUBECONFIG, which kube.sh of test/cluster makes and calls this for.
# Ends with `N of N statements hold` and `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/../.."
. test/lib/server.sh
. "test/scenarios/mission.${1:-local}.sh" # what differs: IMAGE, RUNNERS, and how the same is seen from outside and from within
trap finish EXIT

passed=0 failed=0
check() { # statement, command...
  local what=$1; shift
  if "$@" >"$WORK/out" 2>&1; then passed=$((passed + 1)); echo "ok      $what"
  else failed=$((failed + 1)); echo "FAILED  $what"; sed 's/^/        /' "$WORK/out" | head -n 12; fi
}
is() { [ "$1" = "$2" ] || { echo "got '$1', want '$2'"; return 1; }; }
has() { grep -qF -- "$2" <<<"$1" || { echo "no '$2' in: $1"; return 1; }; }

# explain SANDBOX PATH KEY: one key of one field.
explain() { "$BERM" explain "$1" -o json | jq -r --arg p "$2" --arg k "$3" '.fields[] | select(.path == $p) | .[$k] | if type == "string" then . else tojson end'; }
start() { # runner, extra json fields: prints the sandbox id
  api POST /v1beta2/sandboxes "{\"runnerIds\": [\"$1\"], \"profileNames\": [\"agent\"], \"command\": \"sleep\", \"args\": [\"infinity\"] ${2:+, $2}}" | head -n -1 | jq -re .sandboxId
}
running() { # sandbox: waits until it runs
  local i; for ((i = 0; i < 600; i++)); do
    case $("$BERM" get "$1" -o json | jq -r .sandboxStatus) in SANDBOX_STATUS_RUNNING) return 0 ;; SANDBOX_STATUS_FAILED) "$BERM" get "$1"; return 1 ;; esac
    sleep 0.1
  done; echo "$1 never ran"; return 1
}
both_run() { running "$1" && running "$2"; }
status_of() { tail -n 1 <<<"$1"; }
body_of() { head -n -1 <<<"$1"; }

serve --runner east=us-east --runner west=us-west "${RUNNERS[@]}" || exit 1

# Layers: zone us-east sets tags; the profile sets image, CPU, memory and a selector; the override on west changes the selector.
api PUT /berm/v1/zones/us-east '{"zone": {"defaults": {"tags": ["from-zone"], "resource_defaults": {"cpu_request": "50m", "cpu_limit": "3"}}}}' >/dev/null
api PUT /berm/v1/zones/us-west '{"zone": {"defaults": {"tags": ["west-zone"], "resource_defaults": {"cpu_request": "50m"}}}}' >/dev/null
cat > "$WORK/agent.yaml" <<Y
display_name: agent
spec:
  container_image: $IMAGE
  resource_defaults: {cpu_limit: "1", memory_limit: 256Mi, memory_request: 64Mi}
  node_selector: {pool: general}
  network:
    egress:
      default: offline
      modes: {offline: {type: none}}
Y
PROFILE=$("$BERM" profile create -f "$WORK/agent.yaml" -o json | jq -r .id)
bindings() { # override of west's agent binding
  printf '{"runner": {"profileBindings": [{"profileTemplateId": "%s", "isDefault": true%s}]}, "updateMask": "profile_bindings"}' "$PROFILE" "${1:+, \"overridesJson\": $1}"
}
api PATCH /v1beta2/sandbox/managed-runners/east "$(bindings)" >/dev/null
api PATCH /v1beta2/sandbox/managed-runners/west "$(bindings '"{\"node_selector\": {\"site\": \"west\"}}"')" >/dev/null

E1=$(start east); W1=$(start west)
check "a sandbox runs on each of two runners" both_run "$E1" "$W1"
check "a zone default shows through where nothing above sets the field" is "$(explain "$E1" tags value) $(explain "$E1" tags layer)" '["from-zone"] zone'
check "each runner has the defaults of its own zone" is "$(explain "$W1" tags value)" '["west-zone"]'
check "the profile beats the zone" is "$(explain "$E1" resource_defaults.cpu_limit value) $(explain "$E1" resource_defaults.cpu_limit layer)" "1 profile"
check "what the profile beat is told" has "$(explain "$E1" resource_defaults.cpu_limit shadowed)" '"layer":"zone"'
check "messages merge: the zone's cpu_request stays beside the profile's cpu_limit" is "$(explain "$E1" resource_defaults.cpu_request layer)" zone
check "the override beats the profile on its runner" is "$(explain "$W1" node_selector value) $(explain "$W1" node_selector layer)" '{"site":"west"} override'
check "and on no other runner" is "$(explain "$E1" node_selector value) $(explain "$E1" node_selector layer)" '{"pool":"general"} profile'
check "an override with only node_selector leaves the rest" is "$(explain "$W1" resource_defaults.memory_limit value) $(explain "$W1" container_image layer)" "256Mi profile"
check "explain names object and revision" is "$(explain "$W1" resource_defaults.cpu_limit object) $(explain "$W1" resource_defaults.cpu_limit revision)" "profile agent 1"

R1=$(start east '"resources": {"cpu": "500m", "memory": "128Mi"}'); running "$R1" || exit 1
check "the request beats profile and override inside the ceiling" is "$(explain "$R1" resource_defaults.cpu_limit value) $(explain "$R1" resource_defaults.cpu_limit layer)" "500m request"
OVER=$(api POST /v1beta2/sandboxes '{"runnerIds": ["east"], "profileNames": ["agent"], "resources": {"cpu": "4", "memory": "1Gi"}}')
check "a request above the profile is refused, not clamped" is "$(status_of "$OVER")" 400
check "the refusal names the reason, the value and the limit" has "$(body_of "$OVER")" CWSANDBOX_PROFILE_MISMATCH
check "and both violations at once" test "$(body_of "$OVER" | grep -o 'resource_defaults.[a-z]*_limit' | sort -u | wc -l)" = 2
check "a refusal leaves no sandbox behind" is "$(api GET '/v1beta2/sandboxes?includeStopped=true' | head -n -1 | jq '.sandboxes | length')" 3

# The limit is on the group that all others of the sandbox are below: the one with the shortest path.
outermost() { awk '{print length($0), $0}' | sort -n | cut -d' ' -f2 | head -n 1; }
cgroup() { # sandbox, v1 controller/file, v2 file
  local name f; name=$(cgroup_name "$1")
  f=$(find /sys/fs/cgroup -path "*$name*" -name "$(basename "$2")" -path "*/${2%%/*}/*" 2>/dev/null | outermost)
  [ -n "$f" ] || f=$(find /sys/fs/cgroup -path "*$name*" -name "$3" 2>/dev/null | outermost)
  cat "$f"
}
check "N CPUs, M GB: the memory limit is in the cgroup" is "$(cgroup "$R1" memory/memory.limit_in_bytes memory.max)" $((128 << 20))
check "N CPUs, M GB: the CPU limit is in the cgroup" has "$(cgroup "$R1" cpu/cpu.cfs_quota_us cpu.max)" 50000
check "no internet egress: refused when asked for" has "$(api POST /v1beta2/sandboxes '{"runnerIds": ["east"], "profileNames": ["agent"], "network": {"egressMode": "internet"}}')" CWSANDBOX_PROFILE_MISMATCH
check "no internet egress: a connect inside fails" is "$(connect "$E1" 192.0.2.1 80)" blocked
check "no internet egress: nothing leads out of the sandbox" is "$(ways_out "$E1")" ""

BEFORE=$("$BERM" explain "$E1" -o json | jq -c .fields)
api PATCH "/v1beta2/sandbox/profile-templates/$PROFILE" '{"profileTemplate": {"spec": {"containerImage": "'"$IMAGE"'", "resourceDefaults": {"cpuLimit": "700m", "memoryLimit": "256Mi"}, "networkConfigJson": "{\"egress\": {\"default\": \"offline\", \"modes\": {\"offline\": {\"type\": \"none\"}}}}"}}, "updateMask": "spec"}' >"$WORK/patch"
check "a profile edit is accepted" is "$(tail -n 1 "$WORK/patch")" 200
E2=$(start east); W2=$(start west)
check "what is launched then runs" both_run "$E2" "$W2"
check "a profile edit changes the next launch" is "$(explain "$E2" resource_defaults.cpu_limit value) $(explain "$E2" resource_defaults.cpu_limit revision)" "700m 2"
check "on every runner that binds it" is "$(explain "$W2" resource_defaults.cpu_limit value)" 700m
check "and no running sandbox" is "$("$BERM" explain "$E1" -o json | jq -c .fields)" "$BEFORE"
check "the running sandbox's cgroup is as it was" has "$(cgroup "$E1" cpu/cpu.cfs_quota_us cpu.max)" 100000

OTHER=$("$BERM" profile create -f - -o json <<<"{display_name: other, spec: {container_image: $IMAGE}}" | jq -r .id)
two() { printf '{"runner": {"profileBindings": [{"profileTemplateId": "%s", "isDefault": %s}, {"profileTemplateId": "%s", "isDefault": %s}]}, "updateMask": "profile_bindings"}' "$PROFILE" "$1" "$OTHER" "$2"; }
names() { api GET /v1beta2/sandbox/managed-runners/east | head -n -1 | jq -c '[.profileBindings[].profileTemplateId] | length'; }
check "a binding PATCH adds a binding" is "$(api PATCH /v1beta2/sandbox/managed-runners/east "$(two true false)" | tail -n 1) $(names)" "200 2"
check "two defaults are refused as a whole" is "$(api PATCH /v1beta2/sandbox/managed-runners/east "$(two true true)" | tail -n 1) $(names)" "400 2"
check "no default is refused as a whole" is "$(api PATCH /v1beta2/sandbox/managed-runners/east "$(two false false)" | tail -n 1) $(names)" "400 2"
check "an empty list is refused as a whole" is "$(api PATCH /v1beta2/sandbox/managed-runners/east '{"runner": {"profileBindings": []}, "updateMask": "profile_bindings"}' | tail -n 1) $(names)" "400 2"
check "a binding PATCH that omits a binding removes it" is "$(api PATCH /v1beta2/sandbox/managed-runners/east "$(bindings)" | tail -n 1) $(names)" "200 1"
check "a launch that names no profile gets the default binding" is "$(api POST /v1beta2/sandboxes '{"runnerIds": ["east"], "command": "true"}' | head -n -1 | jq -r .profileId)" agent
check "a profile that is bound is not deleted" has "$(api DELETE "/v1beta2/sandbox/profile-templates/$PROFILE")" PROFILE_BOUND
GUARDED=$("$BERM" profile create -f - -o json <<<"{display_name: guarded, spec: {container_image: $IMAGE, guardrails: {resources: {max_cpu: '2'}}}}" | jq -r .id)
WIDEN=$(api PATCH /v1beta2/sandbox/managed-runners/east "$(printf '{"runner": {"profileBindings": [{"profileTemplateId": "%s", "isDefault": true, "overridesJson": "{\\"guardrails\\": {\\"resources\\": {\\"max_cpu\\": \\"4\\"}}}"}]}, "updateMask": "profile_bindings"}' "$GUARDED")")
check "an override that would widen a guardrail is refused when it is written" is "$(status_of "$WIDEN")" 400
check "the refusal names both values" has "$(body_of "$WIDEN")" '4'
check "and nothing changed" is "$(status_of "$WIDEN") $(names)" "400 1"
check "no token: 401 with a Status body" is "$(curl -s -o "$WORK/401" -w '%{http_code}' "$BERM_URL/v1beta2/sandboxes") $(jq -r .code "$WORK/401")" "401 16"

echo "$passed of $((passed + failed)) statements hold"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
