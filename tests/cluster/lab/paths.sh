# Where the lab keeps what it makes: outside the checkout, so that a fresh clone finds it again.
# Sourced by the other scripts; TIDEGATE_LAB_CACHE moves it all.
CACHE=${TIDEGATE_LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tidegate}
KUBE=$CACHE/kube     # programs
IMAGES=$CACHE/images # container images as archives
LAB=$CACHE/lab       # state of the running node
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$KUBE" "$IMAGES" "$LAB"

say() { printf 'lab: %s\n' "$*" >&2; }
need() { # program, Debian package
  command -v "$1" >/dev/null || { say "$1 is missing (Debian: apt-get install $2)"; exit 3; }
}
# Nobody else's images are touched. Overlay where the file system allows it: with vfs every step of a
# Dockerfile copies the whole image.
buildah_() { command buildah --storage-driver "$DRIVER" --root "$CACHE/buildah.$DRIVER" --runroot "$CACHE/buildah.$DRIVER.run" "$@"; }
DRIVER=overlay
command -v buildah >/dev/null && ! buildah_ images >/dev/null 2>&1 && DRIVER=vfs
ctr_() { ctr --address "$LAB/containerd.sock" --namespace k8s.io "$@"; }
BASE=docker.io/library/python:3.13-slim
base() { # the stand-in for it, in the image store also after that was wiped
  buildah_ inspect --type image "$BASE" >/dev/null 2>&1 || buildah_ pull --quiet "docker-archive:$IMAGES/python.tar" >/dev/null
}
