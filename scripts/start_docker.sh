#!/usr/bin/env bash
# Starts a Docker daemon of its own in a folder, for tests and for machines without one. Usage:
#   scripts/start_docker.sh FOLDER     prints the DOCKER_HOST to use; the daemon ends by `kill $(cat FOLDER/docker.pid)`
#
# FOLDER/bin/docker is a client that can build images: newer ones need a plugin for that, and where it is missing
# Debian's stands in. Installs Debian's docker.io where there is no dockerd (root and apt). While it runs, the machine's
# FORWARD chain drops by default, as Docker does everywhere. Where no container can run it says why, and exits with 1.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(realpath -m "${1:?usage: scripts/start_docker.sh FOLDER}")
socket="$folder/docker.sock"

command -v dockerd >/dev/null || scripts/apt_install.sh docker.io containerd runc iptables >&2
mkdir -p "$folder/bin"
client=$(command -v docker)
if ! "$client" buildx version >/dev/null 2>&1 && [ -x /usr/bin/docker ]; then client=/usr/bin/docker; fi
ln -sf "$client" "$folder/bin/docker"
export DOCKER_HOST="unix://$socket"
if ! "$client" info >/dev/null 2>&1; then
  # Other storage copies all layers below for each new one.
  setsid nohup dockerd --data-root "$folder/data" --exec-root "$folder/exec" --host "$DOCKER_HOST" \
    --storage-driver overlay2 --pidfile "$folder/docker.pid" >"$folder/dockerd.log" 2>&1 </dev/null &
  for _ in $(seq 150); do
    "$client" info >/dev/null 2>&1 && break
    kill -0 $! 2>/dev/null || break
    sleep 0.2
  done
  if ! "$client" info >/dev/null 2>&1; then
    echo "dockerd does not start here; the last lines of $folder/dockerd.log:" >&2
    tail -n 5 "$folder/dockerd.log" >&2
    exit 1
  fi
fi
# What the daemon alone does not show: control groups, mounts and a network for a container.
mapfile -t libraries < <(ldd /bin/true | grep -o '/[^ ]*')
tar --create --dereference --absolute-names /bin/true "${libraries[@]}" 2>/dev/null |
  "$client" import - dovetail-probe >/dev/null
if ! "$client" run --rm dovetail-probe /bin/true >&2; then
  [ ! -f "$folder/docker.pid" ] || kill "$(cat "$folder/docker.pid")"
  exit 1
fi
"$client" rmi dovetail-probe >/dev/null
echo "$DOCKER_HOST"
