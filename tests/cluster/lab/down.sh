#!/usr/bin/env bash
# Ends what up.sh started, by process id, with its pods, mounts and rules. Caches stay.
set -uo pipefail
. "$(dirname "$0")/paths.sh"
end() {
  [ -f "$LAB/$1.pid" ] || return 0
  local pid
  pid=$(cat "$LAB/$1.pid")
  rm -f "$LAB/$1.pid"
  # Only if it is still that program: a pid is used again after a restart of the machine.
  [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "${1:0:15}" ] || return 0
  kill "$pid" 2>/dev/null
  for _ in $(seq 50); do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep .1
  done
  kill -9 "$pid" 2>/dev/null
}
end kubelet
end kube-scheduler
end kube-controller-manager
end kube-proxy
# The network namespaces that the pods leave behind; nobody else's: those that our containerd has
# written down. Asked for each container, `ctr` takes a minute for the hundred of a test.
spaces=$(grep -aohE '/run/netns/cni-[0-9a-f-]{36}' "$LAB/containerd/root/io.containerd.metadata.v1.bolt/meta.db" \
  2>/dev/null | sort -u)
for task in $(ctr_ tasks ls --quiet 2>/dev/null); do
  ctr_ tasks delete --force "$task" >/dev/null 2>&1 & # and its shim ends
done
wait
end kube-apiserver
end etcd
end containerd
awk -v d="$LAB/" 'index($2, d) == 1 {print $2}' /proc/mounts | sort -r | xargs -r umount -l 2>/dev/null
for space in $spaces; do [ ! -e "$space" ] || ip netns del "${space##*/}" 2>/dev/null; done
if [ -d "$LAB/kubelet" ]; then
  "$KUBE/kube-proxy" --cleanup >/dev/null 2>&1
  # The kubelet leaves its own chains behind.
  for program in iptables ip6tables; do
    for table in filter nat mangle; do
      for chain in KUBE-FIREWALL KUBE-KUBELET-CANARY KUBE-IPTABLES-HINT; do
        "$program" -t "$table" -S 2>/dev/null | sed -n "s/^-A \\(.* -j $chain\\)\$/\\1/p" | while read -r rule; do
          # shellcheck disable=SC2086 # a rule is several words
          "$program" -t "$table" -D $rule 2>/dev/null
        done
        "$program" -t "$table" -F "$chain" 2>/dev/null
        "$program" -t "$table" -X "$chain" 2>/dev/null
      done
    done
  done
fi
ip link del lab0 2>/dev/null
ip link del labbr0 2>/dev/null
rm -rf "$LAB"/{etcd,kubelet,containerd,cni,ipam,volumes,audit.log}
true
