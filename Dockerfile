# One image for the gateway (`tidegate`) and the operator (`tidegate-operator`).
#   docker build -t tidegate:dev --build-arg VERSION=0.1.0 --build-arg REVISION=$(git rev-parse HEAD) .
# Its engine is compiled; with --build-arg COMPILE= it is not, which takes a minute less.
# A release names the base by its digest (BASE=python:3.13-slim@sha256:...).
# It runs as any user, with a read-only root file system, and downloads nothing when it starts.

ARG BASE=python:3.13-slim

# What we depend on, by itself: it changes less often than the code. Every file is compared with its
# hash, those of the build backend and the compiler of Python included; nothing of it is compiled.
FROM ${BASE} AS build
ARG COMPILE=1
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all: PIP_REQUIRE_HASHES=1
WORKDIR /src
# Where the base has no headers of its Python, those of Debian's are of the same one.
RUN [ -z "$COMPILE" ] || { apt-get update -qq \
 && apt-get install -qq --yes --no-install-recommends gcc libc6-dev \
 && { test -e "$(python -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" \
   || apt-get install -qq --yes --no-install-recommends libpython3-dev; }; }
COPY requirements/image.txt requirements/build.txt requirements/
# mypyc reads the types of what the engine imports.
RUN python -m venv /opt/tidegate && /opt/tidegate/bin/pip install --requirement requirements/image.txt \
 && python -m venv /opt/build \
 && /opt/build/bin/pip install --requirement requirements/build.txt ${COMPILE:+--requirement requirements/image.txt}
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY service service
COPY operator operator
RUN HATCH_BUILD_HOOK_ENABLE_CUSTOM=${COMPILE:+true} /opt/build/bin/hatchling build --target wheel --directory /wheel \
 && PIP_REQUIRE_HASHES=0 /opt/tidegate/bin/pip install --no-deps /wheel/*.whl \
 && /opt/tidegate/bin/pip check --disable-pip-version-check \
 && /opt/tidegate/bin/pip uninstall --yes --quiet pip

FROM ${BASE}
ARG BASE
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Tidegate" \
      org.opencontainers.image.description="Live progress of long-running operations, from Redis Streams to browsers" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.authors="The Tidegate authors" \
      org.opencontainers.image.base.name="docker.io/library/${BASE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/tidegate /opt/tidegate
ENV PATH=/opt/tidegate/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
# Viewers, and the admin port: health, metrics, debug state.
EXPOSE 8080 9090
# Every address, of IPv4 and of IPv6.
CMD ["tidegate", "serve", "--host", "::"]
