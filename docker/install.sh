#!/bin/sh
# Installs packages at their locked versions for the image's interpreter. Usage: install-packages FOLDER PIP_ARGUMENT...
#
# FOLDER is the environment itself, or an empty one whose content is laid over it later: what the environment has is not
# installed again. A pip configuration and certificates of the builder's machine are used where they come as secrets.
set -eu
folder=$1
shift
[ ! -s /run/secrets/pip.conf ] || export PIP_CONFIG_FILE=/run/secrets/pip.conf
[ ! -s /run/secrets/ca.pem ] || export PIP_CERT=/run/secrets/ca.pem
export PIP_CACHE_DIR=/var/cache/pip
[ "$folder" = /opt/dovetail ] || set -- --prefix "$folder" "$@"
python3 -m pip --python /opt/dovetail/bin/python --disable-pip-version-check --no-input \
  install --root-user-action ignore --constraint requirements.lock "$@"
# Of the descriptions of all services of Amazon only these are asked for.
find "$folder"/lib/python3*/site-packages/botocore/data -mindepth 1 -maxdepth 1 -type d \
  ! -name s3 ! -name sts ! -name 'sso*' -exec rm -rf {} + 2>/dev/null || true
# 16 MB of the image: numpy's own tests.
find "$folder"/lib/python3*/site-packages/numpy -type d -name tests -prune -exec rm -rf {} + 2>/dev/null || true
