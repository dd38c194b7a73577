#!/usr/bin/env bash
# Bad input, with nothing but curl and the CLI against `berm serve`: each case gets the right status or exit code and a message that
# says what, where and what to do, and changes nothing. Needs root, for sandboxes and for the disks and users it makes.
# Ends with `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/../.."
. test/lib/server.sh
second_pid=
tidy() { # the further servers and mounts of this script, then what server.sh has made
  local code=$?
  [ -z "$second_pid" ] || { kill "$second_pid" && wait "$second_pid"; } 2>/dev/null
  grep -F " $WORK/disk" /proc/mounts | cut -d' ' -f2 | sort -r | xargs -r umount 2>/dev/null
  (exit $code); finish
}
trap tidy EXIT
[ "$(id -u)" = 0 ] || { echo "bad_input.sh needs root"; exit 1; }

passed=0 failed=0
ok() { passed=$((passed + 1)); echo "ok      $1"; }
bad() { failed=$((failed + 1)); echo "FAILED  $1"; shift; printf '%s\n' "$@" | cut -c1-1200 | sed 's/^/        /'; }

# state prints everything that is configured and every sandbox, without what changes by itself.
state() {
  [ -z "$unknowable" ] || return 0
  curl -sS -H "Authorization: Bearer $BERM_TOKEN" "$BERM_URL/v1beta2/sandbox/profile-templates" "$BERM_URL/v1beta2/sandbox/managed-runners" \
    "$BERM_URL/berm/v1/zones" "$BERM_URL/berm/v1/tokens" "$BERM_URL/berm/v1/orgs" "$BERM_URL/v1beta2/sandboxes?includeStopped=true" | jq -cS 'del(.. | .lastHeartbeatAt?, .request_id?)'
}
unknowable= # set where not even a read gives the same twice
before=
remember() { before=$(state); }
# judge NAME PROBLEM OUTPUT: a check passes without a problem and when nothing has changed.
judge() {
  local problem=$2 now
  now=$(state)
  [ "$now" = "$before" ] || problem+=" something was changed: $(diff <(tr ',' '\n' <<<"$before") <(tr ',' '\n' <<<"$now") | head -n 6);"
  if [ -z "${problem// /}" ]; then ok "$1"; else bad "$1" "$problem" "$3"; before=$now; fi
}
lacks() { # TEXT NEEDLES...: names the needles that are not in the text
  local text=$1 n; shift
  for n; do grep -qF -- "$n" <<<"$text" || echo -n "no '$n';"; done
}
# refused NAME STATUS METHOD PATH BODY NEEDLES...: a call of the API
refused() {
  local name=$1 want=$2 out problem=; out=$(api "$3" "$4" "$5")
  [ "$(tail -n 1 <<<"$out")" = "$want" ] || problem="status $(tail -n 1 <<<"$out"), want $want;"
  jq -e '.code > 0 and (.details[0].reason | length) > 0' >/dev/null 2>&1 <<<"$(head -n -1 <<<"$out")" || problem+=" no Status body;"
  shift 5; judge "$name" "$problem $(lacks "$out" "$@")" "$out"
}
# says NAME CODE NEEDLES... -- COMMAND...: a command line
says() {
  local name=$1 want=$2 needles=() out code problem=; shift 2
  while [ "$1" != -- ]; do needles+=("$1"); shift; done; shift
  out=$("$@" 2>&1 </dev/null); code=$?
  [ $code = "$want" ] || problem="exit code $code, want $want;"
  judge "$name" "$problem $(lacks "$out" "${needles[@]}")" "$out"
}
file() { cat >"$WORK/$1"; } # a file from standard input
berm() { "$BERM" "$@"; }

T=/v1beta2/sandbox/profile-templates R=/v1beta2/sandbox/managed-runners S=/v1beta2/sandboxes Z=/berm/v1/zones
NOBODY=11111111-2222-4333-8444-555555555555

# --- a server with two runners, a profile with guardrails bound on east, and layouts, most of them hostile
chmod 711 "$WORK" # one check runs a server as another user
CANARY=$WORK/canary
mkdir "$WORK/layouts"
python3 test/scenarios/layouts.py "$WORK/layouts" "$CANARY"
aliases=()
for l in "$WORK"/layouts/*; do aliases+=(--image-alias "$(basename "$l")=oci:$l"); done
file images.yaml <<'Y'
allow: [] # nothing here asks a registry
Y
serve --runner east=us-east --runner west=us-west --images "$WORK/images.yaml" "${aliases[@]}" || exit 1
file agent.yaml <<'Y'
display_name: agent
spec:
  container_image: host
  resource_defaults: {cpu_limit: "1", memory_limit: 256Mi, memory_request: 64Mi}
  network:
    egress:
      default: offline
      modes: {offline: {type: none}}
  guardrails:
    resources: {max_cpu: "1"}
Y
AGENT=$(berm profile create -f "$WORK/agent.yaml" -o json | jq -r .id)
DEFAULT=$(berm profile get default -o json | jq -r .id)
file east.yaml <<'Y'
profile_bindings:
  - profile: agent
    is_default: true
Y
berm runner edit east --yes -f "$WORK/east.yaml" >/dev/null
berm zone put us-east -f - >/dev/null <<<'defaults: {tags: [a]}'
berm org create other >/dev/null
OTHER=$(berm token create --org other --role admin 2>/dev/null)
USER=$(berm token create --role user --name dev 2>/dev/null)
THEIRS=$(BERM_TOKEN=$OTHER berm profile create -f - -o json <<<'{display_name: theirs, spec: {}}' | jq -r .id)
remember

create() { printf '{"profileTemplate": {"displayName": "new", "spec": %s}}' "$1"; }
bindings() { printf '{"runner": {"profileBindings": [%s]}, "updateMask": "profile_bindings"}' "$1"; }
override() { bindings "{\"profileTemplateId\": \"$AGENT\", \"isDefault\": true, \"overridesJson\": $(jq -Rn --arg v "$1" '$v')}"; }
edited() { sed "$1" "$WORK/agent.yaml" | sed 's/display_name: agent/display_name: new/' >"$WORK/new.yaml"; }

# --- unknown and misspelt fields
refused "unknown field beside the spec" 400 POST $T '{"profileTemplate": {"displayName": "new", "spce": {}}}' FIELD_UNKNOWN profile_template.spce 'line 1, column' 'did you mean' spec
refused "misspelt field of a profile" 400 POST $T "$(create '{"resourceDefaults": {"cpuLimt": "1"}}')" FIELD_UNKNOWN spec.resource_defaults.cpuLimt cpuLimit
refused "misspelt field inside a JSON string" 400 POST $T "$(create '{"networkConfigJson": "{\"egres\": {}}"}')" spec.network.egres 'did you mean' egress
refused "misspelt key of the pod fragment" 400 POST $T "$(create '{"podTemplateJson": "{\"spec\": {\"hostNetwrk\": true}}"}')" FIELD_UNKNOWN pod.spec.hostNetwrk hostNetwork
refused "misspelt field of an override" 400 PATCH $R/east "$(override '{"node_slector": {"a": "b"}}')" FIELD_UNKNOWN 'overrides_json.node_slector' node_selector
refused "misspelt field of a zone" 400 PUT $Z/us-east '{"zone": {"defaults": {"tgas": []}}}' zone.defaults.tgas tags
refused "misspelt field of a launch" 400 POST $S '{"resources": {"cpu": "1", "memry": "1Gi"}}' FIELD_UNKNOWN resources.memry memory
refused "misspelt field of an edit" 400 PATCH $T/$AGENT '{"profileTemplate": {"descripton": "x"}}' profile_template.descripton description
refused "unknown query parameter" 400 GET "$S?pagesize_=3" '' pagesize_ page_size
refused "unknown path" 404 GET /v1beta2/nothing '' PATH_NOT_FOUND /v1beta2/nothing
refused "method that a path does not have" 405 PUT $S '{}' METHOD_NOT_ALLOWED 'GET, POST'
edited 's/memory_limit/memory_limt/'
says "misspelt field in YAML: line, column, caret, suggestion" 2 "$WORK/new.yaml:4:39: spec.resource_defaults.memory_limt" 'did you mean "memory_limit"' "      |                                       ^" -- berm profile create -f "$WORK/new.yaml"
file r.yaml <<'Y'
profile_bindings:
  - profile: agent
    is_default: true
    overrides:
      node_slector: {a: b}
Y
says "misspelt field of an override in YAML" 2 'r.yaml:5:7: profile_bindings[0].overrides.node_slector' 'did you mean "node_selector"' '      |       ^' -- berm runner edit east --yes -f "$WORK/r.yaml"
file plan.yaml <<<'resources: {cpu: "1", memry: 1Gi}'
says "misspelt field of a request in YAML" 2 'plan.yaml:1:23: resources.memry' 'did you mean "memory"' -- berm plan -f "$WORK/plan.yaml"
says 'runner ls with a status that is none' 2 connection_status UP 'CONNECTED, DISCONNECTED' -- berm runner ls --connection up
says 'profile ls with a broken selector' 2 label_selector Kubernetes 'tier in (a,b)' -- berm profile ls -l 'team in ml'
says "misspelt command" 2 'unknown command "proflie"' 'berm profile' -- berm proflie
says "misspelt flag" 2 'unknown flag: --memroy' 'Did you mean --memory?' -- berm run --memroy 1Gi -- true

# --- wrong types
refused "a number for a string" 400 POST $T "$(create '{"containerImage": 42}')" spec.container_image 'expected a string, got a number (42)'
refused "a string for a list" 400 POST $S '{"runnerIds": "east"}' runner_ids 'expected a list, got a string'
refused "an object for JSON text" 400 POST $T "$(create '{"networkConfigJson": {}}')" spec.network 'expected JSON text in a string'
refused "text for a boolean in a binding" 400 PATCH $R/east "$(bindings "{\"profileTemplateId\": \"$AGENT\", \"isDefault\": \"yes\"}")" 'profile_bindings[0].is_default' 'expected true or false'
refused "a list for the body" 400 POST $T '[]' 'is a list, expected an object'
refused "an integer out of range" 400 POST $S '{"maxLifetimeSeconds": 1e10}' max_lifetime_seconds 'out of the range'
refused "an unknown enum value" 400 GET "$S?status=SLEEPING" '' status SLEEPING RUNNING
refused "an open object with a value of the wrong type" 400 POST $T "$(create '{"podTemplateJson": "{\"spec\": {\"hostNetwork\": \"yes\"}}"}')" pod.spec.hostNetwork
edited 's/container_image: host/container_image: [a, b]/'
says "a list for a string in YAML" 2 'new.yaml:3:20: spec.container_image: expected a string, got a list' '^' -- berm profile create -f "$WORK/new.yaml"

# --- quantities
for q in 1e9Gi -1 NaN 1e1000 0x10 '1 GB' Inf '' 1.5.2; do
  refused "memory '$q' in a profile" 400 POST $T "$(create "{\"resourceDefaults\": {\"memoryLimit\": \"$q\"}}")" spec.resource_defaults.memory_limit "${q:-empty}"
done
refused "CPU finer than a thousandth" 400 POST $T "$(create '{"resourceDefaults": {"cpuLimit": "0.0001"}}')" 0.0001 'finer than a thousandth'
refused "CPU above any machine" 400 POST $T "$(create '{"resourceDefaults": {"cpuLimit": "1e9"}}')" cpu_limit 'above the largest' 10000
refused "every wrong quantity is reported at once" 400 POST $T "$(create '{"resourceDefaults": {"cpuLimit": "-1", "cpuRequest": "NaN", "memoryLimit": "1e9Gi"}}')" '-1' NaN 1e9Gi
refused "request above limit in a profile" 400 POST $T "$(create '{"resourceDefaults": {"memoryRequest": "512Mi", "memoryLimit": "256Mi"}}')" memory_request 512Mi 'above memory_limit' 256Mi
refused "request above limit in a launch" 400 POST $S '{"resourceLimits": {"cpu": "100m"}, "resourceRequests": {"cpu": "200m"}}' resource_requests.cpu 200m 'above cpu_limit' 100m
refused "quantity in an override" 400 PATCH $R/east "$(override '{"resource_defaults": {"memory_limit": "1e9Gi"}}')" overrides_json.resource_defaults.memory_limit 1e9Gi
refused "quantity in a launch" 400 POST $S '{"resources": {"cpu": "NaN", "memory": "-5"}}' resource_limits.cpu NaN resource_limits.memory negative
says "quantity by flag" 125 '--cpu: "1x" is not a quantity' '500m' -- berm run --cpu 1x -- true
refused "larger than the whole machine: no advice to try again" 400 POST $S '{"runnerIds": ["west"], "resources": {"memory": "90Ti"}}' 'the whole runner has' 'change resource_requests.memory'
says "the nearest request that would pass, as flags" 125 'above the maximum 1 (profile agent, revision 1)' '--cpu: 1 (was 64)' '--egress: leave out (was internet)' -- berm run --profile agent --cpu 64 --egress internet -- true

# --- JSON and YAML that is not what it seems
refused "duplicate key" 400 POST $T '{"profileTemplate": {"displayName": "new", "displayName": "other", "spec": {}}}' SYNTAX 'line 1, column 44' 'given twice'
refused "duplicate key in a launch" 400 POST $S '{"runnerIds": ["east"], "runnerIds": ["west"]}' SYNTAX 'given twice' 'column 25'
refused "duplicate key in an override" 400 PATCH $R/east "$(override '{"tags": [], "tags": ["x"]}')" 'given twice'
refused "one field under two spellings" 400 POST $T "$(create '{"containerImage": "host", "container_image": "x"}')" container_image 'given twice'
refused "trailing garbage" 400 POST $T '{"profileTemplate": {"displayName": "new", "spec": {}}} x' SYNTAX 'expected the end of the text'
refused "a second object" 400 PATCH $T/$AGENT '{"profileTemplate": {"description": "x"}}{}' SYNTAX 'expected the end of the text'
refused "broken JSON" 400 POST $S '{"tags": [' SYNTAX 'line 1, column'
refused "JSON that is too deep" 400 POST $T "$(printf '[%.0s' {1..5000})" SYNTAX 'nested deeper than 64'
refused "invalid UTF-8" 400 POST $T $'{"profileTemplate": {"displayName": "\xff", "spec": {}}}' SYNTAX UTF-8
python3 -c 'import json, sys; json.dump({"profileTemplate": {"displayName": "new", "description": "x" * (10 << 20), "spec": {}}}, sys.stdout)' >"$WORK/10mb.json"
refused "10 MB by the API" 400 POST $T "@$WORK/10mb.json" LIMIT_EXCEEDED 1048576
says "10 MB by file" 2 10mb.json 'larger than 1048576 bytes' -- berm profile create -f "$WORK/10mb.json"
{ echo 'a: &a [x, x, x, x, x, x, x, x, x, x]'; p=a; for c in b c d e f g h i; do echo "$c: &$c [*$p, *$p, *$p, *$p, *$p, *$p, *$p, *$p, *$p, *$p]"; p=$c; done; } >"$WORK/bomb.yaml"
says "YAML anchor bomb" 2 bomb.yaml: 'more than 10000 values once its aliases are written out' -- berm profile create -f "$WORK/bomb.yaml"
says "YAML anchor that contains itself" 2 ':2:14: the alias *s contains itself' -- berm profile create -f <(printf 'display_name: new\nspec: &s {a: *s}\n')
says "duplicate key in YAML" 2 ':2:1: the key "display_name" is given twice' -- berm profile create -f <(printf 'display_name: new\ndisplay_name: other\n')
says "two YAML documents" 2 'a second document starts here' -- berm profile create -f <(printf 'display_name: new\n---\nspec: {}\n')
says "tab in YAML" 2 ':2:1: a tab in the indentation' -- berm profile create -f <(printf 'spec:\n\tcontainer_image: x\n')
says "not a number in YAML" 2 ':1:23: .NaN is not a number' -- berm profile create -f <(echo 'spec: {runtime_class: .NaN}')
says "empty file" 2 'is empty' -- berm profile create -f /dev/null
says "file that does not exist" 2 'cannot read /nowhere/x.yaml: no such file' -- berm profile create -f /nowhere/x.yaml

# --- bindings: all of the list or nothing
refused "two defaults" 400 PATCH $R/east "$(bindings "{\"profileTemplateId\": \"$AGENT\", \"isDefault\": true}, {\"profileTemplateId\": \"$DEFAULT\", \"isDefault\": true}")" BINDINGS_INVALID 'profile_bindings[1].is_default' 'exactly one'
refused "no default" 400 PATCH $R/east "$(bindings "{\"profileTemplateId\": \"$AGENT\"}, {\"profileTemplateId\": \"$DEFAULT\"}")" BINDINGS_INVALID 'none of 2 bindings' 'exactly one'
refused "empty list" 400 PATCH $R/east "$(bindings '')" BINDINGS_INVALID 'at least one binding' 'replaces the one that is there as a whole'
refused "a profile of nobody" 400 PATCH $R/east "$(bindings "{\"profileTemplateId\": \"$NOBODY\", \"isDefault\": true}")" 'profile_bindings[0].profile_template_id' "$NOBODY" 'does not exist'
refused "a profile of another organization is a missing one" 400 PATCH $R/east "$(bindings "{\"profileTemplateId\": \"$THEIRS\", \"isDefault\": true}")" 'profile_bindings[0].profile_template_id' "$THEIRS" 'does not exist'
refused "a name in place of the UUID" 400 PATCH $R/east "$(bindings '{"profileTemplateId": "agent", "isDefault": true}')" profile_template_id 'is no UUID'
refused "duplicate profile_name" 400 PATCH $R/east "$(bindings "{\"profileTemplateId\": \"$AGENT\", \"isDefault\": true}, {\"profileTemplateId\": \"$DEFAULT\", \"profileName\": \"agent\"}")" 'profile_bindings[1].profile_name' 'give one of them another'
refused "a UUID as profile_name" 400 PATCH $R/east "$(bindings "{\"profileTemplateId\": \"$AGENT\", \"isDefault\": true, \"profileName\": \"$NOBODY\"}")" 'profile_bindings[0].profile_name'
refused "an override that would widen" 400 PATCH $R/east "$(override '{"guardrails": {"resources": {"max_cpu": "4"}}}')" OVERRIDE_WIDENS 'overrides_json.guardrails.resources.max_cpu' 4 'profile agent'
refused "an override that clears a guardrail" 400 PATCH $R/east "$(override '{"guardrails": {"resources": {"max_cpu": null}}}')" guardrails.resources.max_cpu 'cannot be cleared'
refused "an override whose default mode does not exist" 400 PATCH $R/east "$(override '{"network": {"egress": {"default": "online"}}}')" UNRESOLVABLE network.egress.default online offline
refused "a profile edit that breaks a binding" 400 PATCH $T/$AGENT '{"profileTemplate": {"spec": {"networkConfigJson": "{\"egress\": {\"default\": \"online\"}}"}}, "updateMask": "spec"}' online east
refused "a taken profile name" 409 POST $T '{"profileTemplate": {"displayName": "agent", "spec": {}}}' PROFILE_EXISTS display_name agent
refused "a taken runner id" 409 POST $R "{\"runnerId\": \"east\", \"runner\": {\"identity\": {\"zone\": \"z\", \"clusterName\": \"c\"}, \"profileBindings\": [{\"profileTemplateId\": \"$AGENT\", \"isDefault\": true}]}}" RUNNER_EXISTS east
refused "a second runner of a cluster" 409 POST $R "{\"runnerId\": \"new\", \"runner\": {\"identity\": {\"zone\": \"z\", \"clusterName\": \"local-east\"}, \"profileBindings\": [{\"profileTemplateId\": \"$AGENT\", \"isDefault\": true}]}}" local-east
refused "deleting a bound profile" 400 DELETE $T/$AGENT '' PROFILE_BOUND east 'berm runner unbind'
refused "deleting a zone in use" 400 DELETE $Z/us-east '' ZONE_IN_USE east
file r.yaml <<'Y'
profile_bindings:
  - profile: agent
    is_default: true
  - profile: nobody
Y
says "a profile of nobody in YAML" 5 'r.yaml:4:14: profile_bindings[1].profile: profile "nobody" does not exist' '      |              ^' -- berm runner edit east --yes -f "$WORK/r.yaml"
says "a list that removes bindings is not taken by silence" 6 'This removes 1 binding(s) from runner west: default.' '--yes' -- berm runner edit west -f "$WORK/east.yaml"
berm profile get agent >"$WORK/agent.got"; berm runner get east >"$WORK/east.got"; berm zone get us-east >"$WORK/zone.got"
says "what get prints is taken back and changes nothing: profile" 0 agent -- berm profile edit agent -f "$WORK/agent.got"
says "the same: runner" 0 east -- berm runner edit east -f "$WORK/east.got"
says "the same: zone" 0 us-east -- berm zone put us-east -f "$WORK/zone.got"
sed '/memory_request/d' "$WORK/agent.got" >"$WORK/less.yaml"
says "an edit that drops fields is not taken by silence" 6 'drops 1 field(s) from the spec of profile agent: resource_defaults.memory_request' '--yes' -- berm profile edit agent -f "$WORK/less.yaml"

# --- create, update, lists
refused "output-only fields in the create of a profile" 400 POST $T "{\"profileTemplate\": {\"displayName\": \"new\", \"spec\": {}, \"id\": \"$NOBODY\", \"revision\": 3}}" FIELD_OUTPUT_ONLY profile_template.id profile_template.revision 'leave it out'
refused "output-only fields in the create of a runner" 400 POST $R "{\"runnerId\": \"new\", \"runner\": {\"installStatus\": \"RUNNER_INSTALL_STATUS_READY\", \"identity\": {\"zone\": \"z\", \"clusterName\": \"c\"}}}" FIELD_OUTPUT_ONLY runner.install_status
refused "output-only fields in an update" 400 PATCH $T/$AGENT '{"profileTemplate": {"createdAt": "2026-01-01T00:00:00Z"}}' FIELD_OUTPUT_ONLY profile_template.created_at
refused "a create without a spec" 400 POST $T '{"profileTemplate": {"displayName": "new"}}' 'spec: must be given'
refused "a create without anything" 400 POST $T '{}' profile_template 'must be given'
refused "a name shaped like a UUID" 400 POST $T "{\"profileTemplate\": {\"displayName\": \"$NOBODY\", \"spec\": {}}}" display_name UUID
refused "unknown mask path" 400 PATCH $T/$AGENT '{"profileTemplate": {"spec": {}}, "updateMask": "spce"}' MASK_INVALID spce 'did you mean' spec
refused "unknown mask path below the spec" 400 PATCH $T/$AGENT '{"profileTemplate": {"spec": {}}, "updateMask": "spec.containerImge"}' MASK_INVALID spec.containerImge spec.container_image
refused "immutable mask path" 400 PATCH $T/$AGENT '{"profileTemplate": {"displayName": "x"}, "updateMask": "displayName"}' FIELD_IMMUTABLE display_name 'cannot be changed'
refused "mask in the body and in the query" 400 PATCH "$T/$AGENT?updateMask=description" '{"profileTemplate": {"description": "x"}, "updateMask": "description"}' update_mask 'in the body and in the query'
refused "mask twice in the query" 400 PATCH "$T/$AGENT?updateMask=description&updateMask=labels" '{"profileTemplate": {"description": "x"}}' update_mask 'more than once'
refused "stale etag" 409 PATCH $T/$AGENT '{"profileTemplate": {"description": "x", "etag": "stale"}}' ETAG_MISMATCH 'revision 1' 'read it again'
refused "forged page token" 400 GET "$T?pageToken=forged" '' PAGE_TOKEN_INVALID page_token
NEXT=$(api GET "$T?pageSize=1" | head -n -1 | jq -r .nextPageToken)
refused "page token of another list" 400 GET "$S?pageToken=$NEXT" '' PAGE_TOKEN_INVALID 'start again without'
refused "changed page token" 400 GET "$T?pageSize=1&pageToken=${NEXT%?}x" '' PAGE_TOKEN_INVALID
refused "negative page size" 400 GET "$T?pageSize=-1" '' page_size negative
says "unknown output format" 2 'invalid argument "xml"' 'table, wide, json or yaml' -- berm profile list -o xml

# --- launches that cannot be
refused "unknown runner" 404 POST $S '{"runnerIds": ["nowhere"]}' CWSANDBOX_RUNNER_NOT_FOUND nowhere 'east, west'
refused "unknown profile" 404 POST $S '{"profileNames": ["agnet"]}' CWSANDBOX_PROFILE_NOT_FOUND agnet 'did you mean agent'
refused "undeclared egress" 400 POST $S '{"profileNames": ["agent"], "network": {"egressMode": "internet"}}' CWSANDBOX_PROFILE_MISMATCH 'declared are offline' 'leave out network.egress_mode'
refused "what comes later is refused, not ignored" 501 POST $S '{"s3Mount": {}}' CWSANDBOX_NOT_IMPLEMENTED s3_mount
refused "annotation that is not the caller's" 400 POST $S '{"podAnnotations": {"berm.dev/x": "1"}}' ANNOTATION_RESERVED berm.dev/x
refused "relative path of a mounted file" 400 POST $S '{"mountedFiles": [{"mountPath": "../x", "fileContent": "aGk="}]}' 'mounted_files[0].mount_path' 'not absolute'
refused "unknown image" 400 POST $S '{"containerImage": "nosuch:1"}' container_image nosuch:1 'this runner has: host' '--image-alias'
refused "malformed image" 400 POST $S '{"containerImage": "UPPER CASE"}' container_image 'no image reference'
refused "image of another architecture" 400 POST $S '{"containerImage": "otherarch"}' 'image otherarch is for linux/' 'this machine is linux/'
refused "layout that is not there" 400 POST $S '{"containerImage": "empty"}' container_image 'there is no OCI layout at' 'layout of empty'
refused "layout whose index is a pipe" 400 POST $S '{"containerImage": "indexpipe"}' index.json 'not a regular file'
refused "layout whose index is huge" 400 POST $S '{"containerImage": "indexhuge"}' index.json 'at most 4194304'
refused "layout whose digests are paths" 400 POST $S '{"containerImage": "indexclimbs"}' index.json 'is no index'

# hostile NAME IMAGE NEEDLES...: what only the content of layers shows ends the sandbox before anything of it runs.
hostile() {
  local name=$1 image=$2 out id problem=; shift 2
  out=$(berm run --image "$image" -- /idle 2>&1 </dev/null)
  [ $? = 125 ] || problem="not exit code 125;"
  id=$(berm ls -a -o json | jq -r '.[0].sandboxId')
  [ "$(berm get "$id" -o json | jq -r '[.sandboxStatus, .returncode // "none"] | join(" ")')" = "SANDBOX_STATUS_FAILED none" ] || problem+=" not FAILED without an exit code;"
  [ "$(berm ls -o json)" = '[]' ] || problem+=" a sandbox is left;"
  [ ! -e "$CANARY" ] || problem+=" it wrote outside;"
  remember; judge "$name" "$problem $(lacks "$out" IMAGE_FAILED "image $image: layer 1 of 1" "$@")" "$out"
}
hostile "layer that writes by .." dotdot 'a path with ..' canary
hostile "layer with an absolute path" absolute 'an absolute path' canary
hostile "layer that writes through its own link" symlink 'a symbolic link is on the way'
hostile "layer that writes through a relative link" symlinkup 'a symbolic link is on the way'
hostile "hard link by .." hardlink shadow 'a path with ..'
hostile "hard link to an absolute path" hardlinkabs shadow 'an absolute path'
hostile "hard link through a link" hardlinkvia shadow 'which this layer does not have'
hostile "block device" blockdevice 'is a device'
hostile "character device" chardevice 'is a device'
hostile "named pipe" pipe 'is a named pipe'
hostile "decompression bomb" bomb 'taken for a bomb'
hostile "changed blob" changed 'has digest sha256:'
hostile "blob that is a link out of the layout" bloblink 'the manifest says'
GOOD=$(berm run --image good --detach)
if [ "$(berm cp "$GOOD:/hello.txt" - 2>&1)" = "hello from a layout" ]; then ok "a good layout runs"; else bad "a good layout runs" "$(berm get "$GOOD")"; fi
berm stop --grace 0 "$GOOD" >/dev/null
if [ "$(du -sm "$DATA" | cut -f1)" -lt 20 ]; then ok "nothing of the hostile layers is kept"; else bad "nothing of the hostile layers is kept" "$(du -sm "$DATA"/runners/*/*)"; fi

# --- commands, files and sandboxes that do not exist
LIVE=$(berm run --detach); berm exec "$LIVE" -- true
remember
says "command that does not exist" 125 'command "nosuch" not found in PATH' /usr/bin -- berm exec "$LIVE" -- nosuch
refused "command that does not exist, by the API" 400 POST "$S/$LIVE/exec" '{"command": ["nosuch"]}' CWSANDBOX_COMMAND_NOT_FOUND nosuch PATH
refused "no command" 400 POST "$S/$LIVE/exec" '{"command": []}' command
says "file that does not exist" 5 '/nope: no such file' -- berm cp "$LIVE:/nope" -
says "folder in place of a file" 2 '/tmp: it is a directory' -- berm cp "$LIVE:/tmp" -
says "place that cannot be written" 6 '/usr/x: read-only file system' -- berm cp "$WORK/agent.yaml" "$LIVE:/usr/x"
refused "sandbox that does not exist" 404 GET "$S/$NOBODY" '' CWSANDBOX_SANDBOX_NOT_FOUND "$NOBODY"
says "sandbox that does not exist, by the CLI" 125 "sandbox \"$NOBODY\" does not exist" -- berm exec "$NOBODY" -- true
refused "field of explain that does not exist" 400 GET "/berm/v1/sandboxes/$LIVE/explain?fieldPath=nope" '' nope
says "the sandbox goes on" 0 still -- berm exec "$LIVE" -- echo still

# --- callers that go away: what they launched does not stay
gone() { # NAME CODE-WANTED CODE
  local left i
  for i in {1..100}; do left=$(berm ls -o json | jq -r '.[].sandboxId' | grep -vF "$LIVE") && sleep 0.1 || break; done
  if [ "$3" = "$2" ] && [ -z "$left" ]; then ok "$1"; else bad "$1" "exit code $3, want $2; left: $left"; fi
  remember
}
"$BERM" run -- yes 2>"$WORK/pipe.err" | head -n 1 >/dev/null
gone "the reader of the output" 141 "${PIPESTATUS[0]}"
for signal in HUP INT TERM; do
  # Job control gives the command a process group, in which INT is not ignored; HUP is, where the tests are run by nohup.
  set -m; env --default-signal="$signal" "$BERM" run -- sh -c 'echo here; exec sleep 1000' >"$WORK/run.out" 2>&1 & CALLER=$!; set +m
  for _ in {1..600}; do grep -q here "$WORK/run.out" && break; sleep 0.05; done
  kill -$signal "$CALLER"; wait "$CALLER"
  gone "a caller that gets SIG$signal" 130 $?
done
MAIN=$(berm run --detach -- nosuch)
for _ in {1..50}; do [ "$(berm get "$MAIN" -o json | jq -r .sandboxStatus)" = SANDBOX_STATUS_FAILED ] && break; sleep 0.1; done
remember
says "main process that does not exist" 0 'failed (START_FAILED: command "nosuch" not found in PATH' -- berm get "$MAIN"
says "exec in a sandbox that has ended says why" 125 "sandbox $MAIN" START_FAILED -- berm exec "$MAIN" -- true

# --- tokens, roles, organizations
token() { # NAME STATUS NEEDLE HEADER...
  local name=$1 want=$2 needle=$3 out problem=; shift 3
  out=$(curl -sS -w '\n%{http_code}' "$@" "$BERM_URL$S")
  [ "$(tail -n 1 <<<"$out")" = "$want" ] || problem="status $(tail -n 1 <<<"$out");"
  judge "$name" "$problem $(lacks "$out" TOKEN_INVALID "$needle" 'berm token create')" "$out"
}
token "no token" 401 'no token was sent'
token "malformed Authorization header" 401 'Bearer TOKEN' -H 'Authorization: Basic eDp5'
token "unknown token" 401 'not valid' -H 'Authorization: Bearer berm_0000000000000000000000000000000000000000000000000000'
token "a token with one character changed" 401 'not valid' -H "Authorization: Bearer ${USER%?}$([ "${USER: -1}" = a ] && echo b || echo a)"
as_user() { # NAME CALL...
  local name=$1 out problem=; shift
  out=$(BERM_TOKEN=$USER api "$@")
  [ "$(tail -n 1 <<<"$out")" = 403 ] || problem="status $(tail -n 1 <<<"$out"), want 403;"
  judge "a user may not $name" "$problem $(lacks "$out" ROLE_MISSING 'needs the role' 'berm token create --role admin')" "$out"
}
as_user "create a profile" POST $T "$(create '{}')"
as_user "edit a profile" PATCH $T/$AGENT '{"profileTemplate": {"description": "x"}}'
as_user "delete a profile" DELETE $T/$AGENT
as_user "create a runner" POST $R "{\"runnerId\": \"new\", \"runner\": {\"identity\": {\"zone\": \"z\", \"clusterName\": \"c\"}, \"profileBindings\": [{\"profileTemplateId\": \"$AGENT\", \"isDefault\": true}]}}"
as_user "edit a runner" PATCH $R/east "$(bindings "{\"profileTemplateId\": \"$DEFAULT\", \"isDefault\": true}")"
as_user "delete a runner" DELETE "$R/east?force=true"
as_user "set the defaults of a zone" PUT $Z/us-east '{"zone": {"defaults": {}}}'
as_user "make a token" POST /berm/v1/tokens '{"role": "admin", "name": "x"}'
as_user "list tokens" GET /berm/v1/tokens
# Making an organization is for the operator alone, which is more than an admin.
out=$(BERM_TOKEN=$OTHER api POST /berm/v1/orgs '{"name": "third"}')
judge "an admin of an organization may not make another" "$([ "$(tail -n 1 <<<"$out")" = 403 ] || echo "not 403;") $(lacks "$out" ROLE_MISSING operator)" "$out"

# like_missing METHOD PATH(ID) OURS MISSING [BODY]: to another organization an id of ours is exactly one that does not exist.
like_missing() {
  local method=$1 path=$2 body=${5:-} one two problem=
  one=$(BERM_TOKEN=$OTHER api "$method" "${path//ID/$3}" "$body" | sed -E 's/"request_id": ?"[^"]*"//; s/'"$3"'/ID/g')
  two=$(BERM_TOKEN=$OTHER api "$method" "${path//ID/$4}" "$body" | sed -E 's/"request_id": ?"[^"]*"//; s/'"$4"'/ID/g')
  [ "$(tail -n 1 <<<"$one")" = 404 ] || problem="status $(tail -n 1 <<<"$one"), want 404;"
  [ "$one" = "$two" ] || problem+=" it differs from a missing one;"
  judge "another organization: $method $path" "$problem" "$one"$'\n'"$two"
}
EAST=$(berm runner get east -o json | jq -r .id)
for call in "GET $S/ID" "DELETE $S/ID" "POST $S/ID/stop" "GET $S/ID/files/%2Fetc%2Fpasswd" "GET /berm/v1/sandboxes/ID" "GET /berm/v1/sandboxes/ID/explain"; do
  like_missing ${call% *} "${call#* }" "$LIVE" "$NOBODY"
done
like_missing POST "$S/ID/exec" "$LIVE" "$NOBODY" '{"command": ["true"]}'
like_missing GET $T/ID "$AGENT" "$NOBODY"
like_missing GET $T/ID agent nobody
like_missing DELETE $T/ID "$AGENT" "$NOBODY"
like_missing PATCH $T/ID "$AGENT" "$NOBODY" '{"profileTemplate": {"description": "x"}}'
like_missing GET $R/ID "$EAST" "$NOBODY"
like_missing GET $R/ID east nobody
like_missing DELETE $R/ID "$EAST" "$NOBODY"
like_missing GET $Z/ID us-east nobody
REVOKED=$(berm token list -o json | jq -r '.[] | select(.name == "dev") | .id'); berm token revoke "$REVOKED" 2>/dev/null; remember
token "revoked token" 401 'not valid' -H "Authorization: Bearer $USER"
says "no token by the CLI: what to set" 4 'no token was sent' BERM_TOKEN -- env -u BERM_TOKEN HOME=/nonexistent XDG_STATE_HOME=/nonexistent "$BERM" ls

# --- servers that cannot start: the one that runs goes on, and nothing is made
start() { # NAME CODE NEEDLES... -- FLAGS...
  local name=$1 code=$2 needles=(); shift 2
  while [ "$1" != -- ]; do needles+=("$1"); shift; done; shift
  says "$name" "$code" "${needles[@]}" -- timeout -k 1 20 "$BERM" serve "$@"
}
gone() { if [ ! -e "$1" ]; then ok "$2"; else bad "$2" "$(ls -la "$1")"; fi; }
start "port taken" 6 "127.0.0.1:$PORT is in use" --listen -- --data "$WORK/fresh" --listen "127.0.0.1:$PORT"
gone "$WORK/fresh" "and no data directory was made"
start "second server on the same data" 8 "$DATA/berm.db is in use by another server, process $SERVER_PID" 'another data directory' -- --data "$DATA" --listen 127.0.0.1:0
start "address that is not this machine's" 2 'cannot listen on' 'HOST:PORT' -- --data "$WORK/fresh" --listen 203.0.113.1:70
start "data directory that is a file" 2 'cannot make the data directory' '--data' -- --data "$WORK/agent.yaml" --listen 127.0.0.1:0
start "unknown runtime" 2 'unknown runtime "nope"' 'crun, runc' -- --data "$WORK/fresh" --listen 127.0.0.1:0 --runtime nope
start "image alias that is none" 2 'x=docker://y' 'oci:DIR' -- --data "$WORK/fresh2" --listen 127.0.0.1:0 --image-alias x=docker://y
file wrong.yaml <<'Y'
registries:
  127.0.0.1:5000: {privat: true}
Y
start "images file with a misspelt key" 2 'wrong.yaml:2:20: registries[127.0.0.1:5000].privat: unknown field "privat"' 'did you mean "private"' -- --data "$WORK/fresh2" --listen 127.0.0.1:0 --images "$WORK/wrong.yaml"
start "runner name that is none" 2 '--runner' '"a b"' 'did you mean "a-b"' -- --data "$WORK/fresh2" --listen 127.0.0.1:0 --runner "a b"
gone "$WORK/fresh2" "and no data directory was made for any"
start "half of a certificate" 2 '--tls-cert and --tls-key go together' -- --data "$WORK/fresh" --listen 127.0.0.1:0 --tls-cert x
start "database server that is away" 8 'PostgreSQL cannot be reached' 'check that it runs' -- --data "$WORK/fresh3" --listen 127.0.0.1:0 --db postgres://nobody@127.0.0.1:1/berm

# --- further servers, one at a time; $HERE is the first one
HERE=$BERM_URL HERE_TOKEN=$BERM_TOKEN
second() { # DIR COMMAND...: starts `COMMAND... serve` on DIR and talks to it
  local dir=$1 port i; shift; port=$(free_port)
  "$@" serve --data "$dir" --listen "127.0.0.1:$port" >"$WORK/second.log" 2>&1 & second_pid=$!
  BERM_URL=http://127.0.0.1:$port
  for ((i = 0; i < 300; i++)); do
    curl -fs "$BERM_URL/readyz" >/dev/null 2>&1 && { BERM_TOKEN=$(cat "$dir/admin.token"); return 0; }
    kill -0 $second_pid 2>/dev/null || return 1
    sleep 0.05
  done
  return 1
}
end_second() { kill $second_pid; wait $second_pid; second_pid=; BERM_URL=$HERE BERM_TOKEN=$HERE_TOKEN; }

# Full disk: a small one of its own, filled.
mkdir "$WORK/disk"; mount -t tmpfs -o size=24m tmpfs "$WORK/disk"
if second "$WORK/disk/data" "$BERM"; then
  KEEP=$(berm run --detach); berm exec "$KEEP" -- true; remember
  dd if=/dev/zero of="$WORK/disk/fill" bs=4k 2>/dev/null
  refused "full disk: create" 503 POST $T "$(create '{}')" STORE_UNAVAILABLE 'disk of the store is full' 'free space'
  refused "full disk: edit" 503 PATCH $T/default '{"profileTemplate": {"description": "x"}}' 'disk of the store is full'
  refused "full disk: launch" 503 POST $S '{}' 'disk of the store is full'
  says "full disk: launch by the CLI" 125 'disk of the store is full' 'free space on the file system' -- berm run -- true
  says "full disk: what runs goes on" 0 still -- berm exec "$KEEP" -- echo still
  says "full disk: reads go on" 0 default -- berm profile list
  rm "$WORK/disk/fill"
  if [ "$(berm run --rm -- echo hello)" = hello ]; then ok "room again: a launch succeeds"; else bad "room again: a launch succeeds" "$(tail "$WORK/second.log")"; fi
  berm stop --grace 0 "$KEEP" >/dev/null
  for _ in {1..50}; do [ "$(berm ls -o json)" = '[]' ] && break; sleep 0.1; done
  end_second
else bad "a server on a small disk starts" "$(tail "$WORK/second.log")"; fi
dd if=/dev/zero of="$WORK/disk/fill" bs=4k 2>/dev/null; remember
start "full disk at the start" 8 'is full: it has' 'free space' -- --data "$WORK/disk/data" --listen 127.0.0.1:0
umount "$WORK/disk"

# Read-only and corrupt databases: copies of one that was in use.
if second "$WORK/model" "$BERM"; then
  for i in {1..40}; do berm profile create -f - >/dev/null <<<"{display_name: p$i, description: '$(printf 'x%.0s' {1..200})', spec: {}}"; done
  end_second
fi
copy() { rm -rf "$WORK/copy"; cp -a "$WORK/model" "$WORK/copy"; }
spoil() { python3 - "$WORK/copy/berm.db" <<'P'
import os, sys
with open(sys.argv[1], "r+b") as f: # the header and the schema stay
    size = f.seek(0, 2); f.seek(8192); f.write(os.urandom(size - 8192))
P
}
remember
mkdir -p "$WORK/disk"; copy; cp -a "$WORK/copy/." "$WORK/disk"; mount --bind "$WORK/disk" "$WORK/disk"; mount -o remount,ro,bind "$WORK/disk"
start "read-only database" 8 "$WORK/disk/berm.db" 'read-only file system' 'that can be written' -- --data "$WORK/disk" --listen 127.0.0.1:0
umount "$WORK/disk"
copy; head -c 100000 /dev/urandom >"$WORK/copy/berm.db"; cp "$WORK/copy/berm.db" "$WORK/random.db"
start "database that is none" 6 "$WORK/copy/berm.db is not a SQLite database" 'restore the newest backup' -- --data "$WORK/copy" --listen 127.0.0.1:0
if cmp -s "$WORK/copy/berm.db" "$WORK/random.db"; then ok "and the file is as it was"; else bad "and the file is as it was"; fi
copy; spoil
start "corrupt database" 1 'the database file is corrupt' 'restore the newest backup' -- --data "$WORK/copy" --listen 127.0.0.1:0
copy; truncate -s 20000 "$WORK/copy/berm.db"
start "truncated database" 1 'the database file is corrupt' 'restore the newest backup' -- --data "$WORK/copy" --listen 127.0.0.1:0
copy
if second "$WORK/copy" "$BERM"; then
  spoil; unknowable=yes; before=
  refused "database that becomes corrupt: read" 500 GET "$T" '' STORE_CORRUPT 'database file is corrupt' 'restore the newest backup'
  refused "database that becomes corrupt: write" 500 POST "$T" "$(create '{}')" STORE_CORRUPT 'restore the newest backup'
  says "database that becomes corrupt: launch" 125 'database file is corrupt' -- berm run -- true
  end_second; unknowable=; remember
else bad "a server on a copy starts" "$(tail "$WORK/second.log")"; fi

# No root: the table says what does not work and why; the control plane works, a launch is refused with the reason.
mkdir "$WORK/nobody"; chown 65534:65534 "$WORK/nobody"; cp "$BERM" "$WORK/berm"; chmod 755 "$WORK/berm"
if second "$WORK/nobody/data" env HOME="$WORK/nobody" XDG_STATE_HOME="$WORK/nobody/state" setpriv --reuid 65534 --regid 65534 --clear-groups "$WORK/berm"; then
  remember
  says "no root: the table" 0 'sandboxes          refused' 'needs root' 'control-plane      works' -- cat "$WORK/second.log"
  refused "no root: a launch is refused with the reason" 400 POST $S '{}' CWSANDBOX_NO_SUITABLE_RUNNER UNABLE 'needs root'
  says "no root: the CLI gives the reason and no advice to try again" 125 'needs root' -- berm run -- true
  if out=$(berm run -- true 2>&1); ! grep -q retry <<<"$out"; then ok "no root: waiting is not suggested"; else bad "no root: waiting is not suggested" "$out"; fi
  out=$(berm profile create -f "$WORK/agent.yaml" 2>&1) && ok "no root: the control plane works" || bad "no root: the control plane works" "$out"
  remember
  says "no root: plans work and say why" 6 'needs root' -- berm plan
  end_second
else bad "a server without root starts" "$(tail "$WORK/second.log")"; fi

# --- nothing is left
remember
says "the first server never noticed" 0 still -- berm exec "$LIVE" -- echo still
berm stop --grace 0 "$LIVE" >/dev/null
for _ in {1..50}; do [ "$(berm ls -o json)" = '[]' ] && break; sleep 0.1; done
if [ "$(berm ls -o json)" = '[]' ]; then ok "no sandbox is left"; else bad "no sandbox is left" "$(berm ls)"; fi
stop_server
if ! grep -qF "$WORK" /proc/mounts; then ok "no mount is left"; else bad "no mount is left" "$(grep -F "$WORK" /proc/mounts)"; fi
# A runner keeps its run directory and its control groups under a name made of its state directory.
left=$(for dir in "$DATA/runners/east" "$DATA/runners/west" "$WORK/disk/data/runners/local" "$WORK/model/runners/local" "$WORK/copy/runners/local"; do
  name=berm-$(printf %s "$dir" | sha256sum | cut -c1-10)
  ls -d "/run/$name" "/sys/fs/cgroup/$name" /sys/fs/cgroup/*/"$name" 2>/dev/null
done)
if [ -z "$left" ]; then ok "no run directory and no control group is left"; else bad "no run directory and no control group is left" "$left"; fi
left=$(grep -alF -f - /proc/[0-9]*/cmdline 2>/dev/null <<<"$WORK") # the pattern is no argument, so that grep does not find itself
if [ -z "$left" ]; then ok "no process is left"; else bad "no process is left" "$(for p in $left; do tr '\0' ' ' <"$p"; echo; done)"; fi
gone "$CANARY" "nothing was written outside"

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
