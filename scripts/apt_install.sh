#!/usr/bin/env bash
# Installs Debian packages. Usage: scripts/apt_install.sh PACKAGE...
#
# Calls that run at the same time wait for each other. Without root or apt it says what is missing and exits with 3.
set -euo pipefail

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "missing, and installing it needs root and apt: sudo apt-get install $*" >&2
  exit 3
fi
exec 9>"${TMPDIR:-/tmp}/dovetail-apt.lock"
flock 9
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "$@"
