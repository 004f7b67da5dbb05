# Makes .venv/ at the repository root from requirements.txt, or finds it made. Sourced by quickstart.sh and
# run_tests.sh, which set `root` to the repository's absolute path first. Afterwards `venv` is the environment.
# Needs a Python of 3.11 to 3.13 and pip. $PYTHON names the interpreter to use where there are several.

venv="$root/.venv"
requirements="$root/requirements/requirements.txt"

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $1"; shift; for line in "$@"; do say "       $line"; done; exit 1; }

# What the environment was made from. The path counts: scripts and the editable install hold it.
stamp_text() {
    printf '%s\n' "$root" "$(cksum <"$requirements")" "$(cksum <"$root/setup.py")" "$("$1" -VV 2>&1)"
}

environment_is_made() {
    [ -f "$venv/ldnet-stamp" ] && [ -x "$venv/bin/python" ] &&
        [ "$(cat "$venv/ldnet-stamp")" = "$(stamp_text "$venv/bin/python")" ]
}

python_fits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1
}

# Prints the first interpreter that fits. A name on PATH may be a shim that cannot start: each is tried.
find_python() {
    local candidate version seen=""
    if [ -n "${PYTHON:-}" ]; then
        python_fits "$PYTHON" || die "PYTHON is '$PYTHON', which is no working Python 3.11, 3.12 or 3.13."
        printf '%s\n' "$PYTHON"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11 python; do
        if python_fits "$candidate"; then
            command -v "$candidate"
            return
        fi
        version="$("$candidate" --version 2>/dev/null)" || continue
        seen="${seen:+$seen, }$version"
    done
    die "found no Python 3.11, 3.12 or 3.13 on PATH (found: ${seen:-none})." \
        "Install one, or name it: PYTHON=/path/to/python3.11 $0"
}

# Runs pip for the system's Python without leaving anything in it.
system_pip() { PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 "$python" -m pip "$@"; }

# Sets `uv` to a working uv: the one on PATH, or one of our own in .uv/.
find_uv() {
    uv="$(command -v uv || true)"
    if [ -n "$uv" ] && "$uv" --version >/dev/null 2>&1; then return; fi
    uv="$root/.uv/bin/uv"
    if "$uv" --version >/dev/null 2>&1; then return; fi
    say "Fetching uv into .uv/ ..."
    rm -rf "$root/.uv"
    system_pip install --quiet --target "$root/.uv" 'uv>=0.4,<1' && "$uv" --version >/dev/null 2>&1
}

install_with_uv() {
    # Compiled here once: where PYTHONDONTWRITEBYTECODE is set, each start would otherwise take 15 seconds more.
    "$uv" venv --quiet --python "$python" --no-python-downloads "$venv" &&
        "$uv" pip install $quiet --python "$venv/bin/python" --no-deps --compile-bytecode -r "$requirements" &&
        "$uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation --editable "$root"
}

install_with_pip() {
    # Some systems ship venv without ensurepip; the system's pip then installs into the new environment.
    "$python" -m venv --without-pip "$venv" &&
        system_pip --python "$venv/bin/python" install $quiet --no-deps -r "$requirements" &&
        system_pip --python "$venv/bin/python" install --quiet --no-deps --no-build-isolation --editable "$root"
}

make_environment() {
    local python uv quiet=--quiet
    if [ -t 2 ]; then quiet=""; fi # a person watches: show the progress
    if [ -e "$venv" ] && [ ! -f "$venv/pyvenv.cfg" ]; then
        die "$venv exists and is not a Python environment; it is not ours to replace. Move it away."
    fi
    python="$(find_python)" || exit 1
    system_pip --version >/dev/null 2>&1 ||
        die "$python ($("$python" --version)) has no pip." \
            "Install it (Debian, Ubuntu: apt install python3-pip; others: $python -m ensurepip), then run this again."
    say "Making .venv with $("$python" --version) (about 6 GB with torch; minutes the first time, once only) ..."
    rm -rf "$venv"
    if find_uv; then
        install_with_uv || {
            say "uv did not succeed (see above); trying pip alone ..."
            rm -rf "$venv"
            install_with_pip
        }
    else
        say "uv is not to be had; using pip alone, which is slower ..."
        install_with_pip
    fi || die "the environment could not be made; the message above says why." \
        "It needs the package index (or your mirror of it) and about 10 GB of free disk." \
        "Run the same command again: it starts over."
    # What setup.py's data_files are for; an editable installation has none.
    mkdir -p "$venv/nltk_data/tokenizers/punkt" && cp "$root/requirements/nltk_data.txt" "$venv/nltk_data/tokenizers/punkt/"
    stamp_text "$venv/bin/python" >"$venv/ldnet-stamp.new"
    mv "$venv/ldnet-stamp.new" "$venv/ldnet-stamp" # written last: without it the environment is made anew
}

# Two scripts started at once must not both make it.
ensure_environment() {
    environment_is_made && return
    if command -v flock >/dev/null 2>&1; then
        { flock 9 && { environment_is_made || make_environment; }; } 9<"$requirements"
    else
        make_environment
    fi
}

ensure_environment
unset PYTHONHOME
