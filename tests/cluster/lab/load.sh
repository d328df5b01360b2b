#!/usr/bin/env bash
# Builds an image from a Dockerfile and loads it into the running nodes.
#   load.sh TAG CONTEXT [DOCKERFILE]      e.g. load.sh docker.io/tidegate/tidegate:lab .
#   load.sh --build TAG CONTEXT [...]     only builds it, so that the node can start meanwhile
#   load.sh --import TAG                  loads what was built
# With COMPILE set, also to nothing, it is that argument of our own Dockerfile.
set -euo pipefail
. "$(dirname "$0")/paths.sh"
need buildah buildah
need ctr containerd
steps=(build_ import_)
case $1 in
  --build) steps=(build_); shift ;;
  --import) steps=(import_); shift ;;
esac
archive=$LAB/built-$(tr -c 'a-zA-Z0-9.\n' - <<<"$1").tar

build_() { # tag, context, Dockerfile
  base
  buildah_ bud --quiet --layers --isolation chroot --network host ${COMPILE+--build-arg "COMPILE=$COMPILE"} --volume /etc/ssl/certs:/etc/ssl/certs:ro \
    --tag "$1" --file "${3:-$2/Dockerfile}" "$2" >/dev/null
  rm -f "$archive" # buildah does not write over one
  buildah_ push --quiet "$1" "docker-archive:$archive:$1"
}
import_() {
  local socket
  for socket in "$LAB"/containerd.sock "$LAB"/node?/containerd.sock; do
    [ ! -S "$socket" ] || ctr --address "$socket" --namespace k8s.io images import "$archive" >/dev/null
  done
  rm -f "$archive"
  say "loaded $1"
}
for step in "${steps[@]}"; do "$step" "$@"; done
