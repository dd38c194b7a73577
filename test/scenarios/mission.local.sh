# Sourced by mission.sh: runners on this machine.

IMAGE=host RUNNERS=()

# cgroup_name SANDBOX: what is in the path of its cgroups.
cgroup_name() { echo "$1"; }

# connect SANDBOX HOST PORT: connected or blocked.
connect() {
  "$BERM" exec "$1" -- python3 -c 'import socket, sys
try: socket.create_connection((sys.argv[1], int(sys.argv[2])), 2); print("connected")
except OSError: print("blocked")' "$2" "$3"
}

# ways_out SANDBOX: interfaces besides loopback.
ways_out() { "$BERM" exec "$1" -- sh -c 'tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d " " | grep -vx lo'; }
