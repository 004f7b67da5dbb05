#!/usr/bin/env bash
# From text to a pruned tagger: language models, taggers with and without them, layer selection, pruning, a table.
# Makes its own environment (.venv/) on the first run. ./quickstart.sh --help says how to run it on your own files.
set -euo pipefail
root="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)"
. "$root/requirements/environment.sh"

# -P: what lies in the caller's folder must not be taken for ours.
PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONWARNINGS="${PYTHONWARNINGS:-ignore}" \
    exec "$venv/bin/python" -P -m quickstart "$@"
