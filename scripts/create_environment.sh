#!/usr/bin/env bash
# Makes an empty virtual environment where there is none. Usage: [PYTHON=python3.12] scripts/create_environment.sh .venv
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:?usage: scripts/create_environment.sh VENV_DIR}
python=${PYTHON:-python3}

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "dovetail needs Python 3.11 or newer; '$python' is $("$python" --version 2>&1 || echo missing)." >&2
  echo "Set PYTHON to a newer interpreter, for example: PYTHON=python3.12 make demo" >&2
  exit 1
fi
# Debian ships venv in a package of its own.
"$python" -c 'import ensurepip, venv' 2>/dev/null || scripts/apt_install.sh python3-venv

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
