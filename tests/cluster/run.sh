#!/usr/bin/env bash
# `make cluster-test`: the chart on a real cluster, hurt while viewers watch. Arguments go to pytest.
# With KUBECONFIG set that cluster is taken; it must be able to pull CLUSTER_IMAGE. Else the lab is
# built and started, where that is possible; where not, the run is skipped, and says what is missing,
# also into the file CLUSTER_SKIPPED. A lab with all its parts that does not start is a failure.
# A lab that this script started it also ends, unless CLUSTER_KEEP is set.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/cluster/lab/paths.sh
skip() {
  echo "cluster-test: SKIPPED: $*"
  [ -z "${CLUSTER_SKIPPED:-}" ] || echo "$*" >"$CLUSTER_SKIPPED"
  exit 0
}

if [ -n "${KUBECONFIG:-}" ] && [ "$KUBECONFIG" != "$LAB/admin.kubeconfig" ]; then
  [ -n "${CLUSTER_IMAGE:-}" ] || skip "KUBECONFIG is set, but not CLUSTER_IMAGE: an image of this checkout that the cluster can pull"
  export CLUSTER_KUBECONFIG=$KUBECONFIG
else
  [ "$(uname -s)" = Linux ] || skip "no KUBECONFIG, and the lab needs Linux"
  [ "$(id -u)" = 0 ] || skip "no KUBECONFIG, and the lab needs root"
  missing=()
  go version 2>/dev/null | grep -qE 'go1\.(2[6-9]|[3-9][0-9])' || missing+=("Go 1.26 or newer")
  for program in containerd runc iptables conntrack ip buildah mmdebstrap cc openssl curl; do
    command -v "$program" >/dev/null || missing+=("$program")
  done
  [ -x /usr/lib/cni/bridge ] || missing+=("the CNI plug-ins")
  ((${#missing[@]} == 0)) || skip "no KUBECONFIG, and the lab needs $(IFS=,; echo "${missing[*]}") (see tests/cluster/lab/README.md)"
  tests/cluster/lab/build.sh
  tests/cluster/lab/images.sh
  running() { [ -f "$LAB/kubelet.pid" ] && kill -0 "$(cat "$LAB/kubelet.pid")" 2>/dev/null; }
  running || [ -n "${CLUSTER_KEEP:-}" ] || trap tests/cluster/lab/down.sh EXIT
  export CLUSTER_LAB=$LAB CLUSTER_ADDRESS=127.0.0.1
  export CLUSTER_IMAGE=docker.io/tidegate/tidegate:lab CLUSTER_VALKEY_IMAGE=docker.io/lab/valkey:9
  export CLUSTER_REDIS_IMAGE=docker.io/lab/redis:7
  # The node mostly waits while it starts, and the image mostly computes.
  tests/cluster/lab/load.sh --build "$CLUSTER_IMAGE" . &
  building=$!
  CLUSTER_KUBECONFIG=$(tests/cluster/lab/up.sh) || { wait "$building"; exit 1; }
  export CLUSTER_KUBECONFIG
  wait "$building"
  tests/cluster/lab/load.sh --import "$CLUSTER_IMAGE"
fi
export PATH=$PATH:$KUBE
.venv/bin/python -m pytest tests/cluster "$@"
