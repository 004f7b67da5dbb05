#!/usr/bin/env bash
# Compile the pinned files for Python 3.11 and later. Existing pins stay; --upgrade selects the newest versions that
# requirements.in, development.in and overrides.txt allow.
#
#     requirements/compile.sh [--upgrade]
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")"
uv="$(command -v uv || printf '../.uv/bin/uv')"

# Usage: compile_pins SOURCE TARGET [OPTION ...]
compile_pins() {
    local source="$1" target="$2"
    shift 2
    "$uv" pip compile --quiet --universal --python-version 3.11 --no-annotate --override overrides.txt \
        --custom-compile-command "requirements/compile.sh" "$@" "$source" -o "$target"
}

compile_pins requirements.in requirements.txt "$@"
compile_pins development.in development.txt --constraint requirements.txt "$@" requirements.in

# For an index with CPU wheels of torch: the same versions without CUDA's packages (4 GB).
{
    printf '# requirements.txt without the packages that only a GPU needs:\n'
    printf '#     uv pip install --no-deps --torch-backend=cpu -r requirements/requirements-cpu.txt\n'
    grep -vE '^(nvidia-|cuda-|triton)' requirements.txt
} >requirements-cpu.new
mv requirements-cpu.new requirements-cpu.txt
