#!/usr/bin/env bash
# Ends what up.sh started, by process id, with its pods, mounts and rules. Caches stay.
# Nothing of it is needed again, so all processes are killed at once: asked to end, each waits for the
# connections of the others.
set -uo pipefail
. "$(dirname "$0")/paths.sh"
. "$HERE/node-files.sh"

# --- processes
pids=() ids=()
for name in kubelet kube-scheduler kube-controller-manager kube-proxy kube-apiserver etcd containerd; do
  pid=$(cat "$LAB/$name.pid" 2>/dev/null) || continue
  rm -f "$LAB/$name.pid"
  # Only if it is still that program: a pid is used again after a restart of the machine.
  [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != "${name:0:15}" ] || pids+=("$pid")
done
for task in "$LAB"/containerd/state/io.containerd.runtime.v2.task/k8s.io/*/init.pid; do
  [ -f "$task" ] || continue
  id=${task%/init.pid} id=${id##*/} pid=$(<"$task")
  ids+=("$id")
  # Process 1 of a container: the others end with it.
  ! grep -qF "$id" "/proc/$pid/cgroup" 2>/dev/null || pids+=("$pid")
done
for shim in $(grep -lsF "$LAB/containerd.sock" /proc/[0-9]*/cmdline); do
  pid=${shim//[!0-9]/}
  [[ $(cat "/proc/$pid/comm" 2>/dev/null) != containerd-shim* ]] || pids+=("$pid")
done
[ ${#pids[@]} = 0 ] || kill -9 "${pids[@]}" 2>/dev/null
for dir in "$LAB"/node?; do [ ! -d "$dir" ] || "$HERE/node.sh" remove "${dir: -1}"; done
ended() { [ ! -e "/proc/$1" ] || grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; }
for pid in "${pids[@]}"; do (until_ 10 "the end of process $pid" ended "$pid"); done

# --- what they leave behind
for id in "${ids[@]}"; do groups+=(/sys/fs/cgroup/{,*/}"k8s.io/$id"); done
[ ${#ids[@]} = 0 ] || rmdir "${groups[@]}" 2>/dev/null
# The network namespaces of pods; nobody else's: those that our containerd has written down.
mapfile -t spaces < <(grep -aohE '/run/netns/cni-[0-9a-f-]{36}' \
  "$LAB/containerd/root/io.containerd.metadata.v1.bolt/meta.db" 2>/dev/null | sort -u | xargs -r ls -d 2>/dev/null)
{
  awk -v d="$LAB/" 'index($2, d) == 1 {print $2}' /proc/mounts | sort -r
  [ ${#spaces[@]} = 0 ] || printf '%s\n' "${spaces[@]}"
} | xargs -r umount -l 2>/dev/null
[ ${#spaces[@]} = 0 ] || rm -f "${spaces[@]}"
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
for program in iptables ip6tables; do
  "$program" -w -t mangle -D POSTROUTING -j LAB-NOBODY 2>/dev/null
  "$program" -w -t mangle -F LAB-NOBODY 2>/dev/null
  "$program" -w -t mangle -X LAB-NOBODY 2>/dev/null
done
ip route del unreachable $PODS 2>/dev/null
ip -6 route del unreachable $PODS6 2>/dev/null
ip link del lab0 2>/dev/null
ip link del labbr0 2>/dev/null
forget "$LAB"/{etcd,kubelet,containerd,cni,ipam,volumes,audit.log}
true
