#!/usr/bin/env bash
# Installs exactly the locked versions, in CPU form, into an environment that scripts/create_environment.sh made.
# Usage: scripts/install.sh .venv
#
# A GPU machine installs with pip itself (README, "On a GPU machine"): this script is for development, CI and the
# demo, where several GB of CUDA libraries would be a waste.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:?usage: scripts/install.sh VENV_DIR}
# Compiled is what is imported, when it is: pip would take more than a minute for all of it.
install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile "$@"; }
# torch alone first: where pip's sources have a CPU build of the pinned version (its local tag +cpu sorts above the
# plain one) that is taken, and it satisfies the packages after it. `PIP_EXTRA_INDEX_URL` can name such a source.
echo "installing into $venv (torch, the largest part, first) ..."
install "$(grep '^torch==' requirements.lock)"
# spandrel asks for torchvision, of which it needs two functions that we have: no build of it fits a CPU build of torch.
install --requirement <(grep -v -e '^spandrel==' -e '^torchao==' requirements.lock)
install --no-deps "$(grep '^spandrel==' requirements.lock)"
# diffusers imports torchao wherever it is installed, which doubles its start: its tests find it in a place of its own.
install --no-deps --target "$venv/torchao" --upgrade "$(grep '^torchao==' requirements.lock)"
install --no-deps --editable .
