#!/usr/bin/env bash
# A real one-node Kubernetes on a plain Linux machine (root), without a registry: programs of
# build.sh, images of images.sh, Debian's containerd, runc and CNI plug-ins. Ready in about 30 s.
# Says where the kubeconfig is on standard output; down.sh ends it. A node that runs is left alone.
# `--nodes N`: with node1 and so on beside it, as node.sh makes them.
# `--ipv6`: a cluster that has no IPv4, of one node. A lab of the other kind is ended first.
set -euo pipefail
. "$(dirname "$0")/paths.sh"
need containerd containerd
need runc runc
need iptables iptables
need conntrack conntrack
need ip iproute2
need openssl openssl
[ -x /usr/lib/cni/bridge ] || { say "CNI plug-ins are missing (Debian: apt-get install containernetworking-plugins)"; exit 3; }
nodes=1 family=dual
case ${1:-} in
  --nodes) nodes=$2 ;;
  --ipv6) family=ipv6 ;;
  ?*) say "usage: up.sh [--nodes N | --ipv6]"; exit 2 ;;
esac
was=$(cat "$LAB/family" 2>/dev/null || true)
echo $family >"$LAB/family"
. "$HERE/node-files.sh"
more_nodes() { local n; for ((n = 1; n < nodes; n++)); do "$HERE/node.sh" up "$n"; done; }

healthy() {
  curl -sf --max-time 2 --cacert "$LAB/ca.crt" -H "Authorization: Bearer $(cut -d, -f1 "$LAB/tokens.csv")" \
    "https://127.0.0.1:$API/readyz" >/dev/null 2>&1
}
if [ "$family" = "${was:-dual}" ] && [ -f "$LAB/kubelet.pid" ] && kill -0 "$(cat "$LAB/kubelet.pid")" 2>/dev/null && healthy; then
  more_nodes
  echo "$LAB/admin.kubeconfig"
  exit 0
fi
"$HERE/down.sh"
mkdir -p "$LAB"/{etcd,log,kubelet,cni,containerd}
cd "$LAB"
start() { # name, command...: apart from our terminal, its log and process id in files
  local name=$1
  shift
  setsid "$@" </dev/null >"$LAB/log/$name.log" 2>&1 &
  echo $! >"$LAB/$name.pid"
}
ip link show lab0 >/dev/null 2>&1 || { ip link add lab0 type bridge; ip addr add $NODE/32 dev lab0; ip link set lab0 up; }
ip -6 addr replace $NODE6/128 dev lab0 nodad
sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.route_localnet=1 net.ipv6.conf.all.forwarding=1 || true

# --- what nobody has stays here: the default route of the machine leads out of it
# A packet still to a Service's address after kube-proxy's rules is to none; a pod's packet that is on
# its way to no device of the lab would leave the machine. LAB-NOBODY counts what it drops.
ip route replace $SERVICES dev lab0 src $NODE
ip -6 route replace $SERVICES6 dev lab0 src $NODE6
ip route replace unreachable $PODS
ip -6 route replace unreachable $PODS6
nobody() { # program, services, pods
  local rule=("$1" -w -t mangle)
  "${rule[@]}" -N LAB-NOBODY
  "${rule[@]}" -A LAB-NOBODY -d "$2" -j DROP
  "${rule[@]}" -A LAB-NOBODY -o lab+ -j RETURN
  "${rule[@]}" -A LAB-NOBODY -o lo -j RETURN
  "${rule[@]}" -A LAB-NOBODY -d "$3" -j DROP
  "${rule[@]}" -A LAB-NOBODY -s "$3" -j DROP
  "${rule[@]}" -A POSTROUTING -j LAB-NOBODY
}
nobody iptables $SERVICES $PODS
nobody ip6tables $SERVICES6 $PODS6

# --- certificates: one authority for a month
[ -f sa.key ] || { openssl genrsa -out sa.key 2048; openssl rsa -in sa.key -pubout -out sa.pub; } 2>/dev/null
openssl x509 -in ca.crt -checkend 86400 -noout >/dev/null 2>&1 || {
  openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=lab-ca -days 30 2>/dev/null
  rm -f apiserver.crt front-proxy.crt kubelet.crt kubelet-client.crt
}
openssl x509 -in apiserver.crt -checkip fd00:96::1 -noout 2>/dev/null | grep -q 'does match' || rm -f apiserver.crt
certificate apiserver /CN=kube-apiserver \
  "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost,IP:127.0.0.1,IP:10.96.0.1,IP:$NODE,IP:fd00:96::1,IP:$NODE6"
certificate front-proxy /CN=front-proxy DNS:front-proxy
certificate kubelet /O=system:nodes/CN=system:node:node0 "DNS:node0,IP:$NODE"
certificate kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client DNS:kubelet-client
[ -f tokens.csv ] || printf '%s,admin,admin-uid,"system:masters"\n' "$(openssl rand -hex 16)" >tokens.csv
chmod 600 tokens.csv ./*.key
kubeconfig "token: $(cut -d, -f1 tokens.csv)" >admin.kubeconfig
kubeconfig "client-certificate: \"$LAB/kubelet.crt\", client-key: \"$LAB/kubelet.key\"" >kubelet.kubeconfig
chmod 600 ./*.kubeconfig

# --- control plane
start etcd "$KUBE/etcd" --name node0 --data-dir "$LAB/etcd" --unsafe-no-fsync \
  --listen-client-urls http://127.0.0.1:$ETCD --advertise-client-urls http://127.0.0.1:$ETCD \
  --listen-peer-urls http://127.0.0.1:$PEER --initial-advertise-peer-urls http://127.0.0.1:$PEER \
  --initial-cluster node0=http://127.0.0.1:$PEER
# Nodes are asked by address: the lab's DNS does not know their names.
start kube-apiserver "$KUBE/kube-apiserver" --etcd-servers=http://127.0.0.1:$ETCD \
  --bind-address=:: --advertise-address=$ADDRESS --secure-port=$API \
  --tls-cert-file=apiserver.crt --tls-private-key-file=apiserver.key --client-ca-file=ca.crt \
  --service-cluster-ip-range=$SERVICE_RANGES --allow-privileged=true --authorization-mode=Node,RBAC \
  --token-auth-file=tokens.csv --service-account-issuer=https://kubernetes.default.svc \
  --service-account-key-file=sa.pub --service-account-signing-key-file=sa.key \
  --requestheader-client-ca-file=ca.crt --requestheader-allowed-names=front-proxy \
  --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
  --requestheader-extra-headers-prefix=X-Remote-Extra- \
  --proxy-client-cert-file=front-proxy.crt --proxy-client-key-file=front-proxy.key \
  --kubelet-preferred-address-types=InternalIP \
  --kubelet-client-certificate=kubelet-client.crt --kubelet-client-key=kubelet-client.key \
  --audit-policy-file="$HERE/audit.yaml" --audit-log-path="$LAB/audit.log" --audit-log-maxsize=200 --v=1

# --- containers: the images come while the API server starts
containerd_toml "$LAB" >containerd.toml
# No masquerading: pods need nothing outside the node, and its rules would outlive a killed pod.
ranges='[{"subnet": "fd00:244::/64"}]' routes='{"dst": "::/0"}'
[ $family = ipv6 ] || ranges="[{\"subnet\": \"10.244.0.0/24\"}], $ranges" routes="{\"dst\": \"0.0.0.0/0\"}, $routes"
cat >cni/10-lab.conflist <<J
{"cniVersion": "0.4.0", "name": "lab", "plugins": [{"type": "bridge", "bridge": "labbr0", "isGateway": true, "hairpinMode": true,
 "ipam": {"type": "host-local", "dataDir": "$LAB/ipam", "ranges": [$ranges], "routes": [$routes]}}]}
J
start containerd containerd --config containerd.toml
until_ 30 containerd ctr_ version
for name in pause coredns metrics-server valkey redis; do ctr_ images import "$IMAGES/$name.tar" >/dev/null; done
until_ 90 kube-apiserver healthy
# The HPA looks every 2 s instead of 15: a test waits for it.
start kube-controller-manager "$KUBE/kube-controller-manager" --kubeconfig=admin.kubeconfig --leader-elect=false \
  --use-service-account-credentials=true --service-account-private-key-file=sa.key --root-ca-file=ca.crt \
  --cluster-cidr=$POD_RANGES --allocate-node-cidrs=true --horizontal-pod-autoscaler-sync-period=2s \
  --node-monitor-grace-period=20s
start kube-scheduler "$KUBE/kube-scheduler" --kubeconfig=admin.kubeconfig --leader-elect=false

# --- the node
kubelet_yaml "$LAB" >kubelet.yaml
start kubelet "$KUBE/kubelet" --config=kubelet.yaml --kubeconfig=kubelet.kubeconfig --hostname-override=node0 \
  --node-ip=$ADDRESSES --root-dir="$LAB/kubelet" --v=2
kube_proxy_yaml node0 "$LAB/admin.kubeconfig" >kube-proxy.yaml
start kube-proxy "$KUBE/kube-proxy" --config=kube-proxy.yaml --v=1

until_ 60 "the node" kubectl_ get node node0
sed "s/10\.96\.0\.10/$DNS/" "$HERE/addons.yaml" | kubectl_ apply -f - >/dev/null
kubectl_ wait --for=condition=Ready node/node0 --timeout=60s >&2
kubectl_ --namespace kube-system wait --for=condition=Available deployment --all --timeout=120s >&2
more_nodes
echo "$LAB/admin.kubeconfig"
