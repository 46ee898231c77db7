#!/usr/bin/env bash
# Has libFuzzer look for input that makes pointsman panic or answer wrongly:
# packets, netlink, control requests, configurations, rules, state files and
# tunnels. fuzz/src/lib.rs says what each target checks.
#
#   scripts/fuzz.sh [options] [TARGET...]
#
#   TARGET         only these targets; all unless given
#   --seconds N    how long each target runs (60)
#   --list         print the targets
#   --dry-run      say what would be run, and do nothing
#
# What is found is kept in fuzz/artifacts, and the script ends with exit code 1.
# Then
#
#   cargo run -p pointsman-fuzz --bin TARGET -- FILE
#
# runs the target on one such file, and mended ones belong into fuzz/corpus/TARGET,
# which the tests replay. New inputs of a run go into fuzz/target/corpus, which
# the next run begins with, too. It takes cargo-fuzz, which is installed, and a
# C++ compiler; no root and no nightly Rust, since without the address
# sanitizer: what is fuzzed has no unsafe code of its own.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

cd "$ROOT"
mapfile -t all < <(sed -n 's/^name = "\(.*\)"/\1/p' fuzz/Cargo.toml | grep -v -e pointsman)

seconds=60 targets=()
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) show_help && exit ;;
    --seconds) need_value "$@" && seconds=$2 && shift ;;
    --list) printf '%s\n' "${all[@]}" && exit ;;
    --dry-run) DRY_RUN=yes ;;
    *)
        printf '%s\n' "${all[@]}" | grep -qxF -e "$1" || usage_error "there is no target \"$1\"; --list names them"
        targets+=("$1")
        ;;
    esac
    shift
done
[[ $seconds =~ ^[1-9][0-9]{0,5}$ ]] || usage_error "--seconds takes a number from 1 to 999999"
[ ${#targets[@]} -gt 0 ] || targets=("${all[@]}")

has cargo || die "Rust is missing: install it from https://rustup.rs and run this again"
if ! cargo fuzz --version >/dev/null 2>&1; then
    run cargo install cargo-fuzz --locked
fi

# Many programs are linked, and none of them is to be fast to the last percent.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16

failed=()
for target in "${targets[@]}"; do
    found=fuzz/target/corpus/$target
    run mkdir -p "$found"
    run cargo fuzz run --sanitizer none "$target" "$found" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=4096 -print_final_stats=1 ||
        failed+=("$target")
done
if [ ${#failed[@]} -gt 0 ]; then
    say "fuzz: found something: ${failed[*]}; see fuzz/artifacts"
    exit 1
fi
say "fuzz: nothing found in ${#targets[@]} targets"
