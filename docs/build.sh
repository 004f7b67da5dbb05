#!/usr/bin/env bash
# The API reference, from the docstrings, as HTML in docs/api/ (pdoc; half a minute). Fails on any warning.
set -euo pipefail
root="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
pins=development.txt
. "$root/requirements/environment.sh"
ensure_environment

log="$(mktemp)"
trap 'rm -f "$log"' EXIT
cd "$root"
rm -rf docs/api
# A package that torch imports asks `uname` for the processor, which pdoc would refuse with a warning.
PDOC_ALLOW_EXEC=1 PYTHONWARNINGS="${PYTHONWARNINGS:-ignore::FutureWarning}" \
    "$venv/bin/python" docs/build.py docs/api 2>&1 | tee "$log"
if grep -q '^Warn' "$log"; then
    echo "error: the docstrings gave warnings, see above." >&2
    exit 1
fi
echo "docs/api/index.html"
