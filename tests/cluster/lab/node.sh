#!/usr/bin/env bash
# Further nodes of a lab that runs: each is a process namespace with a network, mounts, a containerd
# and a kubelet of its own, a zone, and kube-router, which enforces NetworkPolicies on its pods.
#   node.sh up N       starts node N (1 to 9), or turns it on again, and waits until it is ready
#   node.sh off N      turns the power off: SIGKILL to all of it at once; what it had written stays
#   node.sh remove N   turns it off and forgets it
# While there are such nodes, node0 takes no pods but those that tolerate its taint: its own network
# enforces nothing. To the other nodes one without power is silence, not an unreachable host.
set -euo pipefail
. "$(dirname "$0")/paths.sh"
. "$HERE/node-files.sh"
[[ ${1:-} =~ ^(up|off|remove)$ && ${2:-} =~ ^[1-9]$ ]] || { say "usage: node.sh up|off|remove N"; exit 2; }
N=$2 NAME=node$2 DIR=$LAB/node$2
TAINT=node-role.kubernetes.io/control-plane:NoSchedule
cd "$LAB"

runs() { [ -f "$DIR/pid" ] && [ "$(cat "/proc/$(cat "$DIR/pid")/comm" 2>/dev/null)" = unshare ]; }
off() {
  ! runs || {
    local pid
    pid=$(cat "$DIR/pid")
    # First the network: the kernel closes the connections of a process that is killed.
    ip link set "cable$N" down 2>/dev/null || true
    kill -9 "$pid" # with it dies process 1 of the node, and with that all others
    until_ 10 "the end of $NAME" [ ! -e "/proc/$pid" ]
    # The kernel removes a network some time after its last process.
    ip link del "cable$N" 2>/dev/null || true
  }
  # The machine's own is only what its control groups have left.
  local id
  for id in $(ls "$DIR/containerd/state/io.containerd.runtime.v2.task/k8s.io" 2>/dev/null); do
    rmdir /sys/fs/cgroup/{,*/}"k8s.io/$id" 2>/dev/null || true
  done
  rm -f "$DIR/pid"
}
remove() {
  off
  kubectl_ delete node "$NAME" --ignore-not-found >/dev/null 2>&1 || true
  ip link del "lab$N" 2>/dev/null || true
  forget "$DIR"
  compgen -G "$LAB/node?" >/dev/null || kubectl_ taint nodes node0 "$TAINT-" >/dev/null 2>&1 || true
}

up() {
  ! runs || { say "$NAME runs"; exit 0; }
  [ -x "$KUBE/kube-router" ] || { say "kube-router is missing: build.sh kube-router"; exit 3; }
  [ "$ADDRESS" = $NODE ] || { say "a lab without IPv4 has one node"; exit 3; }
  need ipset ipset
  need unshare util-linux
  kubectl_ taint nodes node0 "$TAINT" --overwrite >/dev/null
  mkdir -p "$DIR"/{containerd,kubelet,cni,log}
  rm -f "$DIR"/cni/*
  certificate "$DIR/kubelet" "/O=system:nodes/CN=system:node:$NAME" "DNS:$NAME,IP:10.99.0.$((N + 1))"
  kubeconfig "client-certificate: \"$DIR/kubelet.crt\", client-key: \"$DIR/kubelet.key\"" "$NODE" >"$DIR/kubelet.kubeconfig"
  kubeconfig "token: $(cut -d, -f1 tokens.csv)" "$NODE" >"$DIR/admin.kubeconfig"
  chmod 600 "$DIR"/*.kubeconfig
  containerd_toml "$DIR" >"$DIR/containerd.toml"
  kubelet_yaml "$DIR" >"$DIR/kubelet.yaml"
  kube_proxy_yaml "$NAME" "$DIR/admin.kubeconfig" >"$DIR/kube-proxy.yaml"

  # A bridge with one cable: it stays, with its routes and the node's hardware address, without power.
  ip link show "lab$N" >/dev/null 2>&1 || {
    ip link add "lab$N" type bridge
    ip addr add $NODE/32 dev "lab$N"
    ip -6 addr add $NODE6/128 dev "lab$N" nodad
    ip link set "lab$N" up
    local mac=02:00:00:00:99:0$N
    ip neigh replace "10.99.0.$((N + 1))" lladdr $mac nud permanent dev "lab$N"
    ip -6 neigh replace "fd00:99::$((N + 1))" lladdr $mac nud permanent dev "lab$N"
    ip route replace "10.99.0.$((N + 1))" dev "lab$N" src $NODE
    ip -6 route replace "fd00:99::$((N + 1))" dev "lab$N" src $NODE6
  }
  LAB=$LAB KUBE=$KUBE HERE=$HERE setsid unshare --net --pid --mount --uts --ipc --fork --kill-child=KILL --mount-proc --propagation private \
    "$HERE/node-init.sh" "$N" </dev/null >"$LAB/log/$NAME.log" 2>&1 &
  local outer=$! first
  echo "$outer" >"$DIR/pid"
  until_ 10 "process 1 of $NAME" grep -q . "/proc/$outer/task/$outer/children"
  first=$(tr -d ' ' <"/proc/$outer/task/$outer/children")
  ip link add "cable$N" type veth peer name eth0 address "02:00:00:00:99:0$N" netns "$first"
  ip link set "cable$N" master "lab$N" up

  images
  until_ 60 "$NAME" kubectl_ get node "$NAME"
  local cidr
  until_ 20 "the pod addresses of $NAME" cidrs
  for cidr in $(cidrs); do
    case $cidr in
      *:*) ip -6 route replace "$cidr" via "fd00:99::$((N + 1))" dev "lab$N" src $NODE6 ;;
      *) ip route replace "$cidr" via "10.99.0.$((N + 1))" dev "lab$N" src $NODE ;;
    esac
  done
  until_ 30 "the pod network of $NAME" test -f "$DIR/cni/10-lab.conflist"
  # After a loss of power it is "Ready" until somebody has missed it.
  until_ 60 "$NAME" ready_since "$(stat -c %Y "$DIR/pid")"
  say "$NAME is ready"
}
cidrs() { kubectl_ get node "$NAME" --output jsonpath='{.spec.podCIDRs[*]}' | grep .; }
ready_since() { # seconds since the epoch: its kubelet has reported since
  local told
  told=$(kubectl_ get node "$NAME" --output \
    jsonpath='{range .status.conditions[?(@.type=="Ready")]}{.status} {.lastHeartbeatTime}{end}')
  [[ $told == True* && $(date -d "${told#* }" +%s) -ge $1 ]]
}
images() { # from node0, what this one has not
  local here there tag
  until_ 30 "containerd of $NAME" test -S "$DIR/containerd.sock"
  here() { ctr --address "$DIR/containerd.sock" --namespace k8s.io "$@"; }
  until_ 30 "containerd of $NAME" here version
  there=$(here images ls --quiet)
  for tag in $(ctr_ images ls --quiet | grep -v ^sha256); do
    grep -qxF "$tag" <<<"$there" || ctr_ images export - "$tag" | here images import - >/dev/null
  done
}
"$1"
