#!/usr/bin/env bash
# Installs Docker's compose plugin (v2) for this user from Debian's packages, where there is none yet.
# Usage: scripts/install_compose.sh
#
# Bookworm has version 1 only. Trixie's program runs on it too, so its package is unpacked, not installed.
set -euo pipefail
docker compose version 2>/dev/null | grep -Eq "Compose version v?[2-9]" && exit 0
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
  grep -v '^ *#' | grep -Eo 'https?://[^ ]+/debian/?( |$)' | head -n 1 | tr -d ' ') || true
mirror=${mirror%/}
[ -n "$mirror" ] || { echo "no Debian mirror in /etc/apt: install Docker's compose plugin yourself" >&2; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 - "$mirror" <<'PYTHON'
import hashlib, lzma, subprocess, sys, urllib.request

mirror = sys.argv[1]
machine = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()
index = urllib.request.urlopen(f"{mirror}/dists/trixie/main/binary-{machine}/Packages.xz", timeout=60).read()
for entry in lzma.decompress(index).decode().split("\n\n"):
    if entry.startswith("Package: docker-compose\n"):
        fields = dict(line.split(": ", 1) for line in entry.splitlines() if ": " in line)
        break
else:
    sys.exit("trixie has no docker-compose")
package = urllib.request.urlopen(f"{mirror}/{fields['Filename']}", timeout=300).read()
if hashlib.sha256(package).hexdigest() != fields["SHA256"]:
    sys.exit("docker-compose arrived damaged")
open("compose.deb", "wb").write(package)
PYTHON
dpkg -x compose.deb unpacked
program=$(find unpacked -type f -name docker-compose -perm /111 | head -n 1)
install -D -m 0755 "$program" "${DOCKER_CONFIG:-$HOME/.docker}/cli-plugins/docker-compose"
docker compose version
