# Create or reuse .venv/ at the repository root. quickstart.sh and run_tests.sh source this file after setting `root`
# (the repository's absolute path) and `pins` (requirements.txt, or development.txt, which contains it). Sets `venv` to
# the environment. $PYTHON selects the interpreter. Otherwise the first Python 3.11 to 3.14 on PATH is used, then one of
# uv's, then one that uv downloads.

venv="$root/.venv"
stamp="$venv/ldnet-stamp"

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $1"; shift; for line in "$@"; do say "       $line"; done; exit 1; }

# The inputs of the environment. The path is included, because scripts and the editable install contain it.
stamp_text() {
    printf '%s\n' "$root" "$2" "$(cat "$root/requirements/$2" "$root/setup.py" "$root/ldnet_runtime/pyproject.toml" | cksum)" \
        "$("$1" -VV 2>&1)"
}

environment_is_made() {
    local file
    [ -f "$stamp" ] && [ -x "$venv/bin/python" ] || return 1
    for file in "$pins" development.txt; do
        if [ "$(cat "$stamp")" = "$(stamp_text "$venv/bin/python" "$file")" ]; then return 0; fi
    done
    return 1
}

python_fits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' >/dev/null 2>&1
}

# Set `python` to the first suitable interpreter. Each candidate is started, because a name on PATH may be a broken
# shim. Our own .venv/bin is skipped.
find_python() {
    local candidate path version seen=""
    python=""
    if [ -n "${PYTHON:-}" ]; then
        python_fits "$PYTHON" || die "PYTHON is '$PYTHON', which is not a working Python 3.11 to 3.14."
        python="$PYTHON"
        return
    fi
    for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do
        while IFS= read -r path; do
            case "$path" in "$venv"/*) continue ;; esac
            if python_fits "$path"; then
                python="$path"
                return
            fi
            version="$("$path" --version 2>/dev/null)" && seen="${seen:+$seen, }$version"
        done < <(type -ap "$candidate")
    done
    seen_pythons="${seen:-none}"
}

# Run pip for the interpreter $1 without changing it. The pins are exact, so constraints could only break them.
pip_of() {
    local interpreter="$1"
    shift
    PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=/dev/null "$interpreter" -m pip "$@"
}

# Set `uv` to a working uv: the one on PATH, or one that pip installs in .uv/.
find_uv() {
    local interpreter
    for uv in "$(command -v uv || true)" "$root/.uv/bin/uv"; do
        if [ -n "$uv" ] && "$uv" --version >/dev/null 2>&1; then return; fi
    done
    for interpreter in ${python:+"$python"} python3 python; do
        if pip_of "$interpreter" --version >/dev/null 2>&1; then
            say "Installing uv into .uv/ ..."
            rm -rf "$root/.uv"
            pip_of "$interpreter" install --quiet --target "$root/.uv" 'uv>=0.7,<1' && "$uv" --version >/dev/null 2>&1 && return
        fi
    done
    uv=""
    return 1
}

# Set `python` to an interpreter of uv; download one if there is none.
python_from_uv() {
    local wanted='>=3.11,<3.15'
    python="$("$uv" python find --no-project --managed-python --no-python-downloads "$wanted" 2>/dev/null)" && return
    say "Downloading Python 3.14 with uv ..."
    "$uv" python install 3.14 >&2 &&
        python="$("$uv" python find --no-project --managed-python --no-python-downloads 3.14)"
}

# Both installers compile bytecode. Otherwise, with PYTHONDONTWRITEBYTECODE, each start takes 45 seconds.
install_with_uv() {
    "$uv" venv --quiet --allow-existing --no-project --python "$python" --no-python-downloads "$venv" &&
        "$uv" pip install $quiet --python "$venv/bin/python" --no-deps --compile-bytecode -r "$root/requirements/$pins" &&
        "$uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation \
            --editable "$root/ldnet_runtime" --editable "$root"
}

# Some systems ship venv without ensurepip; the system's pip then installs into the new environment.
install_with_pip() {
    "$python" -m venv --without-pip "$venv" &&
        pip_of "$python" --python "$venv/bin/python" install $quiet --no-deps --compile -r "$root/requirements/$pins" &&
        pip_of "$python" --python "$venv/bin/python" install --quiet --no-deps --no-build-isolation \
            --editable "$root/ldnet_runtime" --editable "$root"
}

# Check that a user's environment has every pinned version; print the differences.
users_environment_fits() {
    local differences
    python_fits "$venv/bin/python" || die "$venv is not an environment of Python 3.11 to 3.14, and it was not made here." \
        "Move it away, or use it without this script."
    differences="$("$venv/bin/python" -I -c 'import runpy, sys
print(*map("==".join, runpy.run_path(sys.argv[1])["differences"](sys.argv[2]).items()))' \
        "$root/ldnet_allennlp/doctor.py" "$root/requirements/$pins")" || exit 1
    [ -z "$differences" ] || die "$venv was not made here and lacks pinned versions: $differences" \
        "Install them (requirements/$pins), or move the environment away."
}

make_environment() {
    local python uv quiet=--quiet
    if [ -t 2 ]; then quiet=""; fi # a person watches: show the progress
    if [ -e "$venv" ] && [ ! -f "$stamp" ]; then
        [ -f "$venv/pyvenv.cfg" ] || [ -z "$(ls -A "$venv")" ] || die "$venv exists and is not a Python environment." \
            "Move it away."
        if [ -f "$venv/pyvenv.cfg" ]; then users_environment_fits && return; fi
    fi
    find_python
    find_uv || uv=""
    if [ -z "$python" ]; then
        [ -n "$uv" ] && python_from_uv || die "found no Python 3.11 to 3.14 on PATH (found: $seen_pythons)," \
            "and uv could not download one. Install Python, or name it: PYTHON=/path/to/python3.11 $0"
    fi
    if [ -z "$uv" ] && ! pip_of "$python" --version >/dev/null 2>&1; then
        die "$python ($("$python" --version)) has no pip, and uv is not available." \
            "Install one of them (Debian, Ubuntu: apt install python3-pip), then run this again."
    fi
    say "Making .venv with $("$python" --version) (about 6 GB with torch; takes minutes, once) ..."
    # Rebuild an environment that was moved or lost its interpreter. Otherwise install only the changes.
    if [ "$(head -n 1 "$stamp" 2>/dev/null)" != "$root" ] || ! "$venv/bin/python" --version >/dev/null 2>&1; then
        rm -rf "$venv"
    fi
    mkdir -p "$venv"
    printf '%s\n' "$root" unfinished >"$stamp" # it is ours from here on
    { [ -n "$uv" ] && install_with_uv; } || {
        say "uv is not available or failed; falling back to pip (slower) ..."
        install_with_pip
    } || die "the environment could not be made; see the message above." \
        "This needs a package index and about 10 GB of free disk. Run the same command again to continue."
    # Replaces setup.py's data_files, which an editable install lacks.
    mkdir -p "$venv/nltk_data/tokenizers/punkt" && cp "$root/requirements/nltk_data.txt" "$venv/nltk_data/tokenizers/punkt/"
    stamp_text "$venv/bin/python" "$pins" >"$stamp.new"
    mv "$stamp.new" "$stamp" # written last: without it the next run installs again
}

# Two scripts that start at the same time must not both create it.
ensure_environment() {
    environment_is_made && return
    if command -v flock >/dev/null 2>&1; then
        { flock 9 && { environment_is_made || make_environment; }; } 9<"$root/requirements/requirements.txt"
    else
        make_environment
    fi
}

unset PYTHONHOME
