# shellcheck shell=bash
# What the scripts share; sourced, never run.
#
# The variables named POINTSMAN_* exist so that tests can give the scripts a
# made-up machine.

# Read by the scripts that source this file.
# shellcheck disable=SC2034
{
    ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
    SYSFS=${POINTSMAN_SYSFS:-/sys}
    PROC=${POINTSMAN_PROC:-/proc}
    ETC=${POINTSMAN_ETC:-/etc}
    STATE=${POINTSMAN_STATE:-/var/lib/pointsman}
}
DRY_RUN=no
SUDO=()

say() { printf '%s\n' "$*"; }

warn() { printf 'warning: %s\n' "$*" >&2; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

usage_error() {
    printf 'error: %s\ntry %s --help\n' "$*" "$0" >&2
    exit 2
}

# Prints the comment at the top of the script that was called.
show_help() { awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"; }

# Complains when an option is the last argument: need_value "$@".
need_value() { [ $# -ge 2 ] || usage_error "$1 needs a value"; }

has() { command -v "$1" >/dev/null 2>&1; }

# Runs a command and says so; with --dry-run says so only.
run() {
    if [ "$DRY_RUN" = yes ]; then
        say "would run: $*"
    else
        say "run: $*"
        "$@"
    fi
}

# Lets run_as_root and write_as_root work, or says what is missing.
need_root() {
    if [ "$(id -u)" -eq 0 ] || [ "$DRY_RUN" = yes ] || [ -n "${POINTSMAN_SYSFS:-}" ]; then
        SUDO=()
    elif has sudo; then
        SUDO=(sudo)
    else
        die "$1 takes root, and there is no sudo here: run this script as root"
    fi
}

run_as_root() { run "${SUDO[@]}" "$@"; }

# write_as_root VALUE FILE: for files of /proc and /sys, which are there already.
write_as_root() {
    if [ "$DRY_RUN" = yes ]; then
        say "would write: $1 to $2"
        return
    fi
    say "write: $1 to $2"
    # The inner shell expands them.
    # shellcheck disable=SC2016
    "${SUDO[@]}" sh -c 'printf "%s\n" "$1" >"$2"' sh "$1" "$2"
}

# install_text FILE MODE <text: makes a whole file, and the directories it needs.
install_text() {
    if [ "$DRY_RUN" = yes ]; then
        say "would make: $1"
        cat >/dev/null
        return
    fi
    say "make: $1"
    "${SUDO[@]}" mkdir -p "$(dirname "$1")"
    "${SUDO[@]}" tee "$1" >/dev/null
    "${SUDO[@]}" chmod "$2" "$1"
}

remove_file() { [ ! -e "$1" ] || run_as_root rm -f "$1"; }

# Keeps the present content of a file of /proc or /sys for restore_settings,
# unless an earlier value is kept already: remember_setting LIST FILE.
remember_setting() {
    [ "$DRY_RUN" = no ] || return 0
    local list=$STATE/$1 file=$2
    if ! grep -qsF " $file" "$list"; then
        "${SUDO[@]}" mkdir -p "$STATE"
        printf '%s %s\n' "$(cat "$file")" "$file" | "${SUDO[@]}" tee -a "$list" >/dev/null
    fi
}

# Writes back what remember_setting kept, and forgets it.
restore_settings() {
    local list=$STATE/$1 value file
    if [ ! -e "$list" ]; then
        say "nothing to undo: $list does not exist"
        return 0
    fi
    while read -r value file; do
        if [ -e "$file" ]; then
            write_as_root "$value" "$file"
        else
            warn "$file is gone; it was $value"
        fi
    done <"$list"
    remove_file "$list"
}
