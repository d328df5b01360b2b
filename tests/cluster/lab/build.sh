#!/usr/bin/env bash
# Builds a whole Kubernetes from Go modules: etcd, kube-*, kubelet, kubectl, CoreDNS, metrics-server,
# helm (4, and 3 as `helm3`), by name kube-router; `crds` are definitions of other projects that the chart has objects of.
#   build.sh [NAME...]     only these programs; without names all of them
# About 10 minutes on 2 cores from nothing, at once when the programs are there. Needs Go 1.26.
# A program is put in its place only when it is whole, so a killed build does no harm, and what Go
# has compiled is in its own cache: the next one goes on from there.
set -euo pipefail
. "$(dirname "$0")/paths.sh"
K=${KUBE_VERSION:-1.36.2}
# In this order: tests without a node need the first and the last.
CONTROL=(etcd kube-apiserver kube-controller-manager helm kubectl)
NODE=(kube-scheduler kubelet kube-proxy coredns metrics-server)
ALL=("${CONTROL[@]}" crds "${NODE[@]}" helm3)
MORE=(kube-router) # only by name: further nodes have it (node.sh)
need go golang
export CGO_ENABLED=0
W=$(mktemp -d)
trap 'rm -rf "$W"' EXIT
mkdir "$W/bin"

place() { mv "$W/bin/$1" "$KUBE/${2:-$1}" && say "built ${2:-$1}"; }

# One module for all that is built on this Kubernetes, so that what its programs share (two thirds) is
# fetched and compiled once, and one is linked while another compiles. `go install` would refuse it
# anyhow: Kubernetes and etcd have replace lines in their go.mod, which are said again here.
declare -A PACKAGE=(
  [etcd]=go.etcd.io/etcd/server/v3
  [helm]=helm.sh/helm/v4/cmd/helm
  [metrics-server]=sigs.k8s.io/metrics-server/cmd/metrics-server
  [coredns]=./coredns
)
for name in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
  PACKAGE[$name]=k8s.io/kubernetes/cmd/$name
done
MODULES=(
  "k8s.io/kubernetes@v$K"
  go.etcd.io/etcd/server/v3@v3.6.8
  helm.sh/helm/v4@v4.2.4
  sigs.k8s.io/metrics-server@v0.9.0
  github.com/coredns/coredns@v1.12.4
)

module() {
  [ ! -d "$W/kube" ] || return 0
  mkdir -p "$W/kube/coredns"
  cd "$W/kube"
  go mod init lab.example/kube
  local mod module
  go mod edit -go=1.26.0 "${MODULES[@]/#/-require=}"
  mod=$(go mod download -json "k8s.io/kubernetes@v$K" | sed -n 's/^[[:space:]]*"GoMod": "\(.*\)",*$/\1/p')
  for module in $(sed -n 's|^[[:space:]]*\(k8s.io/[a-z-]*\) => ./staging/src/.*|\1|p' "$mod"); do
    go mod edit -replace "$module=$module@v0.${K#1.}"
  done
  # Only the plug-ins of addons.yaml: the others are clients of every cloud, half as much as Kubernetes.
  { printf 'package main\nimport (\n"github.com/coredns/coredns/coremain"\n'
    printf '_ "github.com/coredns/coredns/plugin/%s"\n' errors ready kubernetes reload
    printf ')\nfunc main() { coremain.Run() }\n'; } >coredns/main.go
}

# Unstamped, Kubernetes reports v0.0.0-master, and a chart's kubeVersion then refuses it.
together() { # names
  module
  cd "$W/kube"
  local P=k8s.io/component-base/version packages=() name
  for name in "$@"; do packages+=("${PACKAGE[$name]}"); done
  go build -mod=mod -trimpath -o "$W/bin/" -ldflags "-s -w -X $P.gitVersion=v$K -X $P.gitMajor=${K%%.*} \
    -X $P.gitMinor=$(cut -d. -f2 <<<"$K") -X $P.gitTreeState=clean -X $P.gitCommit=unknown \
    -X $P.buildDate=2026-01-01T00:00:00Z" "${packages[@]}"
  [ ! -e "$W/bin/server" ] || mv "$W/bin/server" "$W/bin/etcd"
  for name in "$@"; do place "$name"; done
}

# Unstamped it takes every cluster for Kubernetes 1.20 when it renders without one, and refuses the chart.
# It is of an older Kubernetes, so it shares nothing.
helm3() { # the oldest that the chart supports
  local P=helm.sh/helm/v3 version=v3.18.6 part stamps
  stamps="-X $P/internal/version.version=$version"
  for part in pkg/chartutil pkg/lint/rules; do
    stamps+=" -X $P/$part.k8sVersionMajor=${K%%.*} -X $P/$part.k8sVersionMinor=$(cut -d. -f2 <<<"$K")"
  done
  GOBIN="$W/bin" go install -trimpath -ldflags "-s -w $stamps" "$P/cmd/helm@$version"
  place helm helm3
}

kube-router() {
  GOBIN="$W/bin" go install -trimpath -ldflags "-s -w" github.com/cloudnativelabs/kube-router/v2/cmd/kube-router@v2.1.0
  place kube-router
}

crds() {
  mkdir -p "$W/crds" && cd "$W/crds"
  local module dir
  for module in sigs.k8s.io/gateway-api@v1.6.3 github.com/prometheus-operator/prometheus-operator@v0.85.0 \
    github.com/kedacore/keda/v2@v2.21.0; do
    dir=$(go mod download -json "$module" | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p')
    case $module in
      sigs*) cp "$dir"/config/crd/standard/*_httproutes.yaml . ;;
      *keda*) cp "$dir"/config/crd/bases/*_scaledobjects.yaml . ;;
      *) cp "$dir"/example/prometheus-operator-crd/*_{podmonitors,servicemonitors,prometheusrules}.yaml . ;;
    esac
  done
  chmod 644 ./*.yaml
  rm -rf "$KUBE/crds"
  mv "$W/crds" "$W/bin/crds" && place crds
}

asked=("${@:-${ALL[@]}}")
for name in "${asked[@]}"; do
  [[ " ${ALL[*]} ${MORE[*]} " == *" $name "* ]] || { say "no such program: $name (there are: ${ALL[*]} ${MORE[*]})"; exit 2; }
done
missing() { # names: those of them that are asked for and not there
  local name
  for name in "$@"; do
    [[ " ${asked[*]} " == *" $name "* ]] || continue
    # A folder of before KEDA's was among them is made again.
    [[ -x $KUBE/$name && ($name != crds || -e $KUBE/crds/keda.sh_scaledobjects.yaml) ]] || echo "$name"
  done
}
build() { # how, names
  local how=$1 names
  shift
  mapfile -t names < <(missing "$@")
  ((${#names[@]} == 0)) && return
  say "building ${names[*]}"
  "$how" "${names[@]}"
}
build together "${CONTROL[@]}"
build crds crds
build together "${NODE[@]}"
build helm3 helm3
build kube-router kube-router
