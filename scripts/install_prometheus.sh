#!/usr/bin/env bash
# Unpacks Debian's Prometheus and promtool, with which tests ask the dashboard's queries and try the alerts.
# Usage: scripts/install_prometheus.sh [FOLDER]     .venv/bin by default
#
# Not installed: its package would start a server on this machine.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(realpath -m "${1:-.venv/bin}")
{ command -v prometheus && command -v promtool; } >/dev/null && exit 0
[ -x "$folder/prometheus" ] && exit 0
command -v apt-get >/dev/null || { echo "install Prometheus yourself: https://prometheus.io/download" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
# apt fetches as a user of its own where it may write.
chmod 777 "$work"
if ! apt-get download -qq prometheus 2>/dev/null; then
  # Lists of packages are missing or old.
  apt-get update -qq
  apt-get download -qq prometheus
fi
dpkg -x prometheus_*.deb unpacked
mkdir -p "$folder"
# The server last: where it is, both are whole.
for name in promtool prometheus; do
  install -m 0755 "unpacked/usr/bin/$name" "$folder/$name.part"
  mv "$folder/$name.part" "$folder/$name"
done
"$folder/prometheus" --version 2>&1 | head -n 1
