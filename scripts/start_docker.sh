#!/usr/bin/env bash
# Starts a Docker daemon of its own in a folder, for tests and for machines without one. Usage:
#   scripts/start_docker.sh FOLDER     prints the DOCKER_HOST to use; the daemon ends by `kill $(cat FOLDER/docker.pid)`
#
# Installs Debian's docker.io where there is no dockerd (root and apt). While it runs, the machine's FORWARD chain drops
# by default, as Docker does everywhere.
set -euo pipefail
folder=$(realpath -m "${1:?usage: scripts/start_docker.sh FOLDER}")
socket="$folder/docker.sock"

if ! command -v dockerd >/dev/null; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "dockerd is missing: sudo apt-get install docker.io" >&2
    exit 1
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq >&2
  apt-get install -y -qq --no-install-recommends docker.io containerd runc iptables >&2
fi
export DOCKER_HOST="unix://$socket"
if ! docker info >/dev/null 2>&1; then
  mkdir -p "$folder"
  setsid nohup dockerd --data-root "$folder/data" --exec-root "$folder/exec" --host "$DOCKER_HOST" \
    --pidfile "$folder/docker.pid" >"$folder/dockerd.log" 2>&1 </dev/null &
  for _ in $(seq 100); do
    docker info >/dev/null 2>&1 && break
    sleep 0.2
  done
  if ! docker info >/dev/null 2>&1; then
    echo "dockerd does not start here; the last lines of $folder/dockerd.log:" >&2
    tail -n 5 "$folder/dockerd.log" >&2
    exit 1
  fi
fi
echo "$DOCKER_HOST"
