#!/usr/bin/env bash
# Builds what people have beside the chart, as images for the lab, with the manifests of these
# projects themselves: for the cases of `make cluster-test ARGS=--all`.
#   get.sh [keda] [prometheus] [prometheus-operator] [traefik]     without names: all of them
# On two idle cores: keda 15 min (all of its scalers), prometheus and its operator 3 min each, traefik
# 20 min (the one of tests/proxies). Debian's Prometheus has no service discovery for Kubernetes, so
# that one is built, too. A neighbour is put in its place (`neighbours/NAME`:
# install.yaml, and an archive for each image) only when it is whole, so a killed build does no harm,
# and what Go has compiled is in its own cache: the next one goes on from there.
set -euo pipefail
. "$(dirname "$0")/../lab/paths.sh" # leaves HERE at the lab
OURS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
NEIGHBOURS=$CACHE/neighbours
KEDA=2.21.0
PROMETHEUS=0.305.0 # 3.5.0, the newest that its operator knows
PROMETHEUS_OPERATOR=0.85.0
TRAEFIK=3.7.13
GATEWAY_API=1.6.3
ALL=(prometheus prometheus-operator keda traefik)
need go golang
need buildah buildah
mkdir -p "$NEIGHBOURS"
W=$(mktemp -d "$NEIGHBOURS/.work-XXXXXX")
trap 'chmod -R u+w "$W"; rm -rf "$W"' EXIT
export CGO_ENABLED=0

source_of() { # module@version: its folder
  go mod download -json "$1" | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p'
}
programs() { # module@version, linker flags, packages: into $W/bin
  local module=$1 flags=$2
  shift 2
  go mod edit -require="$module"
  mkdir -p "$W/bin"
  go build -mod=mod -trimpath -o "$W/bin/" -ldflags "-s -w $flags" "${@/#/${module%@*}/}"
}
module() { # an empty one, in which programs are built
  mkdir "$W/module"
  cd "$W/module"
  go mod init "lab.example/$1"
  go mod edit -go=1.26.0
}
image() { # name, lines of its Dockerfile; the context is $W/bin
  local name=$1
  shift
  printf '%s\n' "$@" >"$W/Dockerfile"
  buildah_ bud --quiet --isolation chroot --network host --tag "docker.io/lab/$name" --file "$W/Dockerfile" \
    "$W/bin" >/dev/null
  buildah_ push --quiet "docker.io/lab/$name" "docker-archive:$W/whole/${name%:*}.tar:docker.io/lab/$name"
}
rendered() { # what is to be installed, from files of $W/manifests with a Kustomization
  "$HERE/build.sh" kubectl
  "$KUBE/kubectl" kustomize --load-restrictor LoadRestrictionsNone "$W/manifests" |
    sed 's/imagePullPolicy: Always/imagePullPolicy: IfNotPresent/' >"$W/whole/install.yaml"
}

# --- each by its name

prometheus() {
  local P=github.com/prometheus/prometheus
  module prometheus
  go mod edit -require="$P@v$PROMETHEUS" -replace "$P=../prometheus" -replace github.com/fsnotify/fsnotify@v1.8.0=github.com/fsnotify/fsnotify@v1.7.0
  cp -r "$(source_of "$P@v$PROMETHEUS")" "$W/prometheus"
  chmod -R u+w "$W/prometheus"
  # Its list of service discoveries is meant to be changed: the other ones are clients of clouds.
  { printf 'package plugins\n\nimport (\n'
    printf '\t_ "%s/discovery/%s"\n' "$P" dns "$P" kubernetes
    printf ')\n'; } >"$W/prometheus/plugins/plugins.go"
  programs "$P@v$PROMETHEUS" "-X github.com/prometheus/common/version.Version=3.5.0" cmd/prometheus
  image prometheus:3 'FROM scratch' 'COPY prometheus /usr/bin/prometheus' 'USER 65534:65534' 'ENTRYPOINT ["/usr/bin/prometheus"]'
}

prometheus-operator() {
  local dir
  module prometheus-operator
  programs "github.com/prometheus-operator/prometheus-operator@v$PROMETHEUS_OPERATOR" \
    "-X github.com/prometheus/common/version.Version=$PROMETHEUS_OPERATOR" cmd/operator cmd/prometheus-config-reloader
  image "prometheus-operator:$PROMETHEUS_OPERATOR" 'FROM scratch' 'COPY operator /bin/operator' \
    'USER 65534' 'ENTRYPOINT ["/bin/operator"]'
  image "prometheus-config-reloader:$PROMETHEUS_OPERATOR" 'FROM scratch' \
    'COPY prometheus-config-reloader /bin/prometheus-config-reloader' 'USER 65534' \
    'ENTRYPOINT ["/bin/prometheus-config-reloader"]'
  dir=$(source_of "github.com/prometheus-operator/prometheus-operator@v$PROMETHEUS_OPERATOR")
  mkdir "$W/manifests"
  # Without the Service that it would keep for the kubelets: nobody takes that away again.
  sed -e "s|quay.io/prometheus-operator/\(prometheus-[a-z-]*\):v|docker.io/lab/\1:|" \
    -e '/--kubelet-service=/d' -e 's/--kubelet-endpoints=true/--kubelet-endpoints=false/' \
    "$dir/bundle.yaml" >"$W/manifests/bundle.yaml"
  cp "$dir"/example/rbac/prometheus/prometheus-{service-account,cluster-role,cluster-role-binding}.yaml "$W/manifests/"
  printf '{apiVersion: v1, kind: Namespace, metadata: {name: prometheus-operator}}\n' >"$W/manifests/namespace.yaml"
  (cd "$W/manifests" && printf -- '- %s\n' *.yaml | sed '1i namespace: prometheus-operator\nresources:' >Kustomization)
  rendered
}

keda() {
  local dir P=github.com/kedacore/keda/v2
  module keda
  # What its go.mod replaces; a main module has to say it again.
  go mod edit -replace github.com/nexus-rpc/nexus-proto-annotations@v0.1.0=github.com/nexus-rpc/nexus-proto-annotations@v0.1.1-0.20260629224316-835bd8d49cb4
  programs "$P@v$KEDA" "-X $P/version.Version=$KEDA" cmd/operator cmd/adapter cmd/webhooks
  # Its manifests call the programs by these names, so that one image has all three.
  image "keda:$KEDA" 'FROM scratch' 'COPY operator /keda' 'COPY adapter /keda-adapter' \
    'COPY webhooks /keda-admission-webhooks' 'USER 65532:65532'
  dir=$(source_of "$P@v$KEDA")
  mkdir "$W/manifests"
  cp -r "$dir/config" "$W/manifests/"
  chmod -R u+w "$W/manifests"
  {
    printf 'resources: [config/default]\nimages:\n'
    for name in keda keda-metrics-apiserver keda-admission-webhooks; do
      printf -- '- {name: ghcr.io/kedacore/%s, newName: docker.io/lab/keda, newTag: %s}\n' "$name" "$KEDA"
    done
  } >"$W/manifests/kustomization.yaml"
  rendered
}

traefik() {
  local dir api
  "$OURS/../../proxies/get.sh" traefik
  mkdir "$W/bin" "$W/manifests"
  cp "$CACHE/proxies/traefik" "$W/bin/"
  image "traefik:$TRAEFIK" 'FROM scratch' 'COPY traefik /traefik' 'USER 65532:65532' 'ENTRYPOINT ["/traefik"]'
  dir=$(source_of "github.com/traefik/traefik/v3@v$TRAEFIK")
  api=$(source_of "sigs.k8s.io/gateway-api@v$GATEWAY_API")
  cp "$api"/config/crd/standard/*.yaml "$W/manifests/"
  # Its example has the account in `default`.
  sed 's/namespace: default/namespace: traefik/' \
    "$dir"/docs/content/reference/dynamic-configuration/kubernetes-gateway-rbac.yml >"$W/manifests/rbac.yaml"
  cp "$OURS/traefik.yaml" "$W/manifests/traefik.yaml"
  chmod -R u+w "$W/manifests"
  (cd "$W/manifests" && printf -- '- %s\n' *.yaml | sed '1i resources:' >Kustomization)
  rendered
}

asked=("${@:-${ALL[@]}}")
for name in "${asked[@]}"; do
  [[ " ${ALL[*]} " == *" $name "* ]] || { say "no such neighbour: $name (there are: ${ALL[*]})"; exit 2; }
done
failed=0
for name in "${asked[@]}"; do
  [ ! -d "$NEIGHBOURS/$name" ] || continue
  say "building $name"
  rm -rf "${W:?}"/* && mkdir "$W/whole"
  # Each in a shell of its own: one that cannot be built does not keep the next from being so.
  set +e # asked about by `if`, it would go on after what fails in it
  (set -e; "$name")
  code=$?
  set -e
  if ((code == 0)); then
    mv "$W/whole" "$NEIGHBOURS/$name"
    say "built $name"
  else
    say "$name could not be built"
    failed=1
  fi
done
exit "$failed"
