#!/usr/bin/env bash
# Writes requirements.lock: the newest versions that pyproject.toml allows, in a fresh environment.
#
# torch stays at the version below (and without its local build tag): the development environment uses a CPU build
# of it, a GPU machine the CUDA build of the same version, and which versions exist as both is not pip's to choose.
set -euo pipefail
cd "$(dirname "$0")/.."
torch=${TORCH:-torch==2.13.0}
python=${PYTHON:-python3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

"$python" -m venv "$folder"
pip() { "$folder/bin/python" -m pip --disable-pip-version-check "$@"; }
pip install --quiet "$torch"
pip install --quiet --constraint <(echo "$torch") ".[dev]"
{
  echo "# Made by 'make lock': exact versions of everything 'make test' and 'make demo' use."
  pip freeze --exclude dovetail-vsr | sed -E 's/\+cpu$//'
} > requirements.lock
