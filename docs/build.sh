#!/usr/bin/env bash
# Build the documentation site in site/ (a minute). Fails on any warning. `docs/build.sh serve` previews it.
set -euo pipefail
root="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
pins=development.txt
. "$root/requirements/environment.sh"
ensure_environment

cd "$root"
NO_MKDOCS_2_WARNING=1 exec "$venv/bin/python" -m mkdocs "${1:-build}" --strict
