#!/usr/bin/env bash
# Builds a whole Kubernetes from Go modules: etcd, kube-*, kubelet, kubectl, CoreDNS, metrics-server,
# helm (4, and 3 as `helm3`); `crds` are definitions of other projects that the chart has objects of.
#   build.sh [NAME...]     only these programs; without names all of them
# About 9 minutes on 2 idle cores from nothing, at once when the programs are there. Needs Go 1.26.
# A program is put in its place only when it is whole, so a killed build does no harm.
set -euo pipefail
. "$(dirname "$0")/paths.sh"
K=${KUBE_VERSION:-1.36.2}
ALL=(etcd kube-apiserver kube-controller-manager helm kubectl kube-scheduler kubelet kube-proxy coredns metrics-server crds helm3)
need go golang
export CGO_ENABLED=0
W=$(mktemp -d)
trap 'rm -rf "$W"' EXIT
mkdir "$W/bin"

done_() { mv "$W/bin/$1" "$KUBE/$1" && say "built $1"; }

plain() { # name, package@version: what `go install` takes as it is
  GOBIN="$W/bin" go install -trimpath -ldflags '-s -w' "$2"
  done_ "$1"
}

# Unstamped it takes every cluster for Kubernetes 1.20 when it renders without one, and refuses the chart.
helm3() { # version
  local P=helm.sh/helm/v3 part stamps="-X helm.sh/helm/v3/internal/version.version=$1"
  for part in pkg/chartutil pkg/lint/rules; do
    stamps+=" -X $P/$part.k8sVersionMajor=${K%%.*} -X $P/$part.k8sVersionMinor=$(cut -d. -f2 <<<"$K")"
  done
  GOBIN="$W/bin" go install -trimpath -ldflags "-s -w $stamps" "$P/cmd/helm@$1"
  mv "$W/bin/helm" "$W/bin/helm3"
  done_ helm3
}

# etcd and Kubernetes have replace lines in their go.mod, so `go install` refuses them.
# As dependencies of a module of our own they build; Kubernetes with the replace lines said again.
etcd() {
  mkdir -p "$W/etcd" && cd "$W/etcd"
  go mod init lab.example/etcd
  printf '//go:build tools\npackage tools\nimport _ "go.etcd.io/etcd/server/v3"\n' >tools.go
  go get go.etcd.io/etcd/server/v3@v3.6.5
  go build -mod=mod -trimpath -ldflags '-s -w' -o "$W/bin/etcd" go.etcd.io/etcd/server/v3
  done_ etcd
}

kubernetes_module() {
  [ ! -d "$W/kube" ] || { cd "$W/kube" && return; }
  mkdir "$W/kube" && cd "$W/kube"
  go mod init lab.example/kube
  go mod edit -go=1.26.0 -require "k8s.io/kubernetes@v$K"
  local mod module
  mod=$(go mod download -json "k8s.io/kubernetes@v$K" | sed -n 's/^[[:space:]]*"GoMod": "\(.*\)",*$/\1/p')
  for module in $(sed -n 's|^[[:space:]]*\(k8s.io/[a-z-]*\) => ./staging/src/.*|\1|p' "$mod"); do
    go mod edit -replace "$module=$module@v0.${K#1.}"
  done
  { printf '//go:build tools\npackage tools\n'
    printf 'import _ "k8s.io/kubernetes/cmd/%s"\n' kube-apiserver kube-controller-manager \
      kube-scheduler kubelet kube-proxy kubectl; } >tools.go
  go mod tidy
}

kubernetes() {
  kubernetes_module
  # Unstamped it reports v0.0.0-master, and a chart's kubeVersion then refuses it.
  local P=k8s.io/component-base/version minor
  minor=$(cut -d. -f2 <<<"$K")
  go build -mod=readonly -trimpath -o "$W/bin/" -ldflags "-s -w -X $P.gitVersion=v$K -X $P.gitMajor=${K%%.*} \
    -X $P.gitMinor=$minor -X $P.gitTreeState=clean -X $P.gitCommit=unknown -X $P.buildDate=2026-01-01T00:00:00Z" \
    "k8s.io/kubernetes/cmd/$1"
  done_ "$1"
}

crds() {
  mkdir -p "$W/crds" && cd "$W/crds"
  local module dir
  for module in sigs.k8s.io/gateway-api@v1.6.3 github.com/prometheus-operator/prometheus-operator@v0.85.0; do
    dir=$(go mod download -json "$module" | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p')
    case $module in
      sigs*) cp "$dir"/config/crd/standard/*_httproutes.yaml . ;;
      *) cp "$dir"/example/prometheus-operator-crd/*_{podmonitors,servicemonitors,prometheusrules}.yaml . ;;
    esac
  done
  chmod 644 ./*.yaml
  mv "$W/crds" "$W/bin/crds" && done_ crds
}

for name in "${@:-${ALL[@]}}"; do
  [ -x "$KUBE/$name" ] && continue
  say "building $name"
  case $name in
    etcd) (etcd) ;;
    kube* ) kubernetes "$name" ;;
    # The oldest that the chart supports.
    helm3) helm3 v3.18.6 ;;
    crds) (crds) ;;
    helm) plain helm helm.sh/helm/v4/cmd/helm@v4.2.4 ;;
    coredns) plain coredns github.com/coredns/coredns@v1.12.4 ;;
    metrics-server) plain metrics-server sigs.k8s.io/metrics-server/cmd/metrics-server@v0.9.0 ;;
    *) say "no such program: $name (there are: ${ALL[*]})"; exit 2 ;;
  esac
done
