#!/usr/bin/env bash
# The climb on a GPU in one command, on a bare machine whose python3 has torch and torchvision for it; benchmarks/gpu.md says what was run.
#   benchmarks/gpu.sh [--no-install] [--cpu] [--small] [--minutes 9] [--out runs/gpu.json] [--tests PATH ...]
# --no-install: nothing is downloaded; $PYTHON (python3) must have what advcam needs, PYTHONPATH may name a folder that has more of it.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3} install=yes given=()
for argument in "$@"; do
  if [ "$argument" = --no-install ]; then install=; else given+=("$argument"); fi
done
"$python" -c 'import importlib.metadata as m; m.version("torch"), m.version("torchvision")' 2> /dev/null || { echo "gpu.sh: $python has no torch and torchvision: install those of this machine's GPU first, or name another with PYTHON=" >&2; exit 2; }
if [ -n "$install" ]; then
  venv=${ADVCAM_GPU_VENV:-${TMPDIR:-/tmp}/advcam-gpu}
  "$python" -m venv --system-site-packages "$venv"
  "$python" -c '
from importlib.metadata import version
for name in ("torch", "torchvision"):
    print(f"{name}=={version(name)}")' > "$venv/as-it-is.txt"  # so that pip leaves them alone
  "$venv/bin/python" -m pip install --quiet --constraint "$venv/as-it-is.txt" --editable '.[dev]'
  python=$venv/bin/python
fi
PYTHONPATH=src${PYTHONPATH:+:$PYTHONPATH} exec "$python" benchmarks/gpu.py ${given[@]+"${given[@]}"}
