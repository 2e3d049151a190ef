#!/usr/bin/env bash
# Installs Debian's Chromium, with which tests/web drives the page. Usage: scripts/install_browser.sh
#
# Debian's is built with H.264. Without root or apt it only says what is missing: these tests are then skipped,
# unless DOVETAIL_REQUIRE_BROWSER=1.
set -euo pipefail

if command -v chromium >/dev/null || command -v chromium-browser >/dev/null || [ -n "${DOVETAIL_BROWSER:-}" ]; then
  exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends chromium
  exit 0
fi
echo "Chromium is missing, and installing it needs root: sudo apt-get install chromium" >&2
[ "${DOVETAIL_REQUIRE_BROWSER:-}" != 1 ]
