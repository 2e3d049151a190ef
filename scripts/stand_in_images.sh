#!/usr/bin/env bash
# Makes the images that ours need out of Debian's packages, for machines that reach no image registry.
# Usage: DOCKER_HOST=... scripts/stand_in_images.sh
#
# debian:bookworm-slim is a minimal bookworm without documents; valkey/valkey:9 is the newest Valkey that Debian's
# backports have, on it, prom/prometheus its Prometheus. Images that are there already are kept.
set -euo pipefail
cd "$(dirname "$0")/.."
base=debian:bookworm-slim
valkey=valkey/valkey:9-bookworm
prometheus=prom/prometheus:v3.5.0

is_there() { docker image inspect "$1" >/dev/null 2>&1; }

if ! is_there "$base"; then
  command -v mmdebstrap >/dev/null || scripts/apt_install.sh mmdebstrap
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  exclude=()
  for name in doc info man locale; do exclude+=(--dpkgopt="path-exclude=/usr/share/$name/*"); done
  mmdebstrap --quiet --variant=minbase --include=ca-certificates,netbase "${exclude[@]}" \
    --dpkgopt='path-include=/usr/share/doc/*/copyright' --aptopt='Acquire::Languages "none"' \
    bookworm "$folder/base.tar"
  docker import --change 'CMD ["bash"]' "$folder/base.tar" "$base" >/dev/null
fi

if ! is_there "$valkey"; then
  DOCKER_BUILDKIT=1 docker build --network host --tag "$valkey" - <<DOCKERFILE
FROM $base
RUN sed 's/bookworm main/bookworm-backports main/' /etc/apt/sources.list >/etc/apt/sources.list.d/backports.list \
 && apt-get update \
 && apt-get install -y --no-install-recommends -t bookworm-backports valkey-server \
 && apt-get clean && rm -rf /var/lib/apt/lists/* && install -d -o 999 -g 999 /data
WORKDIR /data
USER 999
CMD ["valkey-server"]
DOCKERFILE
fi

if ! is_there "$prometheus"; then
  DOCKER_BUILDKIT=1 docker build --network host --tag "$prometheus" - <<DOCKERFILE
FROM $base
RUN apt-get update && cd /tmp && apt-get download prometheus && dpkg -x prometheus_*.deb unpacked \
 && mv unpacked/usr/bin/prometheus /usr/bin/ && rm -rf /tmp/* /var/lib/apt/lists/*
ENTRYPOINT ["prometheus"]
DOCKERFILE
fi
