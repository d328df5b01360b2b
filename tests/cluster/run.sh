#!/usr/bin/env bash
# `make cluster-test`: the chart on a real cluster, hurt while viewers watch. Arguments go to pytest;
# with `--all` among them the cases of the second group run, too, and what only they need is built; with
# CLUSTER_AS_BUILT set what is there already must do.
# With KUBECONFIG set that cluster is taken; it must be able to pull CLUSTER_IMAGE. Else the lab is
# built and started, where that is possible; where not, the run is skipped, and says what is missing,
# also into the file CLUSTER_SKIPPED. A lab with all its parts that does not start is a failure.
# A lab that this script started it also ends, unless CLUSTER_KEEP is set.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/cluster/lab/paths.sh
all=
[[ " $* " != *" --all "* ]] || all=yes
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
  # What is missing in the end is named by the cases that are skipped for it.
  [ -z "$all" ] || [ -n "${CLUSTER_AS_BUILT:-}" ] || for get in "tests/cluster/lab/build.sh kube-router" tests/cluster/*/get.sh; do
    # shellcheck disable=SC2086 # a script and its argument
    [ ! -x "${get%% *}" ] || $get || echo "cluster-test: $get failed; going on without it" >&2
  done
  running() { [ -f "$LAB/kubelet.pid" ] && kill -0 "$(cat "$LAB/kubelet.pid")" 2>/dev/null; }
  ours=
  running || [ -n "${CLUSTER_KEEP:-}" ] || { ours=yes && trap tests/cluster/lab/down.sh EXIT; }
  export CLUSTER_LAB=$LAB CLUSTER_ADDRESS=127.0.0.1
  export CLUSTER_IMAGE=docker.io/tidegate/tidegate:lab CLUSTER_VALKEY_IMAGE=docker.io/lab/valkey:9
  export CLUSTER_REDIS_IMAGE=docker.io/lab/redis:7
  # The engine of an image is compiled, which takes minutes and is tested by itself (`make test-compiled`).
  export COMPILE=$all
  # The node mostly waits while it starts, and the image mostly computes.
  tests/cluster/lab/load.sh --build "$CLUSTER_IMAGE" . &
  building=$!
  CLUSTER_KUBECONFIG=$(tests/cluster/lab/up.sh) || { wait "$building"; exit 1; }
  export CLUSTER_KUBECONFIG
  wait "$building"
  tests/cluster/lab/load.sh --import "$CLUSTER_IMAGE"
fi
export PATH=$PATH:$KUBE
code=0 alone=tests/cluster/test_ipv6.py
.venv/bin/python -m pytest tests/cluster --ignore "$alone" "$@" || code=$?
# A machine has one lab at a time: the one without IPv4 comes after the other. Arguments such as `-k`
# may leave nothing for it.
if [ -n "$all" ] && [ -n "${ours:-}" ] &&
  .venv/bin/python -m pytest "$alone" "$@" --collect-only --quiet >/dev/null; then
  [ "$code" != 5 ] || code=0 # pytest's for: nothing was chosen
  tests/cluster/lab/down.sh
  tests/cluster/lab/load.sh --build "$CLUSTER_IMAGE" .
  CLUSTER_KUBECONFIG=$(tests/cluster/lab/up.sh --ipv6)
  tests/cluster/lab/load.sh --import "$CLUSTER_IMAGE"
  export CLUSTER_FAMILY=ipv6
  CLUSTER_ADDRESS=$(. tests/cluster/lab/node-files.sh && echo "$ADDRESS")
  .venv/bin/python -m pytest "$alone" "$@" || code=$?
fi
exit "$code"
