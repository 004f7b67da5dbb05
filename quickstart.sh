#!/usr/bin/env bash
# From labeled text to a pruned tagger: taggers with and without language models, layer selection, pruning, a table.
# Creates .venv/ on the first run. ./quickstart.sh --help lists the options.
set -euo pipefail
root="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)"
pins=requirements.txt
. "$root/requirements/environment.sh"

# -P: modules in the caller's folder must not replace ours.
run() {
    PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONWARNINGS="${PYTHONWARNINGS:-ignore}" exec "$1" -P -m quickstart "${@:2}"
}

for argument in "$@"; do
    if [ "$argument" = --help ] || [ "$argument" = -h ]; then
        find_python
        [ -n "$python" ] || die "found no Python 3.11 to 3.14 on PATH (found: $seen_pythons)."
        run "$python" --help
    fi
done
ensure_environment
run "$venv/bin/python" "$@"
