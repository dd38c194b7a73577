# Sourced by install.sh, where the page's runner `prod` has a sandbox $ID: its deployment is changed, by hand and by itself, as the page says
# and as it may go wrong. It leaves a runner that its owner changes.

deployment() { way; berm runner get prod -o json | jq -r "$1"; }
revision() { deployment '"\(.activeRevision) of \(.targetRevision)"'; }
of_pod() { kubectl get pod -n berm berm-runner-0 -o "jsonpath=$1"; }
image() { of_pod '{.spec.containers[0].image}'; }
limit() { of_pod '{.spec.containers[0].env[?(@.name=="GOMEMLIMIT")].value}'; }
# set_is: which StatefulSet this is, in which version of what it is to be, and its pod.
set_is() { echo "$(kubectl get statefulset -n berm berm-runner -o 'jsonpath={.metadata.uid} {.metadata.generation}') $(of_pod '{.metadata.uid}')"; }
rehearsed() { kubectl get events -n berm --field-selector "involvedObject.name=berm-runner-rehearsal,reason=${1:-Started}" -o name | wc -l; }
rehearsals_left() { kubectl get pods -A -o name | grep -c rehearsal; }
says() { # NAME TEXT IN: that IN has TEXT in it
  check "$1" yes "$(grep -qF -- "$2" <<<"$3" && echo yes || echo "$3")"
}
# serves: the sandbox of before is there, and its runner takes another.
serves() {
  check "$1: the sandbox went on" still "$(at_last still still)"
  check "$1: and a new one comes" new "$(berm run -- echo new 2>&1)"
}
manage() { # CRON LIMIT [CHANNEL]: windows of a minute, and the override
  berm runner edit prod --yes -f - 2>&1 <<Y
managed_spec:
  release_channel: RELEASE_CHANNEL_${3:-STABLE}
  maintenance_policy: {windows: [{cron: "$1", duration_seconds: 60}]}
  overrides: {env: {GOMEMLIMIT: $2}}
Y
}
offer() { # ARGUMENTS, in JSON: the server is started with them
  helm upgrade berm-gateway deploy/helm/berm-gateway --namespace berm --reset-then-reuse-values --set-json "extraArgs=$1" --wait >offer.out 2>&1 || cat offer.out
}
always="* * * * *" # A window opens as the one before it ends.

# --- as installed: it is said, and nothing is done
before=$(set_is)
follow "By hand"
says "what is not applied is said to whoever edits" "managed_spec.overrides.env is not applied: this runner does not change its own deployment" "$(cat partBy-hand.err)"
check "and who looks" "this runner does not change its own deployment: env of its overrides are not applied" "$(deployment .deployment.pending)"
told=$(deployment '.deployment.hints[0]')
check "with the command" "Run, in a clone of Berm's repository: helm upgrade berm-runner deploy/helm/berm-runner --namespace berm --reset-then-reuse-values --set-json 'env={\"GOMEMLIMIT\":\"800MiB\"}' --set revision=2" "$told"
# The runner has been heard of since, for longer than servers take to look at deployments.
beats() { deployment .lastHeartbeatAt; }
beaten() { [ "$(beats)" = "$1" ] || echo yes; }
for beat in one another "a third"; do check "the runner gives a sign of life, $beat" yes "$(at_last yes beaten "$(beats)")"; done
check "nothing has changed" "$before, 1 of 2" "$(set_is), $(revision)"
bash -c "${told#*: }" >told.out 2>&1 || cat told.out
check "the command is what makes it so" "2 of 2" "$(at_last "2 of 2" revision)"
check "and that is what runs" 800MiB "$(limit)"
check "nothing was rehearsed for it" 0 "$(rehearsed)"
serves "by hand"

# --- the runner changes itself
follow "By the runner itself"
check "an override is rolled out" "3 of 3" "$(revision)"
check "and is what runs" 700MiB "$(limit)"
check "the runner has patched its StatefulSet" berm-self-update "$(kubectl get statefulset -n berm berm-runner -o json --show-managed-fields | jq -r '.metadata.managedFields[].manager' | grep -x berm-self-update)"
check "after a rehearsal" 1 "$(rehearsed)"
check "of which nothing is left" 0 "$(at_last 0 rehearsals_left)"
serves "by itself"

# --- a proxy is for what is outside of the cluster: its API server is reached as before
proxied="{env: {GOMEMLIMIT: 700MiB, HTTPS_PROXY: \"http://127.0.0.1:9\"}}"
override() { berm runner edit prod --yes -f - 2>&1 <<<"managed_spec: {overrides: $1}"; }
override "$proxied" >override.out || cat override.out
check "a proxy that nobody is behind is rolled out" "4 of 4" "$(at_last "4 of 4" revision)"
check "and is what the pod has" http://127.0.0.1:9 "$(of_pod '{.spec.containers[0].env[?(@.name=="HTTPS_PROXY")].value}')"
serves "with a proxy"
check "the runner is well" RUNNER_INSTALL_STATUS_READY "$(deployment .installStatus)"
override "{env: {GOMEMLIMIT: 700MiB}}" >override.out || cat override.out
check "and rolls the next one out" "5 of 5" "$(at_last "5 of 5" revision)"
check "without what was overridden" "" "$(of_pod '{.spec.containers[0].env[?(@.name=="HTTPS_PROXY")].value}')"

# --- what is its owner's
target=$(deployment .targetRevision)
vars="cannot be given to a runner from here: only HTTP_PROXY, HTTPS_PROXY, NO_PROXY, http_proxy, https_proxy, no_proxy, GOMEMLIMIT, GOMAXPROCS, GOGC, TZ; the others are its owner's to say"
words="cannot be given to a runner from here: only --verbose, --log-format, --output-retention, --output-limit, --kube-init, each as one word, --flag=value; the others are its owner's to say"
says "its token" "managed_spec.overrides.env[BERM_RUNNER_TOKEN]: $vars" "$(override '{env: {BERM_RUNNER_TOKEN: x}}')"
says "what identifies its deployment" "managed_spec.overrides.env[BERM_DEPLOYMENT_IDENTITY]: $vars" "$(override '{env: {BERM_DEPLOYMENT_IDENTITY: x}}')"
says "whom it trusts" "managed_spec.overrides.args[0]: \"--gateway=https://other.example\" $words" "$(override '{args: ["--gateway=https://other.example"]}')"
says "where it keeps who it is" "managed_spec.overrides.args[1]: \"--data=/tmp\" $words" "$(override '{args: [--verbose, --data=/tmp]}')"
own="which is Kubernetes', Berm's or changes what a pod may do; a name of your own can be given, such as team or example.com/team"
says "which object it is" "managed_spec.overrides.labels[app.kubernetes.io/name]: is of kubernetes.io/, $own" "$(override '{labels: {app.kubernetes.io/name: x}}')"
says "which revision it is" "managed_spec.overrides.annotations[berm.dev/deployment-revision]: is of berm.dev/, $own" "$(override '{annotations: {berm.dev/deployment-revision: "9"}}')"
says "its account is no override at all" 'overrides.service_account: unknown field "service_account"; known are node_selector, tolerations, resources, annotations, labels, env, args, scaling,' "$(override '{service_account: default}')"
check "none of it is wanted" "$target" "$(deployment .targetRevision)"

# --- a release waits for its window
follow "A release is offered"
check "it is offered, and when it comes is said" "true registry.example/berm:2 true" "$(deployment '"\(.updateAvailable) \(.deployment.offeredImage) \(.deployment.nextUpdateAt != null)"')"
installed=$(deployment .revision)
# The server looks at what may be applied before it tells a runner of anything.
manage "$closed" 600MiB >manage.out || cat manage.out
check "an override is rolled out meanwhile" "6 of 6" "$(at_last "6 of 6" revision)"
check "the release is not" "registry.example/berm:1 600MiB true" "$(image) $(limit) $(deployment .updateAvailable)"
follow "It is applied now"
check "it is applied when somebody says so" "registry.example/berm:2 600MiB 7 of 7" "$(image) $(limit) $(revision)"
check "and offered no more" "false registry.example/berm:2" "$(deployment '"\(.updateAvailable // false) \(.deployment.activeImage)"')"
serves "the release"

# --- one whose image is not there
offer '["--release=stable=3,registry.example/berm:3", "--release=rapid=9,other.example/berm:9"]'
offered() { deployment .deployment.offeredImage; }
check "another is offered" registry.example/berm:3 "$(at_last registry.example/berm:3 offered)"
before=$(set_is)
manage "$always" 600MiB >manage.out || cat manage.out
failed_by() { deployment .deployment.error.reason; }
check "it is tried in its window, and fails" IMAGE_PULL_FAILED "$(at_last IMAGE_PULL_FAILED failed_by)"
got=$(berm runner get prod)
says "berm runner get says what" "# deployment: revision 8 could not be rolled out: the image cannot be pulled" "$got"
says "what was seen" "registry.example/berm:3" "$(grep '^# seen: IMAGE_PULL_FAILED at ' <<<"$got")"
says "and what to do" "# hint: Push it to where the nodes pull from, or see to their access." "$got"
check "the old one is as it was" "$before, RUNNER_INSTALL_STATUS_READY, 7 of 8" "$(set_is), $(deployment .installStatus), $(revision)"
check "nothing is left of the rehearsal" 0 "$(at_last 0 rehearsals_left)"
serves "without the image"
manage "$closed" 600MiB RAPID >manage.out || cat manage.out
says "an image of another repository is not taken" "takes no image other.example/berm:9: its owner allows registry.example/berm" "$(berm runner upgrade prod 2>&1)"
check "and not wanted" 8 "$(deployment .targetRevision)"

# --- and a good one after it, in a window
berm kube-image --name registry.example/berm:4 --out berm-4.tar && "$here/cluster" load berm-4.tar
offer '["--release=stable=4,registry.example/berm:4"]'
check "the server is back, and wants nothing else yet" 8 "$(at_last 8 deployment .targetRevision)"
manage "$always" 600MiB >manage.out || cat manage.out
check "it is applied in its window" "9 of 9" "$(at_last "9 of 9" revision)"
check "and is what runs" registry.example/berm:4 "$(image)"
check "by whom is in the history" "maintenance policy" "$(berm runner history prod -o json | jq -r '.. | objects | select((.reason? // "") | startswith("update to 4 ")) | .by')"
check "what failed is over" " null" "$(deployment '"\(.deployment.pending) \(.deployment.error)"')"
serves "the next release"

# --- a rollback is one of the configuration
says "a rollback says that the release stays" "the release is not part of a rollback: it stays 4 (registry.example/berm:4); revision $installed had the one that was installed" \
  "$(berm runner rollback prod "$installed" 2>&1)"
check "and is rolled out" "10 of 10" "$(at_last "10 of 10" revision)"
check "with the override of before, and the release of now" "700MiB registry.example/berm:4" "$(limit) $(image)"

# --- what somebody takes back on the cluster is not tried again
kubectl rollout undo -n berm statefulset/berm-runner >/dev/null
check "a change is undone, and the one of before runs" "9 of 10" "$(at_last "9 of 10" revision)"
kubectl delete pod -n berm berm-gateway-0 >/dev/null # A server that starts anew does not know what it has asked for.
check "what was undone is not tried again" ROLLOUT_UNDONE "$(at_last ROLLOUT_UNDONE failed_by)"
check "it is as it was" "600MiB 9 of 10" "$(limit) $(revision)"
says "which is said, with what would be tried" "# hint: Change what is wanted: berm runner edit." "$(berm runner get prod)"
serves "undone"
override "{env: {GOMEMLIMIT: 500MiB}}" >override.out || cat override.out
check "something else is rolled out" "500MiB 11 of 11" "$(at_last "11 of 11" revision >/dev/null; echo "$(limit) $(revision)")"

# --- its owner takes it back
says "helm does not take back what the runner has changed" berm-self-update \
  "$(helm upgrade berm-runner deploy/helm/berm-runner --namespace berm --reset-then-reuse-values --set selfUpdate.enabled=false 2>&1)"
follow "It is the owner's again"
by_hand() { deployment '.deployment.pending // ""' | grep -c "does not change its own deployment"; }
check "the runner says that it does not change itself" 1 "$(at_last 1 by_hand)"
check "it is what its chart says" "registry.example/berm:1 800MiB" "$(image) $(limit)"
refused=$(berm runner upgrade prod 2>&1)
says "a release is refused" "runner prod does not change its own deployment; its release channel offers 4 (registry.example/berm:4)" "$refused"
told=$(grep -o "helm upgrade berm-runner .*--set revision=[0-9]*" <<<"$refused" | head -n 1)
bash -c "$told" >told.out 2>&1 || cat told.out
check "the command that it names is what makes it so" "registry.example/berm:4 500MiB 11 of 11" "$(at_last "11 of 11" revision >/dev/null; echo "$(image) $(limit) $(revision)")"
serves "in the end"
