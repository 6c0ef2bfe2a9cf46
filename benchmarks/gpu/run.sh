#!/usr/bin/env bash
# Compare the product on JAX with PyTorch on the GPU at hand: `bash benchmarks/gpu/run.sh [--quick]`.
# It needs python3 with jax and torch, and the wheels that `benchmarks/gpu/wheels.sh` downloaded; no network.
# gpu.json goes to the folder $OUT, or to benchmarks/results. Without git's folder, COMMIT names the commit.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
"$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --disable-pip-version-check \
    --target "$site" .lenet5/gpu-wheels/*.whl
export PYTHONPATH="$site:$PWD/src:$PWD" PYTHONUNBUFFERED=1
"$python" -m benchmarks.gpu "$@"
