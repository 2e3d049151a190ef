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
# Everything but spandrel, which would bring torchvision (see scripts/install.sh); pip itself can leave nothing out.
"$folder/bin/python" - > "$folder/wanted" <<'PYTHON'
import re
import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
extras, seen = ["dev"], set()
wanted = list(project["dependencies"])
while extras:
    extra = extras.pop()
    if extra in seen:
        continue
    seen.add(extra)
    for requirement in project["optional-dependencies"][extra]:
        own = re.fullmatch(re.escape(project["name"]) + r"\[(.+)\]", requirement)
        if own:
            extras += own[1].split(",")
        else:
            wanted.append(requirement)
print("\n".join(requirement for requirement in wanted if not requirement.startswith("spandrel")))
PYTHON
pip install --quiet --constraint <(echo "$torch") --requirement "$folder/wanted"
pip install --quiet --no-deps "$(grep -o '"spandrel>[^"]*"' pyproject.toml | tr -d '"')"
{
  echo "# Made by 'make lock': exact versions of everything 'make test' and 'make demo' use."
  pip freeze --exclude dovetail-vsr | sed -E 's/\+cpu$//'
} > requirements.lock
