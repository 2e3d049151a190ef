#!/usr/bin/env bash
# Installs the programs that only tests use: Debian's Chromium, ffmpeg, curl, jq and
# Prometheus, Helm, and linters.
# Usage: scripts/install_test_tools.sh
#
# Without root or apt it says what is missing; the tests that need it are then skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
for program in curl ffmpeg jq; do
  command -v "$program" >/dev/null || missing+=("$program")
done
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}"
  else
    echo "missing for some tests: sudo apt-get install ${missing[*]}" >&2
  fi
fi
scripts/install_browser.sh
scripts/install_helm.sh || echo "missing for tests of the chart: Helm" >&2
scripts/install_prometheus.sh || echo "missing for tests of alerts and dashboard: Prometheus" >&2
scripts/install_linters.sh || echo "missing for tests of scripts, images and YAML: linters" >&2
