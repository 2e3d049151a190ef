#!/usr/bin/env bash
# Freezes the environment into requirements.lock: every package but ours, without local build tags (+cpu).
set -euo pipefail
venv=${1:?usage: scripts/lock.sh VENV_DIR}
{
  echo "# Made by 'make lock'. Exact versions of the development environment (CPU)."
  "$venv/bin/python" -m pip freeze --exclude dovetail-vsr --exclude-editable | sed -E 's/\+cpu$//'
} > requirements.lock
