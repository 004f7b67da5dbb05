#!/usr/bin/env bash
# Installs the package into empty environments and runs train, prune and predict with it, from another directory:
#
#   tests/smoke.sh [VERSION[:pip] ...]      3.10, 3.13 and 3.12:pip unless told; any of 3.8 to 3.13
#
# 3.8 to 3.10: the wheel with AllenNLP's own pins and our bounds. 3.11 to 3.13: the pinned file, then the wheel.
# With uv where there is one; with pip alone where it says so. A version is skipped, and it says why, where there is no
# such interpreter, where the package index cannot be reached, or where SMOKE_MINUTES (15) do not suffice to install.
# It fails if what installs does not work, or if what can be reached does not install.
set -euo pipefail
root="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
minutes="${SMOKE_MINUTES:-15}"
if [ $# -eq 0 ]; then set -- 3.10 3.13 3.12:pip; fi

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
found_uv=""
for candidate in uv "$root/.uv/bin/uv"; do
    if "$candidate" --version >/dev/null 2>&1; then found_uv="$(command -v "$candidate")" && break; fi
done

is_version() { "$1" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$2')" >/dev/null 2>&1; }

# Prints an interpreter of version $1: on PATH, one that uv manages, or one of pyenv's.
find_interpreter() {
    local candidate managed=""
    if [ -n "$uv" ]; then managed="$("$uv" python find --no-project --no-python-downloads "$1" 2>/dev/null || true)"; fi
    for candidate in "python$1" "$managed" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        if [ -n "$candidate" ] && is_version "$candidate" "$1"; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# Runs what installs something into $env.
install() {
    if [ -n "$uv" ]; then
        "$uv" pip install --quiet --python "$env/bin/python" "$@"
    else
        "$env/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
    fi
}

make_environment() {
    if [ -n "$uv" ]; then
        "$uv" venv --quiet --no-project --python "$1" "$env"
    else
        "$1" -m venv "$env"
    fi
}

# The wheel is made from the source distribution, so nothing of the checkout can be missed.
build_wheel() {
    tar -C "$root" --exclude=./.git --exclude=./.venv --exclude=./.uv --exclude='./.*_cache' --exclude=./.hypothesis \
        --exclude=./quickstart/out --exclude=./out --exclude=./build --exclude=./dist --exclude='./*.egg-info' \
        -cf - . | tar -C "$scratch/source" -xf -
    install build
    "$env/bin/python" -m build --outdir "$scratch/dist" "$scratch/source"
}

install_package() {
    local wheel
    wheel="$(ls "$scratch/dist/"*.whl)"
    case "$1" in
        3.8 | 3.9 | 3.10) install "$wheel" ;;
        *)
            install --no-deps "$wheel"
            "$env/bin/python" -m ldnet_allennlp requirements >"$env/requirements.txt" # from the wheel, too
            install --no-deps -r "$env/requirements.txt"
            ;;
    esac
}

# Runs $2... for at most $1 minutes; functions, too. Status 124: the time was up.
within() {
    local limit="$1" name="$2"
    shift 2
    export root scratch env uv
    export -f install build_wheel install_package
    timeout "$((limit * 60))" bash -euo pipefail -c "$name \"\$@\"" "$name" "$@"
}

skip() { printf '== Python %s: SKIPPED, %s\n' "$1" "$2"; skipped=$((skipped + 1)); }
fail() { printf '== Python %s: FAILED, %s\n' "$1" "$2" >&2; failed=$((failed + 1)); }

smoke() {
    local version="${1%:pip}" uv="$found_uv" interpreter status=0
    if [ "$1" != "$version" ]; then uv=""; fi
    interpreter="$(find_interpreter "$version")" || { skip "$version" "no such interpreter was found"; return; }
    env="$scratch/env-$version"
    rm -rf "$scratch/source" "$scratch/dist" && mkdir "$scratch/source"
    printf '== Python %s: %s, %s\n' "$version" "$interpreter" "${uv:-pip}"
    make_environment "$interpreter" || { fail "$version" "no environment could be made"; return; }
    if ! within 2 install --no-deps overrides >"$scratch/log" 2>&1; then
        skip "$version" "the package index cannot be reached: $(tail -n 1 "$scratch/log")"
        return
    fi
    within 3 build_wheel >"$scratch/log" 2>&1 ||
        { tail -n 20 "$scratch/log" >&2; fail "$version" "the package cannot be built"; return; }
    within "$minutes" install_package "$version" >"$scratch/log" 2>&1 || status=$?
    if [ "$status" = 124 ]; then
        skip "$version" "$minutes minutes did not suffice to install (SMOKE_MINUTES)"
        return
    elif [ "$status" != 0 ]; then
        tail -n 20 "$scratch/log" >&2
        fail "$version" "the package cannot be installed"
        return
    fi
    timeout 1200 "$env/bin/python" "$root/tests/smoke_steps.py" "$env/work" || status=$?
    case "$status" in
        0) printf '== Python %s: passed\n' "$version" ;;
        124) fail "$version" "the steps did not end within 20 minutes" ;;
        *) fail "$version" "see above" ;;
    esac
    rm -rf "$env"
}

failed=0 skipped=0
for version in "$@"; do smoke "$version"; done
printf '== %s of %s skipped, %s failed\n' "$skipped" "$#" "$failed"
[ "$failed" = 0 ]
