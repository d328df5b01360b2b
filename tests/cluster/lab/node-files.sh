# What every node is configured with: certificates, and the files of its programs. Sourced by up.sh
# and node.sh, in the folder $LAB; DIR is where the node keeps its state.
ETCD=23790 PEER=23800 API=6443 NODE=10.99.0.1 PODS=10.244.0.0/16 SERVICES=10.96.0.0/16
NODE6=fd00:99::1 PODS6=fd00:244::/56 SERVICES6=fd00:96::/112
# What the cluster has of it: both address families, of which a Service has the first one unless it
# says otherwise; or, if the lab was started so, IPv6 and nothing else.
if [ "$(cat "$LAB/family" 2>/dev/null)" = ipv6 ]; then
  ADDRESS=$NODE6 ADDRESSES=$NODE6 POD_RANGES=$PODS6 SERVICE_RANGES=$SERVICES6 DNS=fd00:96::a
else
  ADDRESS=$NODE ADDRESSES=$NODE,$NODE6 POD_RANGES=$PODS,$PODS6 SERVICE_RANGES=$SERVICES,$SERVICES6 DNS=10.96.0.10
fi

until_() { # seconds, what, command...
  local left=$(($1 * 5)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((left-- > 0)) || { say "$what did not come up; see $LAB/log"; exit 1; }
    sleep .2
  done
}
kubectl_() { "$KUBE/kubectl" --kubeconfig "$LAB/admin.kubeconfig" "$@"; }

# The files of images and pods are so many that a slow disk needs a minute for them: out of the way now,
# and gone a little later.
forget() { # paths in $LAB
  local gone path
  gone=$(mktemp -d "$LAB/gone.XXXXXX")
  for path in "$@"; do
    [ ! -e "$path" ] || mv "$path" "$gone/" || rm -rf "$path"
  done
  setsid nice -n 19 rm -rf "$LAB"/gone.* </dev/null >/dev/null 2>&1 &
}

certificate() { # name, subject, alternative names
  [ ! -f "$1.crt" ] || return 0
  openssl req -newkey rsa:2048 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out "$1.crt" \
    -extfile <(printf 'subjectAltName=%s' "$3") 2>/dev/null
  chmod 600 "$1.key"
}
kubeconfig() { # user fields, address of the API server
  cat <<Y
{apiVersion: v1, kind: Config, current-context: lab, contexts: [{name: lab, context: {cluster: lab, user: lab}}],
 clusters: [{name: lab, cluster: {server: "https://${2:-127.0.0.1}:$API", certificate-authority: "$LAB/ca.crt"}}],
 users: [{name: lab, user: {$1}}]}
Y
}
containerd_toml() { # DIR
  cat <<T
version = 2
root = "$1/containerd/root"
state = "$1/containerd/state"
[grpc]
  address = "$1/containerd.sock"
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
    conf_dir = "$1/cni"
T
}
kubelet_yaml() { # DIR
  cat <<Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $LAB/ca.crt}}
authorization: {mode: Webhook}
clusterDNS: ["$DNS"]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix://$1/containerd.sock
featureGates: {KubeletInUserNamespace: true}
imageGCHighThresholdPercent: 100
evictionHard: {}
resolvConf: /etc/resolv.conf
staticPodPath: ""
maxPods: 200
tlsCertFile: $1/kubelet.crt
tlsPrivateKeyFile: $1/kubelet.key
Y
}
kube_proxy_yaml() { # name of the node, kubeconfig
  cat <<Y
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $2}
mode: iptables
hostnameOverride: $1
clusterCIDR: "$POD_RANGES"
conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
Y
}
