#!/usr/bin/env bash
# Builds an image from a Dockerfile and loads it into the running node.
#   load.sh TAG CONTEXT [DOCKERFILE]      e.g. load.sh docker.io/tidegate/tidegate:lab .
set -euo pipefail
. "$(dirname "$0")/paths.sh"
need buildah buildah
need ctr containerd
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
base
buildah_ bud --quiet --layers --isolation chroot --network host --volume /etc/ssl/certs:/etc/ssl/certs:ro \
  --tag "$1" --file "${3:-$2/Dockerfile}" "$2" >/dev/null
buildah_ push --quiet "$1" "docker-archive:$T/image.tar:$1"
ctr_ images import "$T/image.tar" >/dev/null
say "loaded $1"
