# One image for the gateway (`tidegate`) and the operator (`tidegate-operator`).
#   docker build -t tidegate:dev --build-arg VERSION=0.1.0 --build-arg REVISION=$(git rev-parse HEAD) .
# It runs as any user, with a read-only root file system, and downloads nothing when it starts.

# What we depend on, by itself: it changes less often than the code, and than the rest of pyproject.toml.
FROM python:3.13-slim AS requirements
COPY pyproject.toml ./
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
e = p['optional-dependencies']; print(*p['dependencies'], *e['operator'], *e['otlp'], sep='\n')" > /requirements.txt

FROM python:3.13-slim AS build
RUN python -m venv /opt/tidegate
WORKDIR /src
COPY --from=requirements /requirements.txt ./
COPY constraints.txt ./
RUN /opt/tidegate/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt --requirement requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY operator operator
RUN /opt/tidegate/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps . \
 && /opt/tidegate/bin/pip check --disable-pip-version-check \
 && /opt/tidegate/bin/pip uninstall --yes --quiet pip

FROM python:3.13-slim
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Tidegate" \
      org.opencontainers.image.description="Live progress of long-running operations, from Redis Streams to browsers" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.authors="The Tidegate authors" \
      org.opencontainers.image.base.name="docker.io/library/python:3.13-slim" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/tidegate /opt/tidegate
ENV PATH=/opt/tidegate/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
# Viewers, and the admin port: health, metrics, debug state.
EXPOSE 8080 9090
CMD ["tidegate", "serve", "--host", "0.0.0.0"]
