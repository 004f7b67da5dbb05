#!/usr/bin/env bash
# Run the tests that depend on the CPU's instruction set as on machines with only AVX2, and without vector extensions.
# Arguments go to pytest.
set -euo pipefail
root="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
cd "$root"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
tests=(
    tests/modules/rnn tests/modules/softmax tests/modules/crf tests/modules/characters tests/common/precision_test.py
    tests/models/adaptive_language_model_test.py tests/models/language_model_training_test.py tests/export
)
status=0
for variables in "ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2" "ATEN_CPU_CAPABILITY=default"; do
    printf '== kernels: %s\n' "$variables"
    env $variables .venv/bin/python -m pytest -n "${PYTEST_WORKERS:-2}" --dist loadfile -m "not slow" "${tests[@]}" "$@" ||
        status=1
done
exit "$status"
