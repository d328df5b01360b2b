#!/usr/bin/env bash
# Process 1 of a further node (node.sh): it sees no process, network or mount of the machine's but what
# is written here, and all of it ends with it. LAB, KUBE and HERE are those of paths.sh.
set -euo pipefail
say() { printf 'lab: %s\n' "$*" >&2; }
. "$HERE/node-files.sh"
N=$1 NAME=node$1 DIR=$LAB/node$1
cd "$LAB"
hostname "$NAME"
# The kubelet wants shared mounts; outside of the node nobody sees them.
mount --make-rshared /
mount -t tmpfs tmpfs /run
mkdir /run/netns /run/lock
mount --bind "$DIR/log" /var/log
mkdir -p /var/lib/kubelet
mount --bind "$DIR/kubelet" /var/lib/kubelet
mount --make-shared /var/lib/kubelet

start() { # name, command...
  local name=$1
  shift
  "$@" </dev/null >"$LAB/log/$NAME-$name.log" 2>&1 &
}
ip link set lo up
until_ 10 "the network of $NAME" ip link show eth0
ip addr add "10.99.0.$((N + 1))/32" dev eth0
ip -6 addr add "fd00:99::$((N + 1))/128" dev eth0 nodad
ip link set eth0 up
ip route add default via $NODE dev eth0 onlink src "10.99.0.$((N + 1))"
ip -6 route add default via $NODE6 dev eth0 onlink src "fd00:99::$((N + 1))"
sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.route_localnet=1 net.ipv6.conf.all.forwarding=1

rm -rf "$DIR/containerd.sock" "$DIR/containerd/state"
start containerd containerd --config "$DIR/containerd.toml"
until_ 30 "containerd of $NAME" ctr --address "$DIR/containerd.sock" version
start kubelet "$KUBE/kubelet" --config="$DIR/kubelet.yaml" --kubeconfig="$DIR/kubelet.kubeconfig" \
  --hostname-override="$NAME" --node-ip="10.99.0.$((N + 1)),fd00:99::$((N + 1))" \
  --node-labels="topology.kubernetes.io/zone=zone-$N" --v=2

cidrs() {
  "$KUBE/kubectl" --kubeconfig "$DIR/admin.kubeconfig" get node "$NAME" --output jsonpath='{.spec.podCIDRs[*]}' | grep .
}
until_ 60 "the pod addresses of $NAME" cidrs
read -r pods pods6 < <(cidrs)
# An address of its own range that no pod has: without these routes it would go out and come back.
ip route add unreachable "$pods"
ip -6 route add unreachable "$pods6"
start kube-proxy "$KUBE/kube-proxy" --config="$DIR/kube-proxy.yaml" --v=1
start kube-router "$KUBE/kube-router" --kubeconfig="$DIR/admin.kubeconfig" --hostname-override="$NAME" \
  --run-firewall=true --run-router=false --run-service-proxy=false --enable-cni=false --health-port=0 \
  --metrics-port=0 --enable-ipv4=true --enable-ipv6=true --service-cluster-ip-range=$SERVICES \
  --service-cluster-ip-range=$SERVICES6 --v=1
until_ 30 "kube-router of $NAME" iptables -S KUBE-ROUTER-FORWARD
# The node is ready for pods with this file: not before policies are enforced. Without a bridge between
# pods, each of their packets is routed, and passes the rules. Nothing is masqueraded. It is written in
# place, because containerd 1.6 takes no notice of a file that is moved there.
cat >"$DIR/cni/10-lab.conflist" <<J
{"cniVersion": "0.4.0", "name": "lab", "plugins": [{"type": "ptp",
 "ipam": {"type": "host-local", "dataDir": "/run/ipam", "ranges": [[{"subnet": "$pods"}], [{"subnet": "$pods6"}]],
 "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}]}
J
# It is the parent of what outlives its own, and waits for their ends, too.
sleep infinity &
wait $!
