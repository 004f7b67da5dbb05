#!/usr/bin/env bash
# Run the tests that depend on the CPU's instruction set as on machines with only AVX2, and without vector extensions.
# Arguments go to pytest.
set -euo pipefail
root="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
cd "$root"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
tests=(tests/modules tests/models tests/export tests/predictors/ldnet_tagger_test.py)
paths=()
for path in "${tests[@]}"; do
    if [ -e "$path" ]; then paths+=("$path"); fi
done
status=0
for variables in "ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2" "ATEN_CPU_CAPABILITY=default"; do
    printf '== kernels: %s\n' "$variables"
    env $variables .venv/bin/python -m pytest -n "${PYTEST_WORKERS:-2}" --dist loadfile -m "not slow" "${paths[@]}" "$@" ||
        status=1
done
exit "$status"
