# Sourced by mission.sh: two runners on the cluster of $KUBECONFIG, whose node has the images of test/cluster/lib.sh. Sandboxes are held to
# their modes from within their pods.

IMAGE=localhost/tools:test
RUNNERS=(--kube "east=$KUBECONFIG" --kube "west=$KUBECONFIG" --kube-init-image localhost/berm-init:test --kube-network guard)
kubectl label node --all --overwrite pool=general site=west >/dev/null || exit 1

# cgroup_name SANDBOX: what is in the path of its cgroups.
cgroup_name() { kubectl get pods -A -l "berm.dev/sandbox-id=$1" -o 'jsonpath={.items[0].metadata.uid}'; }

# connect SANDBOX HOST PORT: connected or blocked.
connect() {
  "$BERM" exec "$1" -- sh -c '/bin/busybox nc -w 2 "$0" "$1" </dev/null >/dev/null 2>&1 && echo connected || echo blocked' "$2" "$3"
}

# ways_out SANDBOX: what answers of what is nearest, and would without rules: the API server of the cluster, on the address of the node.
ways_out() {
  local node; node=$(kubectl get nodes -o 'jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}')
  curl -ks --max-time 5 "https://$node:6443/livez" >/dev/null || echo "the API server does not answer on $node"
  connect "$1" "$node" 6443 | grep -v blocked
}
