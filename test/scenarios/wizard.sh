#!/usr/bin/env bash
# The wizards of profiles and runners, at a real terminal (tmux): what is typed wrong is told while it is typed, what an edit would do is shown
# before it is made, whatever ends a wizard early writes nothing, and the command that it prints does the same again. Ends with `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/../.."
. test/lib/server.sh
SOCKET=berm-wizard-$$
tm() { tmux -L "$SOCKET" -f /dev/null "$@"; }
trap 'tm kill-server 2>/dev/null; finish' EXIT

passed=0 failed=0
check() { # NAME PATTERN GOT
  if [[ "$3" =~ $2 ]]; then passed=$((passed + 1)); echo "ok      $1"
  else failed=$((failed + 1)); echo "FAILED  $1"; echo "        want $2"; echo "        got  $3"; fi
}
is() { # NAME WANT GOT
  if [ "$3" = "$2" ]; then passed=$((passed + 1)); echo "ok      $1"
  else failed=$((failed + 1)); echo "FAILED  $1"; echo "        want $2"; echo "        got  $3"; fi
}

at() { # COLUMNS LINES COMMAND...: a terminal of its own in which the command runs
  local columns=$1 lines=$2; shift 2
  tm kill-session -t w 2>/dev/null
  : >"$WORK/raw"
  tm new-session -d -s w -x "$columns" -y "$lines" "$(printf '%q ' bash --norc -c 'read -r; "$@"; echo "[exit $?]"; exec sleep infinity' - "$@")"
  tm set-option -t w history-limit 10000 \; pipe-pane -t w "cat >>'$WORK/raw'"
  keys Enter
}
keys() { tm send-keys -t w "$@"; }
typed() { tm send-keys -t w -l -- "$1"; }
screen() { tm capture-pane -p -J -S - -t w; }
sees() { # PATTERN: waits until the terminal shows it
  local i
  for ((i = 0; i < 200; i++)); do grep -qE -- "$1" <<<"$(screen)" && return 0; sleep 0.05; done
  failed=$((failed + 1)); echo "FAILED  $1 never came; the terminal shows:"; screen | sed '/^$/d; s/^/        /'
  return 1
}
shows() { if sees "$2"; then passed=$((passed + 1)); echo "ok      $1"; fi }
# One Enter at each of these questions. Between two forms the terminal is given back for a moment, and what is typed then may be lost.
enter() { local t; for t; do sees "┃ $t( |\$)" && sleep 0.3 && keys Enter; done; }
yes() { sees 'Make this edit\?'; keys Up; keys Up; sees '> Yes, make it'; keys Enter; }
command_of() { screen | sed -n 's/^As a command: //p' | tail -n 1; }
names() { "$BERM" profile list -o json | jq -r '[.[].displayName] | sort | join(" ")'; }
basics="container_image runtime_class instance_types node_selector tags"
resources="resource_defaults.cpu_request resource_defaults.memory_request resource_defaults.cpu_limit resource_defaults.memory_limit resource_defaults.ephemeral_storage_limit resource_defaults.pids_limit"

serve --no-runner || exit 1
# tmux ends with its last session, also while another one is being asked for: this one stays.
tm new-session -d -s base 'exec sleep infinity' || exit 1
"$BERM" profile create default --set container_image=host >/dev/null

# A profile is made.
at 80 24 "$BERM" profile create
sees 'Name of the profile'; typed 'a b'
shows "create: what is wrong is told as it is typed" 'did you mean "a-b"'
keys Enter; keys Enter
check "create: and there is no way on with it" 'Name of the profile' "$(screen)"
keys BSpace BSpace BSpace; typed default
shows "create: a name that is taken is told" 'there is a profile default already'
keys C-u; typed agent; sees '> agent'
keys Enter
sees '┃ Description'; typed "it's for \$(agents)"; keys Enter
sees '┃ Labels'; typed 'team=ml'; keys Enter
sees '┃ Which parts'; keys Enter
enter $basics resource_defaults.cpu_request
sees '┃ resource_defaults.memory_request'; keys C-u; typed ten; shows "create: a value is held to its field" '! .*ten'
keys C-u; typed 2Gi; keys Enter
enter resource_defaults.cpu_limit
sees '┃ resource_defaults.memory_limit'; keys Enter; shows "create: and to those before it" '! .*memory_request|\* .*memory_request'
keys C-u; typed 4Gi; keys Enter
enter resource_defaults.ephemeral_storage_limit resource_defaults.pids_limit network.egress.default network.egress.modes network.egress.require
shows "create: shown before it is made" 'profile agent: spec.resource_defaults.memory_limit +- +4Gi'
check "create: and not made yet" '^default$' "$(names)"
yes
shows "create: the exit code" '\[exit 0\]'
is "create: the profile is there" '{"d":"it'"'"'s for $(agents)","l":{"team":"ml"},"m":"4Gi"}' \
  "$("$BERM" profile get agent -o json | jq -cS '{d: .description, l: .labels, m: .spec.resourceDefaults.memoryLimit}')"
again=$(command_of)
check "create: the command that does the same" '^berm profile create agent ' "$again"
eval "${again/berm profile create agent/\"$BERM\" profile create twin} >/dev/null </dev/null"
same() { jq -S '{description, labels, spec}'; }
is "create: and does" "$("$BERM" profile get agent -o json | same)" "$("$BERM" profile get twin -o json | same)"

# Whatever ends it writes nothing.
before=$(names)
for key in C-c C-d Escape; do
  at 80 24 "$BERM" profile create gone
  sees '┃ Description'; typed half; keys "$key"
  shows "$key: ends with 130" '\[exit 130\]'
  check "$key: what was answered is not lost" 'nothing was changed' "$(screen)"
  at 80 24 "$BERM" profile create gone -i --description x --label a=b --ask network.ingress
  enter $basics network.ingress.default network.ingress.modes; sees 'Make this edit'; keys "$key"
  shows "$key: at the last question, too" '\[exit 130\]'
done
at 80 24 "$BERM" profile create gone -i --description x --label a=b --ask network.ingress
enter $basics network.ingress.default network.ingress.modes; sees '> No, change nothing'; keys Enter
shows "no: ends with 130" '\[exit 130\]'
for signal in TERM INT HUP; do
  at 80 24 "$BERM" profile create gone
  sees '┃ Description'
  kill -$signal "$(pgrep -P "$(tm display-message -p -t w '#{pane_pid}')" -f 'profile create')"
  shows "SIG$signal: ends with 130" '\[exit 130\]'
done
at 80 24 "$BERM" profile create gone
sees '┃ Description'; tm kill-session -t w
is "nothing was written" "$before" "$(names)"
is "without a terminal nothing is asked" "2" "$("$BERM" profile create </dev/null >/dev/null 2>&1; echo $?)"

# A profile is changed, beside somebody who changes it too.
"$BERM" runner create east --zone eu --cluster c1 --profile agent >/dev/null
at 100 40 "$BERM" profile edit agent --ask resource_defaults
sees "┃ > it's for"; keys Enter; enter Labels $basics resource_defaults.cpu_request resource_defaults.memory_request resource_defaults.cpu_limit
sees '┃ > 4Gi'; keys C-u; typed 8Gi; keys Enter; enter resource_defaults.ephemeral_storage_limit resource_defaults.pids_limit
sees '┃ Reason'; typed 'more room'; keys Enter
shows "edit: what it does to bindings is shown" 'resource_defaults.memory_limit: 4Gi -> 8Gi \(raised, by profile agent\)'
"$BERM" profile edit agent --set resource_defaults.cpu_limit=2 >/dev/null
yes
shows "edit: another edit meanwhile is told" 'changed by somebody else meanwhile'
tm clear-history -t w
yes
shows "edit: made on top of it" '\[exit 0\]'
is "edit: both are there" '{"c":"2","m":"8Gi","r":"more room"}' "$(jq -cs '{c: .[0].spec.resourceDefaults.cpuLimit, m: .[0].spec.resourceDefaults.memoryLimit, r: .[1][0].reason}' \
  <("$BERM" profile get agent -o json) <("$BERM" profile history agent -o json))"
is "edit: the command" "berm profile edit agent --set resource_defaults.memory_limit=8Gi --reason 'more room'" "$(command_of)"

# A small terminal that changes its size.
at 40 12 "$BERM" profile create small -i --ask network.egress
sees '┃ Description'; typed narrow; keys Enter
shows "40 columns: the next question" '┃ Labels'
tm resize-window -t w -x 100 -y 30; sleep 0.3; keys Enter
shows "resized: the next question" '┃ Image of the main container'
tm resize-window -t w -x 40 -y 12; sleep 0.3
enter $basics network.egress.default network.egress.modes
shows "40 columns: what has a long text" '> \(not stated\)'; keys Enter
yes
shows "40 columns: made" '\[exit 0\]'
is "40 columns: what was typed" narrow "$("$BERM" profile get small -o json | jq -r .description)"

# A runner is made.
at 80 24 "$BERM" runner create --group lab
sees 'Id of the runner'; typed east; shows "runner: an id that is taken is told" 'there is a runner east already'
keys C-u; typed west; keys Enter
sees '┃ Zone'; shows "runner: zones there are" 'There are eu'; typed us; keys Enter
sees '┃ Cluster'; typed c1; shows "runner: a cluster has one" 'there is a runner of c1 already'; keys C-u; typed c2; keys Enter
enter 'Display name' 'Release channel' 'Runtime class without a GPU' 'Runtime class with a GPU' 'Enforce resource limits' 'Allow privileged annotations'
sees '┃ Profiles to bind'; keys Enter; shows "runner: one profile at least" 'binds at least one profile'
keys Space Down Space Enter
sees '┃ Default binding'; keys Down Enter
shows "runner: what its sandboxes would be, and who says so" 'resource_defaults.memory_limit: 8Gi \(by profile agent\)'
yes
shows "runner: made" '\[exit 0\]'
is "runner: as answered" '["us","c2","lab","agent","default*"]' "$("$BERM" runner get west -o json |
  jq -c '[.identity.zone, .identity.clusterName, .identity.runnerGroupId] + ([.profileBindings[] | .profileName + (if .isDefault then "*" else "" end)] | sort)')"
is "runner: the command" "berm runner create west --zone us --cluster c2 --group lab --profile default --profile agent" "$(command_of)"

# And changed, with plain lines for screen readers.
at 80 40 env BERM_ACCESSIBLE=1 "$BERM" runner edit west
sees 'Flag: --zone'; keys Enter; sees 'Flag: --display-name'; typed 'Lab west'; keys Enter
sees 'Flag: --group'; typed -; keys Enter; sees 'Flag: --release-channel'; typed 9; keys Enter
shows "lines: a wrong number is told" 'Not possible: "9" is no number from 1 to 3'; typed 3; keys Enter
for flag in cpu-runtime-class gpu-runtime-class enforce-resource-limits allow-privileged-profile-annotations bind reason; do sees "Flag: --$flag"; keys Enter; sleep 0.1; [ $flag = bind ] && { sees 'Flag: --default'; keys Enter; }; done
sees 'A number from 1 to 3 .empty: No'; typed 1; keys Enter
shows "lines: made" '\[exit 0\]'
is "lines: as answered" '["Lab west",null,"RELEASE_CHANNEL_RAPID"]' "$("$BERM" runner get west -o json | jq -c '[.displayName, (.identity.runnerGroupId | select(. != "") // null), .managedSpec.releaseChannel]')"
is "lines: the command" "berm runner edit west --display-name 'Lab west' --group '' --release-channel rapid" "$(command_of)"
is "lines: nothing moves or colors" 0 "$(grep -c $'\e' "$WORK/raw")"
at 80 24 env TERM=dumb "$BERM" profile create
sees 'Name of the profile'; keys C-d; shows "a dumb terminal: plain lines, whose end ends it" '\[exit 130\]'
at 80 24 "$BERM" profile create --accessible
sees 'Name of the profile'; keys C-c; shows "--accessible: so does Ctrl-C" '\[exit 130\]'

# What others have written does nothing to the terminal.
api POST /v1beta2/sandbox/profile-templates '{"profileTemplate":{"displayName":"foul","description":"\u001b]0;title\u0007two\nlines","labels":{"a":"\u001b[31m"},"spec":{}}}' >/dev/null
at 80 40 env NO_COLOR=1 "$BERM" profile edit foul
sees '┃ Description'; shows "hostile text: kept" 'kept as it is'; keys Enter
sees '┃ Labels'; shows "hostile text: visible" 'x1b|u001b'; keys Enter
sees 'Which parts'; keys Enter; sees container_image; typed host; keys Enter; enter runtime_class instance_types node_selector tags Reason
yes; shows "hostile text: made" '\[exit 0\]'
is "hostile text: as it was" '["\u001b]0;title\u0007two\nlines","\u001b[31m","host"]' "$("$BERM" profile get foul -o json | jq -c '[.description, .labels.a, .spec.containerImage]')"
is "hostile text: nothing of it reached the terminal" 0 "$(grep -cE $'\e\\]0;title|\e\\[31m' "$WORK/raw")"
is "NO_COLOR: no colors" 0 "$(grep -cE $'\e\\[[0-9;]*(3[0-7]|9[0-7]|38;)[0-9;]*m' "$WORK/raw")"
printf '# \342\200\256title\ntests:\n- name: small\n  expect: {verdict: admitted}\n' >"$WORK/tests.yaml"
"$BERM" profile tests put foul -f "$WORK/tests.yaml" >/dev/null
at 80 24 "$BERM" profile tests get foul
shows "policy tests: a terminal shows what is in the file" '# .u202etitle'
is "policy tests: a pipe gets it" "$(cat "$WORK/tests.yaml")" "$("$BERM" profile tests get foul 2>/dev/null)"

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
