#!/usr/bin/env bash
# Lint, format, types and tests. Creates .venv/ on the first run.
# Arguments go to pytest: ./run_tests.sh tests/modules -k rnn
set -euo pipefail
root="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)"
pins=development.txt
. "$root/requirements/environment.sh"

case "${1:-}" in
    -h | --help)
        sed -n '2,3s/^# //p' "${BASH_SOURCE[0]}"
        exit
        ;;
esac
ensure_environment

cd "$root"
failed=""
check() {
    local name="$1"
    shift
    printf '== %s\n' "$name"
    "$@" || failed="$failed $name,"
}

bin="$venv/bin"
check "ruff check" "$bin/ruff" check .
check "ruff format" "$bin/ruff" format --check .
check "mypy" "$bin/mypy"
# One thread per worker, because workers would otherwise wait for each other's threads.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
check "pytest" "$bin/python" -m pytest -n "${PYTEST_WORKERS:-2}" --dist loadfile "$@"

if [ -n "$failed" ]; then
    printf 'failed:%s\n' "${failed%,}" >&2
    exit 1
fi
