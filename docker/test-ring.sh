#!/bin/sh
# Really builds the image and really runs a ring of three containers on a network of its own, training the demo model;
# kills one with SIGKILL, sees the other two go on, brings it back, sees it catch up, and stops all three politely.
#   docker/test-ring.sh                     needs root (or rootless podman), podman, runc; debootstrap without a registry
#   NODE_IMAGE=... docker/test-ring.sh      uses that base image;  IMAGE=... uses a ready gym-node image
#   KEEP=1 docker/test-ring.sh              leaves the containers running to look at
# Prints one line per finding; exits 0 when all of them hold.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
name=gym-test-$$
wait_s=${WAIT_S:-240}

# runc and cgroupfs work without systemd; the limits work where raising them is not allowed.
podman() { command podman --runtime runc --cgroup-manager=cgroupfs "$@"; }
limits='--ulimit nofile=1024:1024 --ulimit nproc=1024:1024'

say() { printf '%s  %s\n' "$(date +%T)" "$*"; }
fail() {
  say "FAIL $*"
  for i in 1 2 3; do
    echo "--- $name-$i"
    podman logs --tail 15 "$name-$i" 2>&1 | cut -c1-300 || true
  done
  exit 1
}
clean() {
  [ -n "${KEEP:-}" ] && return
  for i in 1 2 3; do
    podman rm --force --volumes "$name-$i" >/dev/null 2>&1 || true
    podman volume rm "$name-$i" >/dev/null 2>&1 || true
  done
  podman network rm "$name" >/dev/null 2>&1 || true
  rm -rf "$work"
}
work=$(mktemp -d)
trap clean EXIT
trap 'exit 130' INT TERM

base_image() {
  if [ -n "${NODE_IMAGE:-}" ]; then
    echo "$NODE_IMAGE"
  elif timeout 60 podman pull --quiet docker.io/library/node:24-bookworm-slim >/dev/null 2>&1; then
    echo docker.io/library/node:24-bookworm-slim
  elif command podman image exists localhost/gym-base:bookworm; then
    echo localhost/gym-base:bookworm
  else
    "$root/docker/make-base.sh" localhost/gym-base:bookworm | tail -1
  fi
}

if [ -z "${IMAGE:-}" ]; then
  IMAGE=localhost/gym-node
  base=$(base_image)
  say "base image $base"
  # The build uses this machine's npm settings and certificates, whatever they are.
  npmrc=${NPM_CONFIG_USERCONFIG:-$HOME/.npmrc}
  [ -f "$npmrc" ] || { npmrc="$work/npmrc" && : >"$npmrc"; }
  # shellcheck disable=SC2086
  # HEALTHCHECK exists in the docker format only.
  podman build $limits --format docker --network host --build-arg NODE_IMAGE="$base" \
    --build-arg NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt \
    --volume "$npmrc:/root/.npmrc:ro" --volume /etc/ssl/certs:/etc/ssl/certs:ro \
    --ignorefile "$root/docker/Dockerfile.dockerignore" -f "$root/docker/Dockerfile" -t "$IMAGE" "$root" \
    >"$work/build.log" 2>&1 || { tail -20 "$work/build.log"; exit 1; }
fi
say "image $IMAGE, $(podman image inspect "$IMAGE" --format '{{.Size}}' | awk '{ printf "%.0f MB", $1 / 1e6 }')"

# The final image: not root, no build tools.
[ "$(podman image inspect "$IMAGE" --format '{{.User}}')" = 10001:10001 ] || fail 'the image runs as root'
# shellcheck disable=SC2086
found=$(podman run --rm $limits --network none --entrypoint /bin/sh "$IMAGE" -c \
  'for tool in npm npx yarn gcc cc make python3 git curl; do command -v $tool; done; true')
[ -z "$found" ] || fail "build tools in the image: $found"
say 'ok   runs as user 10001, no build tools in it'

podman network create "$name" >/dev/null
head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n' >"$work/token"
chmod 0644 "$work/token"
start() {
  # shellcheck disable=SC2086
  podman run --detach --name "$name-$1" --hostname "gym-node-$1" --network "$name" --network-alias "gym-node-$1" $limits \
    --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --init \
    --volume "$name-$1:/var/lib/gym-node" \
    --volume "$root/docker/gym.yaml:/etc/gym-node/gym.yaml:ro" \
    --volume "$work/token:/run/secrets/gym-token:ro" \
    --env GYM_RING_MIN_MEMBERS=2 --env GYM_TRAIN_PROMPTS_PER_STEP=4 --env GYM_RING_PEER_TIMEOUT_MS=5000 \
    "$IMAGE" start --config /etc/gym-node/gym.yaml 2>&1 >/dev/null | grep -v 'systemd connection' >&2 || true
}

# status N EXPRESSION: the value of a JavaScript expression over the status document `s` of node N.
status() {
  podman exec "$name-$1" node -e \
    "fetch('http://127.0.0.1:9464/status.json').then((r) => r.json()).then((s) => console.log($2), () => console.log('none'))" 2>/dev/null || echo none
}
members="s.ring.members.filter((m) => m.state === 'self' || m.state === 'alive').length"

# is_running "N ...": fails at once when one of these nodes has ended.
is_running() {
  for i in $1; do
    [ "$(podman inspect "$name-$i" --format '{{.State.Running}}')" = true ] || fail "node $i has ended"
  done
}

# until_true TEXT COMMAND...: repeats the command until it succeeds.
until_true() {
  text=$1
  shift
  end=$(($(date +%s) + wait_s))
  until "$@"; do
    [ "$(date +%s)" -lt "$end" ] || fail "not within $wait_s s: $text"
    is_running "$running"
    sleep 1
  done
  say "ok   $text"
}
has_members() { # COUNT NODE...
  count=$1
  shift
  for i in "$@"; do [ "$(status "$i" "$members")" = "$count" ] || return 1; done
}
at_round() { # ROUND NODE...
  least=$1
  shift
  for i in "$@"; do
    round=$(status "$i" 's.round')
    [ "$round" != none ] && [ "$round" -ge "$least" ] || return 1
  done
}
healthy() { podman healthcheck run "$name-$1" >/dev/null 2>&1; }

for i in 1 2 3; do start "$i"; done
running='1 2 3'
until_true 'three containers form a ring of three' has_members 3 1 2 3
until_true 'the ring commits rounds' at_round 2 1 2 3
until_true "the image's health check passes" healthy 1

peer=$(status 3 's.peer_id')
podman kill --signal KILL "$name-3" >/dev/null
running='1 2'
say 'node 3 killed with SIGKILL'
until_true 'the other two see it and go on as a ring of two' has_members 2 1 2
round=$(status 1 's.round')
until_true "they commit further rounds (from $round)" at_round $((round + 2)) 1 2

podman start "$name-3" >/dev/null 2>&1
running='1 2 3'
say 'node 3 started again on its own state'
until_true 'it comes back into a ring of three' has_members 3 1 2 3
[ "$(status 3 's.peer_id')" = "$peer" ] || fail 'node 3 came back as another peer'
round=$(status 1 's.round')
until_true "all three commit further rounds together (from $round)" at_round $((round + 2)) 1 2 3

# One vector: wherever several nodes committed a round, they committed the same bytes. The logs hold every commit.
commits() {
  podman logs "$name-$1" 2>/dev/null |
    sed -n 's/.*"round":\([0-9]*\),.*"adapter_sha3_256":"\([0-9a-f]*\)".*"msg":"round committed".*/\1 \2/p'
}
for i in 1 2 3; do commits "$i"; done >"$work/commits"
verdict=$(awk '{ if (($1 in hash) && hash[$1] != $2) bad = bad " " $1; hash[$1] = $2; if (++seen[$1] == 3) common++ }
  END { print bad == "" ? common + 0 : "rounds that differ:" bad }' "$work/commits")
case $verdict in
  0 | rounds*) fail "one adapter on all nodes: $verdict" ;;
  *) say "ok   the adapter is the same bytes on all three in all $verdict rounds that they committed together" ;;
esac

outside=$(podman exec "$name-1" node -e \
  "fetch('http://gym-node-2:9464/status.json').then((r) => console.log(r.status), (e) => console.log(e.message))" 2>&1 || true)
metrics=$(podman exec "$name-1" node -e \
  "fetch('http://' + process.argv[1] + ':9464/metrics').then(async (r) => console.log(r.status, (await r.text()).includes('gym_ring_rounds_total')))" \
  "$(podman inspect "$name-2" --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}')")
[ "$metrics" = '200 true' ] || fail "metrics from another machine: $metrics"
[ "$outside" != 200 ] || fail 'the status can be read from another machine without the token'
say 'ok   other machines read metrics, and nothing else without the token'

began=$(date +%s)
for i in 1 2 3; do podman stop --time 30 "$name-$i" >/dev/null & done
wait
took=$(($(date +%s) - began))
[ "$took" -le 10 ] || fail "three containers stopped together took $took s"
for i in 1 2 3; do
  code=$(podman inspect "$name-$i" --format '{{.State.ExitCode}}')
  [ "$code" = 0 ] || fail "node $i ended with code $code after SIGTERM"
done
say "ok   SIGTERM to all three at once: they left politely with code 0 in $took s"
say 'PASS'
