#!/bin/sh
# sh compress.sh OPERATION FILE...   compresses files, while browsers watch how far it is.
# REDIS_URL says where Redis or Valkey is; exit code 3: a viewer has cancelled it.
set -eu

operation=$1 && shift
key="operation-progress:$operation"
cli=$(command -v valkey-cli || command -v redis-cli)

redis() { "$cli" -u "${REDIS_URL:-redis://127.0.0.1:6379}" "$@"; }
publish() { redis XADD "$key" MAXLEN '~' 1000 '*' "$@" >/dev/null; }

# However the script ends, viewers are told; the stream is kept for a day.
end=failed
trap 'publish type "operation_$end" status "$end"; redis EXPIRE "$key" 86400 >/dev/null' EXIT
trap 'exit 130' INT TERM

publish type operation_started status running title 'Compress files' unit files current 0 total "$#"
finished=0
for file; do
  # A viewer who cancels leaves this key.
  if [ "$(redis EXISTS "{$key}:cancel")" = 1 ]; then
    end=cancelled
    exit 3
  fi
  gzip --keep --force -- "$file"
  finished=$((finished + 1))
  publish type progress current "$finished" file "$file"
done
end=completed
