#!/usr/bin/env bash
# Makes the virtual environment with exactly the locked versions, in CPU form. Usage: scripts/install.sh .venv
#
# A GPU machine installs with pip itself (README, "On a GPU machine"): this script is for development, CI and the
# demo, where several GB of CUDA libraries would be a waste.
set -euo pipefail
venv=${1:?usage: scripts/install.sh VENV_DIR}
python=${PYTHON:-python3}

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "dovetail needs Python 3.11 or newer; '$python' is $("$python" --version 2>&1 || echo missing)." >&2
  echo "Set PYTHON to a newer interpreter, for example: PYTHON=python3.12 make demo" >&2
  exit 1
fi
# Debian ships venv in a package of its own.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && apt-get install -y -qq python3-venv
  else
    echo "python3-venv is missing: sudo apt-get install python3-venv" >&2
    exit 1
  fi
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
# torch first and alone: the pinned version is the only one here that comes without CUDA libraries, and the
# packages after it are then satisfied by it.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$(grep '^torch==' requirements.lock)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements.lock
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --editable .
