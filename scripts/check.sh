#!/usr/bin/env bash
# What a commit must pass besides the tests: formatting, lints, licences and
# sources of dependencies, documentation, the direction of module edges, and
# the scripts.
#
#   scripts/check.sh
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

if [ $# -gt 0 ]; then
    [[ $1 == -h || $1 == --help ]] || usage_error "what is \"$1\"?"
    show_help
    exit
fi
cd "$ROOT"

failed=()

step() {
    local name=$1
    shift
    say "== $name: $*"
    "$@" || failed+=("$name")
}

# Each part returns by itself: errexit does not hold within "||".
check_dependencies() {
    if ! cargo deny --version >/dev/null 2>&1; then
        say "cargo-deny is missing and gets installed: cargo install cargo-deny --locked"
        cargo install cargo-deny --locked || return
    fi
    cargo deny --all-features check bans licenses sources || return
    # The list of advisories is fetched, and a check must not depend on that.
    if timeout 20 git ls-remote --exit-code https://github.com/RustSec/advisory-db HEAD \
        >/dev/null 2>&1; then
        cargo deny --all-features check advisories
    else
        say "skipped: advisories: github.com cannot be reached"
    fi
}

check_scripts() {
    if ! has shellcheck; then
        warn "shellcheck is missing: scripts/setup.sh --tests installs it"
        return 1
    fi
    shellcheck -x scripts/*.sh scripts/lib/*.sh scripts/vm-lab/*.sh .ci/run
}

step format cargo fmt --all --check
step clippy cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
step clippy-core cargo clippy --all-targets --no-default-features --locked -- -D warnings
# Links to what only DPDK builds have break without it, so both are documented.
step doc-core env RUSTDOCFLAGS=-Dwarnings cargo doc --no-default-features --no-deps --locked
step doc env RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --all-features --no-deps --locked
step layering cargo test --no-default-features --locked --test layering
step dependencies check_dependencies
step scripts check_scripts

if [ ${#failed[@]} -gt 0 ]; then
    say "check: failed: ${failed[*]}"
    exit 1
fi
say "check: all good"
