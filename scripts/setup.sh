#!/usr/bin/env bash
# Prepares a machine and a clone: system packages, then .venv with mixef in it, and CHOLMOD.
#   bash scripts/setup.sh          what running mixef needs
#   bash scripts/setup.sh dev      and what testing it needs
#   bash scripts/setup.sh docs     and what its documentation needs, a browser to look at it too
# Does nothing that is done already. What CHOLMOD needs and cannot be installed here is done without. Works from any directory.
# PYTHON=/path/to/python chooses the interpreter (3.11 or later).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extra="${1:-}"

say() { printf 'setup: %s\n' "$*" >&2; }

good_python() {
    command -v "$1" >/dev/null 2>&1 &&
        "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if good_python "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

has_header() { # a header that gcc finds, in one of the given directories or by itself
    local name="$1" dir
    shift
    for dir in "$@"; do [ -e "$dir/$name" ] && return 0; done
    return 1
}

has_browser() { # one that scripts/look_at_site.py finds
    local candidate
    for candidate in chromium chromium-browser google-chrome google-chrome-stable chrome; do
        command -v "$candidate" >/dev/null 2>&1 && return 0
    done
    return 1
}

has_openblas() { ldconfig -p 2>/dev/null | grep -q 'libopenblas' ||
    /sbin/ldconfig -p 2>/dev/null | grep -q 'libopenblas'; }

# What is missing, as Debian packages: $needed cannot be done without, scikit-sparse is compiled
# from $compiling, $wanted makes CHOLMOD fast, $looking opens pages, and $running runs Spark.
list_missing() {
    needed=() compiling=() wanted=() looking=() running=()
    if ! python="$(find_python)"; then
        needed+=(python3 python3-venv)
        compiling+=(python3-dev)
    else
        "$python" -c 'import ensurepip, venv' 2>/dev/null || needed+=(python3-venv)
        # The versioned package serves an interpreter beside Debian's default one.
        has_header Python.h "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')" ||
            compiling+=("$("$python" -c 'import sys; print("python%d.%d-dev" % sys.version_info[:2])')")
    fi
    command -v gcc >/dev/null 2>&1 || compiling+=(gcc libc6-dev)
    has_header cholmod.h /usr/include/suitesparse /usr/include /usr/local/include \
        /usr/local/include/suitesparse || compiling+=(libsuitesparse-dev)
    has_openblas || wanted+=(libopenblas0-pthread)
    [ "$extra" != docs ] || has_browser || looking+=(chromium)
    [ "$extra" != dev ] || command -v java >/dev/null 2>&1 || running+=(default-jre-headless)
}

as_root() { # run as root if there is a way
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        return 1
    fi
}

install_packages() {
    command -v apt-get >/dev/null 2>&1 || return 1
    say "installing system packages: $*"
    as_root apt-get update -qq &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

list_missing
missing=("${needed[@]}" "${compiling[@]}" "${wanted[@]}")
if [ ${#missing[@]} -gt 0 ]; then
    install_packages "${missing[@]}" ||
        say "could not install packages; as root run: apt-get install ${missing[*]}"
    list_missing
    if [ ${#needed[@]} -gt 0 ]; then
        say "cannot go on without: ${needed[*]}"
        exit 1
    fi
    [ ${#compiling[@]} -eq 0 ] || say "going on without CHOLMOD, for want of: ${compiling[*]}"
    [ ${#wanted[@]} -eq 0 ] || say "going on without ${wanted[*]}: factorizations will be slower"
fi
if [ ${#looking[@]} -gt 0 ]; then
    install_packages "${looking[@]}" || say "going on without ${looking[*]}: pages will not be opened"
fi

if [ ${#running[@]} -gt 0 ]; then
    install_packages "${running[@]}" || say "going on without ${running[*]}: Spark will not be tested"
fi

venv_works() { [ -x .venv/bin/python ] && .venv/bin/python -m pip --version >/dev/null 2>&1; }

if ! venv_works; then
    say "making .venv with $python"
    "$python" -m venv --clear .venv
fi

# A stamp holds the pyproject.toml that was installed, and where, and whether with CHOLMOD; the
# development one covers both.
cholmod=cholmod
[ ${#compiling[@]} -eq 0 ] || cholmod=""
extras="$cholmod${cholmod:+${extra:+,}}$extra"
stamp="$(pwd) $cholmod $(cksum <pyproject.toml)"
installed() { [ -e "$1" ] && [ "$(cat "$1")" = "$stamp" ]; }
if ! installed ".venv/.mixef-$extra" && ! { [ -z "$extra" ] && installed .venv/.mixef-dev; }; then
    say "installing mixef into .venv (a few minutes the first time${cholmod:+: scikit-sparse is compiled})"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".${extras:+[$extras]}"
    printf '%s\n' "$stamp" >".venv/.mixef-$extra"
fi
