#!/usr/bin/env bash
# Install the wheels into empty environments, and run train, prune, export and predict from another directory:
#
#     tests/smoke.sh [VERSION[:pip] ...]    by default the oldest and the newest Python of 3.11 to 3.14 on this machine
#
# Installs the pinned file, then the wheels: with uv where it exists, with pip alone for a version that ends in ":pip".
# A version is skipped, with the reason, if there is no such interpreter, if the package index cannot be reached, or if
# installing takes more than SMOKE_MINUTES (15). The exit status is 0 unless a step fails.
set -euo pipefail
root="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
minutes="${SMOKE_MINUTES:-15}"

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
uv_program=""
for candidate in uv "$root/.uv/bin/uv"; do
    if "$candidate" --version >/dev/null 2>&1; then uv_program="$(command -v "$candidate")" && break; fi
done

is_version() { "$1" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$2')" >/dev/null 2>&1; }

# Print an interpreter of version $1: on PATH, of uv, or of pyenv.
find_interpreter() {
    local candidate managed=""
    if [ -n "$uv_program" ]; then
        managed="$("$uv_program" python find --no-project --no-python-downloads "$1" 2>/dev/null || true)"
    fi
    for candidate in "python$1" "$managed" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        if [ -n "$candidate" ] && is_version "$candidate" "$1"; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# Set the versions to run, the oldest and the newest that exist, and print the missing ones.
choose_versions() {
    local version oldest="" newest=""
    for version in 3.11 3.12 3.13 3.14; do
        if find_interpreter "$version" >/dev/null; then
            oldest="${oldest:-$version}" newest="$version"
        else
            printf '== Python %s: not on this machine\n' "$version"
        fi
    done
    versions=("$oldest")
    if [ "$newest" != "$oldest" ]; then versions+=("$newest"); fi
}

# Install packages into $env.
install() {
    if [ -n "$uv" ]; then
        "$uv" pip install --quiet --python "$env/bin/python" "$@"
    else
        PIP_CONSTRAINT=/dev/null "$env/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
    fi
}

make_environment() {
    if [ -n "$uv" ]; then
        "$uv" venv --quiet --no-project --python "$1" "$env"
    else
        "$1" -m venv "$env"
    fi
}

# Build the wheels from source distributions, to detect files that these lack.
build_wheels() {
    local package
    tar -C "$root" --exclude=./.git --exclude=./.venv --exclude=./.uv --exclude='./.*_cache' --exclude=./.hypothesis \
        --exclude=./quickstart/out --exclude=./out --exclude=./build --exclude=./dist --exclude='*.egg-info' \
        --exclude=./models -cf - . | tar -C "$scratch/source" -xf -
    [ -n "$uv" ] || install build
    for package in . ldnet_runtime; do
        if [ -n "$uv" ]; then
            "$uv" build --python "$env/bin/python" --out-dir "$scratch/dist" "$scratch/source/$package"
        else
            "$env/bin/python" -m build --outdir "$scratch/dist" "$scratch/source/$package"
        fi
    done
}

install_package() {
    install --no-deps -r "$root/requirements/requirements.txt"
    install --no-deps "$scratch/dist/"*.whl
}

# Run the function $2 with the arguments after it, for at most $1 minutes. Status 124: timeout.
within() {
    local limit="$1" name="$2"
    shift 2
    export root scratch env uv
    export -f install build_wheels install_package
    timeout "$((limit * 60))" bash -euo pipefail -c "$name \"\$@\"" "$name" "$@"
}

skip() { printf '== Python %s: SKIPPED, %s\n' "$1" "$2"; skipped=$((skipped + 1)); }
fail() { printf '== Python %s: FAILED, %s\n' "$1" "$2" >&2; failed=$((failed + 1)); }

smoke() {
    local version="${1%:pip}" uv="$uv_program" interpreter status=0
    if [ "$1" != "$version" ]; then uv=""; fi
    interpreter="$(find_interpreter "$version")" || { skip "$version" "no such interpreter was found"; return; }
    env="$scratch/env-$version"
    rm -rf "$scratch/source" "$scratch/dist" && mkdir "$scratch/source"
    printf '== Python %s: %s, %s\n' "$version" "$interpreter" "${uv:-pip}"
    make_environment "$interpreter" || { fail "$version" "no environment could be made"; return; }
    if ! within 5 install --no-deps overrides >"$scratch/log" 2>&1; then
        skip "$version" "the package index cannot be reached: $(tail -n 1 "$scratch/log")"
        return
    fi
    within "$minutes" build_wheels >"$scratch/log" 2>&1 ||
        { tail -n 20 "$scratch/log" >&2; fail "$version" "the packages cannot be built"; return; }
    within "$minutes" install_package >"$scratch/log" 2>&1 || status=$?
    if [ "$status" = 124 ]; then
        skip "$version" "$minutes minutes did not suffice to install (SMOKE_MINUTES)"
        return
    elif [ "$status" != 0 ]; then
        tail -n 20 "$scratch/log" >&2
        fail "$version" "the package cannot be installed"
        return
    fi
    timeout 2400 "$env/bin/python" "$root/tests/smoke_steps.py" "$env/work" || status=$?
    case "$status" in
        0) printf '== Python %s: passed\n' "$version" ;;
        124) fail "$version" "the steps did not end within 40 minutes" ;;
        *) fail "$version" "see above" ;;
    esac
    rm -rf "$env"
}

failed=0 skipped=0 versions=("$@")
if [ $# -eq 0 ]; then choose_versions; fi
for version in "${versions[@]}"; do smoke "$version"; done
printf '== %s of %s skipped, %s failed\n' "$skipped" "${#versions[@]}" "$failed"
[ "$failed" = 0 ]
