#!/usr/bin/env bash
# The product in a minute: two runners in two zones, one profile bound to both with different overrides, a launch through all four
# layers, a command run in it, a file in and out, the provenance table, a profile edit that leaves the running sandbox alone and
# changes the next, and a refusal with its reasons. Everything is stopped and removed at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
. test/lib/server.sh
trap finish EXIT

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*" | sed "s#$BERM#berm#; s#$WORK/##g"; "$@"; }

say "1. One server, two runners in two zones"
serve --runner east=us-east --runner west=us-west
run "$BERM" runner list

say "2. Layer 1: defaults of zone us-east"
cat > "$WORK/zone.yaml" <<'Y'
defaults:
  tags: [shared-cluster]
  resource_defaults: {cpu_request: 50m}
Y
run "$BERM" zone put us-east -f "$WORK/zone.yaml"

say "3. Layer 2: a profile that says what an agent's sandbox may be"
cat > "$WORK/agent.yaml" <<'Y'
display_name: agent
description: Agents without internet
spec:
  container_image: host
  resource_defaults: {cpu_limit: "1", memory_limit: 512Mi, memory_request: 64Mi}
  node_selector: {pool: general}
  network:
    egress: {default: offline, modes: {offline: {type: none}}}
Y
run "$BERM" profile create -f "$WORK/agent.yaml"
PROFILE=$("$BERM" profile get agent -o json | jq -r .id)

say "4. Layer 3: bound to both runners, with an override on each"
bind() { # runner, override
  cat > "$WORK/$1.yaml" <<Y
profile_bindings:
  - profile_template_id: $PROFILE
    is_default: true
    overrides_json: '$2'
Y
  run "$BERM" runner edit "$1" --yes -f "$WORK/$1.yaml"
}
bind east '{"node_selector": {"pool": "east"}}'
bind west '{"node_selector": {"pool": "west"}, "resource_defaults": {"memory_limit": "256Mi"}}'

say "5. Layer 4: a launch that asks for half a CPU, and a command in it"
cat > "$WORK/request.yaml" <<'Y'
profile_names: [agent]
runner_ids: [east]
resource_limits: {cpu: 500m, memory: 256Mi}
resource_requests: {cpu: 100m, memory: 64Mi}
Y
SANDBOX=$("$BERM" run --profile agent --runner east --cpu 500m --detach -o json | jq -r .sandboxId)
run "$BERM" exec "$SANDBOX" -- sh -c 'echo "hello from $(hostname), process $$ as uid $(id -u) of my own user namespace"'
run "$BERM" exec "$SANDBOX" -- python3 -c 'print(sum(range(1_000_000)))'

say "6. A file in and out"
seq 1 1000 > "$WORK/in.txt"
run "$BERM" cp "$WORK/in.txt" "$SANDBOX:/workspace/in.txt"
run "$BERM" exec "$SANDBOX" -- sh -c 'sort -rn /workspace/in.txt > /workspace/out.txt && head -n 2 /workspace/out.txt'
run "$BERM" cp "$SANDBOX:/workspace/out.txt" "$WORK/out.txt"
cmp <(sort -n "$WORK/out.txt") "$WORK/in.txt" && echo "the same 1000 lines came back"

say "7. Where does every field come from?"
run "$BERM" explain "$SANDBOX"

say "8. A profile edit: the running sandbox keeps its spec, the next launch has the new one"
sed 's/cpu_limit: "1"/cpu_limit: 750m/' "$WORK/agent.yaml" > "$WORK/agent2.yaml"
run "$BERM" profile edit agent -f "$WORK/agent2.yaml"
NEXT=$("$BERM" run --profile agent --runner west --detach -o json | jq -r .sandboxId)
run "$BERM" explain "$SANDBOX" --field resource_defaults.cpu_limit
run "$BERM" explain "$NEXT" --field resource_defaults.cpu_limit

say "9. What would happen, without doing it"
run "$BERM" plan -f "$WORK/request.yaml"

say "10. A refusal, with every candidate, its reason and the nearest request that would pass"
printf '$ berm run --profile agent --cpu 8 --memory 64Gi -- true\n'
if "$BERM" run --profile agent --cpu 8 --memory 64Gi -- true; then echo "this should have been refused"; exit 1; else echo "(exit code $?)"; fi

say "11. Everything stopped"
run "$BERM" stop "$SANDBOX" "$NEXT" --grace 0
run "$BERM" ls
