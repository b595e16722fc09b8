#!/bin/sh
# One command: a ring of three with Prometheus and Grafana. Makes a token once, then builds and starts everything;
# Ctrl+C stops it, volumes keep identities and state. Further arguments go to `compose up` (for example -d).
set -eu
cd "$(dirname "$0")"

if [ ! -s token.txt ]; then
  (umask 077 && head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n' >token.txt)
  # The daemon in the container is another user (10001) and must be able to read it.
  chmod 0644 token.txt
fi

if docker compose version >/dev/null 2>&1; then compose='docker compose'
elif podman-compose --version >/dev/null 2>&1; then compose='podman-compose'
else
  echo 'up.sh: neither docker compose nor podman-compose is installed' >&2
  exit 2
fi

token=$(cat token.txt)
echo "nodes    http://127.0.0.1:9461/#token=$token"
echo "         http://127.0.0.1:9462/#token=$token"
echo "         http://127.0.0.1:9463/#token=$token"
echo 'grafana  http://127.0.0.1:3000/'
exec $compose -f compose.yaml up --build "$@"
