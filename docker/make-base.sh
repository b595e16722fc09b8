#!/bin/sh
# Makes an image with Debian, Node and npm where no image registry can be reached: debootstrap for Debian, the Node
# binary of the npm package `node` that `npm install` puts into this checkout, and this machine's npm.
#   docker/make-base.sh IMAGE          (needs root, debootstrap and podman)
set -eu
image=${1:?usage: make-base.sh IMAGE}
root=$(cd "$(dirname "$0")/.." && pwd)
node="$root/node_modules/node/bin/node"
npm=$(dirname "$(dirname "$(readlink -f "$(command -v npm)")")")
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
[ -x "$node" ] || { echo "make-base.sh: $node is missing; run npm install first" >&2; exit 2; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
debootstrap --variant=minbase --include=ca-certificates,libstdc++6 bookworm "$work/rootfs" "$mirror" >"$work/log" 2>&1 || {
  tail -5 "$work/log" >&2
  exit 1
}
rm -rf "$work"/rootfs/var/cache/apt/* "$work"/rootfs/var/lib/apt/lists/* "$work"/rootfs/usr/share/doc/*
install -m 0755 "$node" "$work/rootfs/usr/local/bin/node"
mkdir -p "$work/rootfs/usr/local/lib/node_modules"
cp -R "$npm" "$work/rootfs/usr/local/lib/node_modules/npm"
ln -s ../lib/node_modules/npm/bin/npm-cli.js "$work/rootfs/usr/local/bin/npm"
tar -C "$work/rootfs" --numeric-owner -cf - . | podman import --change 'CMD ["node"]' - "$image" >/dev/null
echo "$image"
