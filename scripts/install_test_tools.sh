#!/usr/bin/env bash
# Installs the programs that only tests use: Debian's Chromium without windows, ffmpeg, curl and jq.
# Usage: scripts/install_test_tools.sh
#
# Debian's Chromium is built with H.264; with it tests/web drives the page. Without root or apt this says what is
# missing. The tests that need it are then skipped, unless DOVETAIL_REQUIRE_BROWSER=1.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
for program in curl ffmpeg jq; do
  command -v "$program" >/dev/null || missing+=("$program")
done
if ! { command -v chromium-headless-shell || command -v chromium || command -v chromium-browser; } >/dev/null &&
  [ -z "${DOVETAIL_BROWSER:-}" ]; then
  missing+=(chromium-headless-shell)
fi
[ ${#missing[@]} = 0 ] && exit 0
# One call: each brings its lists up to date and unpacks what others may share.
scripts/apt_install.sh "${missing[@]}" && exit 0 || code=$?
[ "$code" = 3 ] || exit "$code"
[[ " ${missing[*]} " != *" chromium-headless-shell "* || "${DOVETAIL_REQUIRE_BROWSER:-}" != 1 ]]
