#!/usr/bin/env bash
# Runs every test: installs what they need, builds, and tests all targets with
# and without DPDK, the examples in the documentation, and the scripts.
#
#   scripts/test.sh [options]
#
#   --no-setup    install nothing
#   --dry-run     say what would be run, and do nothing
#
# Ends with "N passed, N failed, N skipped" and, before that, with what was
# skipped and why. A test that cannot run here prints "skipped: TEST: REASON".
# Tests that make network namespaces take root. The whole log is in
# target/test.log.
#
# It is plain "cargo test" everywhere, so that the numbers are the same on any
# machine, whether or not it has cargo-nextest.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

# Seconds for all of it, builds included.
TIME_MAX=1500
PAGES_FILE=$SYSFS/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
PAGES_WANTED=512

setup=yes
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) show_help && exit ;;
    --no-setup) setup=no ;;
    --dry-run) DRY_RUN=yes ;;
    *) usage_error "what is \"$1\"?" ;;
    esac
    shift
done

cd "$ROOT"
mkdir -p target
LOG=${POINTSMAN_TEST_LOG:-target/test.log}
passed=0 failed=0 skipped=0
failures=() skips=()
pages_before='' namespaces_before=''

# Runs one step under what is left of the time, and shows and logs its output.
logged() {
    local left=$((TIME_MAX - SECONDS)) status=0
    [ $left -gt 0 ] || left=1
    timeout --kill-after=20 "$left" "$@" 2>&1 | tee "$STEP_LOG" || status=${PIPESTATUS[0]}
    cat "$STEP_LOG" >>"$LOG"
    [ "$status" -ne 124 ] || say "error: the time is over: $TIME_MAX s for all tests"
    return "$status"
}

cargo_step() {
    local name=$1 status=0
    shift
    say "== $name: cargo $*"
    [ "$DRY_RUN" = no ] || return 0
    logged cargo "$@" || status=$?
    count "$name" "$status"
}

# Adds up what test programs say: libtest's lines, and those of programs with a
# harness of their own, which end with the same line as this script. A libtest
# test that printed "skipped:" has passed as far as libtest knows.
count() {
    local name=$1 status=$2 ok bad ignored own_ok own_skipped crashed line said=0
    read -r ok bad ignored own_ok own_skipped crashed < <(awk '
        /^test result: / {
            for (i = 1; i <= NF; i++) {
                if ($i == "passed;") ok += $(i - 1)
                if ($i == "failed;") bad += $(i - 1)
                if ($i == "ignored;") ignored += $(i - 1)
            }
            if (/FAILED/) unclean--
        }
        /^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ {
            own_ok += $1; bad += $3; own_skipped += $5
            if ($3) unclean--
        }
        # Of each program that failed; one that said no sum has crashed.
        /^error: (doc)?test failed, to rerun pass/ { unclean++ }
        END { print ok + 0, bad + 0, ignored + 0, own_ok + 0, own_skipped + 0, (unclean > 0 ? unclean : 0) }
    ' "$STEP_LOG")
    while IFS= read -r line; do
        skips+=("$name: ${line#skipped: }")
        said=$((said + 1))
    done < <(grep -a '^skipped: ' "$STEP_LOG" | sort -u)
    while IFS= read -r line; do
        skips+=("$name: $line")
    done < <(sed -n 's/^test \(.*\) \.\.\. ignored,\{0,1\} *\(.*\)/\1: ignored \2/p' "$STEP_LOG")
    while IFS= read -r line; do
        failures+=("$name: $line")
    done < <(sed -n -e 's/^test \(.*\) \.\.\. FAILED.*/\1/p' -e 's/^failed: //p' "$STEP_LOG" | sort -u)
    if [ "$crashed" -gt 0 ]; then
        bad=$((bad + crashed))
        failures+=("$name: test programs that ended without a result: $crashed")
    elif [ "$status" -ne 0 ] && { [ "$bad" -eq 0 ] || [ "$status" -eq 124 ]; }; then
        # It did not build, or the time was over.
        bad=$((bad + 1))
        failures+=("$name: ended with exit code $status")
    fi
    passed=$((passed + own_ok + ok - (said - own_skipped)))
    failed=$((failed + bad))
    skipped=$((skipped + ignored + said))
}

# One test of our own: check NAME COMMAND...
check() {
    local name=$1
    shift
    if logged "$@"; then
        say "test $name ... ok"
        passed=$((passed + 1))
    else
        say "test $name ... FAILED"
        failed=$((failed + 1))
        failures+=("$name")
    fi
}

script_step() {
    local script
    say "== scripts"
    [ "$DRY_RUN" = no ] || return 0
    for script in scripts/*.sh scripts/lib/*.sh scripts/vm-lab/*.sh .ci/run; do
        if has shellcheck; then
            check "shellcheck $script" shellcheck -x "$script"
        else
            skipped=$((skipped + 1))
            skips+=("shellcheck $script: shellcheck is missing; scripts/setup.sh --tests installs it")
        fi
    done
    for script in scripts/*.sh; do
        check "help of $script" grep -q "$script" <("$script" --help)
    done
}

# Tests over hugepages skip themselves when there are none.
reserve_hugepages() {
    [ -w "$PAGES_FILE" ] && [ "$DRY_RUN" = no ] || return 0
    local before
    before=$(cat "$PAGES_FILE")
    [ "$before" -lt $PAGES_WANTED ] || return 0
    pages_before=$before
    say "hugepages for the tests: $PAGES_WANTED, afterwards $before again"
    echo $PAGES_WANTED >"$PAGES_FILE" || warn "the kernel gave none"
}

namespaces() { ip netns list 2>/dev/null | awk '/^pm/ { print $1 }' | sort; }

# What a killed test left behind: namespaces that appeared meanwhile, and whose
# name has the number of a process that is gone. Those of other runs on this
# machine stay.
remove_namespaces() {
    local name pids
    for name in $(comm -13 <(printf '%s\n' "$namespaces_before") <(namespaces)); do
        if ! [[ $name =~ ([0-9]{2,}) ]] || [ -e "/proc/${BASH_REMATCH[1]}" ]; then
            continue
        fi
        say "left behind by a test: network namespace $name"
        pids=$(ip netns pids "$name" 2>/dev/null) || pids=''
        # shellcheck disable=SC2086
        [ -z "$pids" ] || kill -KILL $pids 2>/dev/null || true
        ip netns delete "$name" || true
    done
}

clean_up() {
    rm -f "$STEP_LOG"
    [ -z "$pages_before" ] || echo "$pages_before" >"$PAGES_FILE" || true
    [ "$DRY_RUN" = yes ] || remove_namespaces
}

STEP_LOG=$(mktemp)
trap clean_up EXIT
trap 'exit 130' INT TERM
namespaces_before=$(namespaces)
[ "$DRY_RUN" = yes ] || : >"$LOG"

if [ $setup = yes ]; then
    options=(--tests --no-build --no-hugepages)
    [ "$DRY_RUN" = no ] || options+=(--dry-run)
    scripts/setup.sh "${options[@]}" || warn "set-up failed: tests that miss something say so"
fi
reserve_hugepages

export CARGO_TERM_COLOR=never RUST_BACKTRACE=1
cargo_step tests test --workspace --all-features --all-targets --locked --no-fail-fast -- --show-output
cargo_step core test --no-default-features --locked --no-fail-fast --lib --bins --tests -- --show-output
cargo_step documentation test --workspace --all-features --doc --locked --no-fail-fast
script_step
[ "$DRY_RUN" = no ] || exit 0

say
if [ ${#skips[@]} -gt 0 ]; then
    say "skipped:"
    printf '  %s\n' "${skips[@]}"
fi
if [ ${#failures[@]} -gt 0 ]; then
    say "failed:"
    printf '  %s\n' "${failures[@]}"
fi
say "$((SECONDS / 60)) min $((SECONDS % 60)) s, log: $LOG"
say "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
