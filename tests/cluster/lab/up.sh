#!/usr/bin/env bash
# A real one-node Kubernetes on a plain Linux machine (root), without a registry: programs of
# build.sh, images of images.sh, Debian's containerd, runc and CNI plug-ins. Ready in about 30 s.
# Says where the kubeconfig is on standard output; down.sh ends it. A node that runs is left alone.
set -euo pipefail
. "$(dirname "$0")/paths.sh"
need containerd containerd
need runc runc
need iptables iptables
need conntrack conntrack
need ip iproute2
need openssl openssl
[ -x /usr/lib/cni/bridge ] || { say "CNI plug-ins are missing (Debian: apt-get install containernetworking-plugins)"; exit 3; }
ETCD=23790 PEER=23800 API=6443 NODE=10.99.0.1 PODS=10.244.0.0/16 SERVICES=10.96.0.0/16
# Both address families; a Service has the first one unless it says otherwise.
NODE6=fd00:99::1 PODS6=fd00:244::/56 SERVICES6=fd00:96::/112

healthy() {
  curl -sf --max-time 2 --cacert "$LAB/ca.crt" -H "Authorization: Bearer $(cut -d, -f1 "$LAB/tokens.csv")" \
    "https://127.0.0.1:$API/readyz" >/dev/null 2>&1
}
if [ -f "$LAB/kubelet.pid" ] && kill -0 "$(cat "$LAB/kubelet.pid")" 2>/dev/null && healthy; then
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
until_() { # seconds, what, command...
  local left=$(($1 * 5)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((left-- > 0)) || { say "$what did not come up; see $LAB/log"; exit 1; }
    sleep .2
  done
}

ip link show lab0 >/dev/null 2>&1 || { ip link add lab0 type bridge; ip addr add $NODE/32 dev lab0; ip link set lab0 up; }
ip -6 addr replace $NODE6/128 dev lab0 nodad
sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.route_localnet=1 net.ipv6.conf.all.forwarding=1 || true

# --- certificates: one authority for a month
[ -f sa.key ] || { openssl genrsa -out sa.key 2048; openssl rsa -in sa.key -pubout -out sa.pub; } 2>/dev/null
openssl x509 -in ca.crt -checkend 86400 -noout >/dev/null 2>&1 || {
  openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=lab-ca -days 30 2>/dev/null
  rm -f apiserver.crt front-proxy.crt kubelet.crt kubelet-client.crt
}
certificate() { # name, subject, alternative names
  [ ! -f "$1.crt" ] || return 0
  openssl req -newkey rsa:2048 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out "$1.crt" \
    -extfile <(printf 'subjectAltName=%s' "$3") 2>/dev/null
}
certificate apiserver /CN=kube-apiserver \
  "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost,IP:127.0.0.1,IP:10.96.0.1,IP:$NODE"
certificate front-proxy /CN=front-proxy DNS:front-proxy
certificate kubelet /O=system:nodes/CN=system:node:node0 "DNS:node0,IP:$NODE"
certificate kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client DNS:kubelet-client
[ -f tokens.csv ] || printf '%s,admin,admin-uid,"system:masters"\n' "$(openssl rand -hex 16)" >tokens.csv
chmod 600 tokens.csv ./*.key
kubeconfig() { # user fields
  cat <<Y
{apiVersion: v1, kind: Config, current-context: lab, contexts: [{name: lab, context: {cluster: lab, user: lab}}],
 clusters: [{name: lab, cluster: {server: "https://127.0.0.1:$API", certificate-authority: "$LAB/ca.crt"}}],
 users: [{name: lab, user: {$1}}]}
Y
}
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
  --bind-address=0.0.0.0 --advertise-address=$NODE --secure-port=$API \
  --tls-cert-file=apiserver.crt --tls-private-key-file=apiserver.key --client-ca-file=ca.crt \
  --service-cluster-ip-range=$SERVICES,$SERVICES6 --allow-privileged=true --authorization-mode=Node,RBAC \
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
cat >containerd.toml <<T
version = 2
root = "$LAB/containerd/root"
state = "$LAB/containerd/state"
[grpc]
  address = "$LAB/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/lab/pause:1"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$LAB/cni"
T
# No masquerading: pods need nothing outside the node, and its rules would outlive a killed pod.
cat >cni/10-lab.conflist <<J
{"cniVersion": "0.4.0", "name": "lab", "plugins": [{"type": "bridge", "bridge": "labbr0", "isGateway": true, "hairpinMode": true,
 "ipam": {"type": "host-local", "dataDir": "$LAB/ipam", "ranges": [[{"subnet": "10.244.0.0/24"}],
 [{"subnet": "fd00:244::/64"}]], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}]}
J
start containerd containerd --config containerd.toml
until_ 30 containerd ctr_ version
for name in pause coredns metrics-server valkey redis; do ctr_ images import "$IMAGES/$name.tar" >/dev/null; done
until_ 90 kube-apiserver healthy
# The HPA looks every 2 s instead of 15: a test waits for it.
start kube-controller-manager "$KUBE/kube-controller-manager" --kubeconfig=admin.kubeconfig --leader-elect=false \
  --use-service-account-credentials=true --service-account-private-key-file=sa.key --root-ca-file=ca.crt \
  --cluster-cidr=$PODS,$PODS6 --allocate-node-cidrs=true --horizontal-pod-autoscaler-sync-period=2s \
  --node-monitor-grace-period=20s
start kube-scheduler "$KUBE/kube-scheduler" --kubeconfig=admin.kubeconfig --leader-elect=false

# --- the node
cat >kubelet.yaml <<Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $LAB/ca.crt}}
authorization: {mode: Webhook}
clusterDNS: ["10.96.0.10"]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix://$LAB/containerd.sock
featureGates: {KubeletInUserNamespace: true}
imageGCHighThresholdPercent: 100
evictionHard: {}
resolvConf: /etc/resolv.conf
staticPodPath: ""
maxPods: 200
tlsCertFile: $LAB/kubelet.crt
tlsPrivateKeyFile: $LAB/kubelet.key
Y
start kubelet "$KUBE/kubelet" --config=kubelet.yaml --kubeconfig=kubelet.kubeconfig --hostname-override=node0 \
  --node-ip=$NODE,$NODE6 --root-dir="$LAB/kubelet" --v=2
cat >kube-proxy.yaml <<Y
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $LAB/admin.kubeconfig}
mode: iptables
hostnameOverride: node0
clusterCIDR: "$PODS,$PODS6"
conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
Y
start kube-proxy "$KUBE/kube-proxy" --config=kube-proxy.yaml --v=1

kubectl_() { "$KUBE/kubectl" --kubeconfig "$LAB/admin.kubeconfig" "$@"; }
until_ 60 "the node" kubectl_ get node node0
kubectl_ apply -f "$HERE/addons.yaml" >/dev/null
kubectl_ wait --for=condition=Ready node/node0 --timeout=60s >&2
kubectl_ --namespace kube-system wait --for=condition=Available deployment --all --timeout=120s >&2
echo "$LAB/admin.kubeconfig"
