# Sourced by the tools beside it: the virtual environment and the packages they work with.
# It must be sourced from the top of the repository.

say() { printf '== %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# What the caller's shell is set up for (an OpenStack, another environment, a proxy) must not
# reach servers and clients that all live on this machine.
clean_environment() {
    local name
    for name in $(compgen -e OS_) PYTHONPATH PYTHONHOME VIRTUAL_ENV; do unset "$name"; done
    export NO_PROXY="127.0.0.1,localhost${NO_PROXY:+,$NO_PROXY}"
    export no_proxy=$NO_PROXY
}

# Runs a command without its output, which is shown only when the command fails.
quietly() {
    local log status=0
    log=$(mktemp)
    "$@" >"$log" 2>&1 </dev/null || status=$?
    if [ "$status" -ne 0 ]; then
        tail -n 40 "$log" >&2
    fi
    rm -f "$log"
    return "$status"
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    die "Python 3.11 or newer is needed (set PYTHON to its path)"
}

create_venv() {
    local python=$1 venv=$2
    quietly "$python" -m venv --clear "$venv" && return
    # Debian splits ensurepip off into python3-venv: pip from outside does as well.
    say "\"$python -m venv\" failed: trying without its own pip"
    quietly "$python" -m venv --clear --without-pip "$venv" &&
        quietly "$python" -m pip --python "$venv/bin/python" install pip ||
        die "no virtual environment could be made: install the venv module (Debian, Ubuntu: apt install python3-venv)"
}

# prepare_venv DIRECTORY FILE...: the project (editable) and these requirements, in DIRECTORY. Files
# of tools/releases hold constraints. It installs only when one of the files has changed. With
# project=no only the requirements are installed.
prepare_venv() {
    local venv=$1 python wanted file arguments=()
    shift
    python=$(find_python)
    wanted=$({ "$python" -VV; cat "$@" setup.cfg pyproject.toml; } | sha256sum)
    if [ "$(cat "$venv/installed" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    for file in "$@"; do
        case "$file" in
            tools/releases/*) arguments+=(-c "$file") ;;
            *) arguments+=(-r "$file") ;;
        esac
    done
    [ "${project:-yes}" = no ] || arguments+=(-e .)
    say "Installing into $venv (the first time this takes a minute or two)"
    # A set-up that was interrupted has no stamp, and starts afresh.
    if [ ! -e "$venv/installed" ] || [ "$("$venv/bin/python" -VV)" != "$("$python" -VV)" ]; then
        create_venv "$python" "$venv"
    fi
    rm -f "$venv/installed"
    # Without a git history, as in a tarball, pbr finds no version.
    git rev-parse --git-dir >/dev/null 2>&1 ||
        export PBR_VERSION=${PBR_VERSION:-$(sed -n 's/^version = //p' setup.cfg)}
    quietly "$venv/bin/python" -m pip install "${arguments[@]}" || die "pip failed"
    printf '%s\n' "$wanted" >"$venv/installed"
}

install_packages() {
    local policy=/usr/sbin/policy-rc.d made=no status=0
    # Debian starts a daemon when it is installed, unless policy-rc.d forbids it.
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        made=yes
    fi
    export DEBIAN_FRONTEND=noninteractive
    quietly apt-get update &&
        quietly apt-get install -y --no-install-recommends "$@" || status=$?
    if [ "$made" = yes ]; then rm -f "$policy"; fi
    return "$status"
}

# prepare_packages PROFILE: installs the packages that bindep.txt has for it and that are missing,
# where that is possible; else names them.
prepare_packages() {
    local name missing=()
    command -v dpkg-query >/dev/null || return 0
    for name in $(sed -n "s/ *\\[platform:dpkg $1\\]//p" bindep.txt); do
        dpkg-query -W -f '${Status}\n' "$name" 2>/dev/null | grep -q ' installed$' ||
            missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
        say "Installing packages: ${missing[*]}"
        install_packages "${missing[@]}" || die "apt-get failed"
    else
        say "Missing packages, what needs them is skipped: ${missing[*]}"
    fi
}
