#!/usr/bin/env bash
# Download the wheels that a machine with jax and torch lacks, into .lenet5/gpu-wheels, which git ignores.
# Versions and hashes are those of requirements.lock, for Linux x86-64 and Python 3.12.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
folder=.lenet5/gpu-wheels
packages='keras|namex|optree|pydantic|pydantic-core|annotated-types|typing-inspection|typing-extensions|ruamel-yaml'
mkdir -p "$folder"
rm -f "$folder"/*.whl
awk -v names="^($packages)==" '/^[a-z0-9]/ {keep = $0 ~ names} keep' requirements.lock > "$folder/requirements.txt"
"$python" -m pip download --quiet --no-deps --only-binary=:all: --require-hashes --python-version 3.12 \
    --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 \
    --dest "$folder" --requirement "$folder/requirements.txt"
du --human-readable --summarize "$folder"
