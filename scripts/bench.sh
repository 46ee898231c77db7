#!/usr/bin/env bash
# Measures: what a packet costs in one process, what two processes do over
# software ports, and what the parts cost by themselves.
#
#   scripts/bench.sh [options] [TEXT...]
#
#   TEXT            only cases whose name contains one of these
#   --quick         fewer cases, measured for a shorter time
#   --only TIER     path, throughput or parts; repeat for more
#   --runs N        measure so often, and print medians (5 for figures that
#                   are to be published; 1 unless given)
#   --json          print JSON lines, and what is going on to stderr
#   --cores A,B     cores of director and generator; the last two of this
#                   process unless given
#   --no-setup      install nothing
#   --dry-run       say what would be done, and do nothing
#
# The tiers:
#   path            in one process: the packet path of a worker over ports in
#                   memory (packet_path) and over DPDK's ring driver (net_ring)
#   throughput      "pointsman run" on one core, "pointsman pktgen" on another,
#                   memif between them; and dpdk-testpmd in place of the director
#   parts           connection table, schedulers, encapsulation, parsing
#
# It needs an idle machine, and ends with exit code 1 when the machine is not
# idle or was not, when counts do not match or when a bench failed. Hugepages
# are reserved where that is allowed, and given back at the end. How to read
# the figures: docs/performance.md.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

PAGES_FILE=$SYSFS/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
# Enough for ten million connections, and for a million.
PAGES_FULL=768
PAGES_QUICK=384
# Share of one core, in percent, that others may use.
OTHERS_MAX=6
# Seconds in which the machine is watched before.
WATCH_TIME=2
TIERS=(path throughput parts)

main() {
    prepare
    reserve_hugepages
    build
    check_idle
    local run
    for ((run = 1; run <= runs; run++)); do
        [ "$runs" -eq 1 ] || say "== run $run of $runs"
        measure
    done
    [ "$DRY_RUN" = no ] || exit 0
    summarize
    if [ ${#failures[@]} -gt 0 ]; then
        printf 'failed: %s\n' "${failures[@]}" >&2
        exit 1
    fi
}

prepare() {
    if [ $setup = yes ]; then
        local options=(--no-build --no-hugepages)
        [ "$DRY_RUN" = no ] || options+=(--dry-run)
        "$ROOT/scripts/setup.sh" "${options[@]}"
    fi
    has python3 || die "python3 is missing: scripts/setup.sh --tests installs it"
    has cargo || die "Rust is missing: install it from https://rustup.rs and run this again"
}

# Benches run without them, too, but measure something else then.
reserve_hugepages() {
    local before available wanted=$PAGES_FULL
    [ $quick = no ] || wanted=$PAGES_QUICK
    before=$(cat "$PAGES_FILE" 2>/dev/null) || before=0
    if [ "$before" -ge "$wanted" ]; then
        say "$before hugepages are reserved"
        return
    fi
    # No more than a quarter of what is free.
    available=$(awk '$1 == "MemAvailable:" { print int($2 / 2048 / 4) }' "$PROC/meminfo")
    if [ ! -w "$PAGES_FILE" ] || [ "$available" -lt "$wanted" ]; then
        warn "$wanted hugepages cannot be had: figures will be worse than with them"
        return
    fi
    if [ "$DRY_RUN" = yes ]; then
        say "would write: $wanted to $PAGES_FILE, and at the end $before again"
        return
    fi
    say "hugepages: $wanted, afterwards $before again"
    pages_before=$before
    echo "$wanted" >"$PAGES_FILE" || warn "the kernel gave none"
}

build() {
    local bench options=()
    for bench in "${BENCHES[@]}"; do options+=(--bench "$bench"); done
    run cargo bench --locked --no-run "${options[@]}"
}

# Time that processors spent on something, in hundredths of a second: all in
# all, and then for each process.
busy_times() {
    awk '$1 == "cpu" { print 0, "all", $2 + $3 + $4 + $7 + $8 + $9 }' "$PROC/stat"
    # Processes may be gone by now, and names may have blanks.
    { cat "$PROC"/[0-9]*/stat 2>/dev/null || true; } | awk '{
        pid = $1; name = $0; rest = $0
        sub(/^[^(]*\(/, "", name); sub(/\)[^)]*$/, "", name); gsub(/ /, "_", name)
        sub(/^.*\) /, "", rest); split(rest, field, " ")
        print pid, name, field[12] + field[13]
    }'
}

# Says who uses the machine, and ends the script, if it is not idle.
check_idle() {
    if [ "$DRY_RUN" = yes ]; then
        say "would watch for $WATCH_TIME s whether the machine is idle"
        return
    fi
    local before after percent
    before=$(busy_times)
    sleep $WATCH_TIME
    after=$(busy_times)
    percent=$(differences "$before" "$after" | awk '$1 == 0 { print $3 }')
    say "others use ${percent:-0} % of a core; load average $(cut -d ' ' -f 1-3 "$PROC/loadavg" 2>/dev/null || echo unknown)"
    [ "${percent:-0}" -gt $OTHERS_MAX ] || return 0
    say "the busiest processes, in percent of a core:"
    differences "$before" "$after" | awk '$1 != 0 && $3 > 0 { print $3, $1, $2 }' | sort -rn |
        head -n 5 | awk '{ printf "  %3d %% process %s (%s)\n", $1, $2, $3 }'
    die "the machine is not idle: end what uses it, or wait, and run this again"
}

# Percent of a core between two of busy_times.
differences() {
    printf '%s\n\n%s\n' "$1" "$2" | awk -v seconds=$WATCH_TIME '
        NF == 0 { second = 1; next }
        !second { before[$1] = $3; next }
        $1 in before { print $1, $2, int(($3 - before[$1]) / seconds) }'
}

# bench NAME ARGUMENT...: one of the benches, its JSON lines going to the file
# of lines.
bench() {
    local name=$1
    shift
    if [ "$DRY_RUN" = yes ]; then
        say "would run: cargo bench --locked --bench $name -- $*"
        return
    fi
    say "== $name"
    # Of JSON lines, the cases show how far it is.
    cargo bench --quiet --locked --bench "$name" -- "$@" | tee "$DIR/out" |
        sed 's/^{.*"case":"\([^"]*\)".*/  \1/' >&2 || failures+=("$name")
    grep -a '^{' "$DIR/out" >>"$DIR/lines" || true
}

# criterion NAME: one of the benches of parts.
criterion() {
    local options=() filter
    [ $quick = no ] || options+=(--quick)
    # It takes one regular expression.
    filter=$(printf '%s|' "${texts[@]}")
    [ -z "${filter%|}" ] || options+=("${filter%|}")
    CRITERION_HOME=$DIR/criterion bench "$1" "${options[@]}"
    [ "$DRY_RUN" = no ] || return 0
    python3 "$ROOT/scripts/lib/bench-summary.py" --criterion "$1" "$DIR/criterion" >>"$DIR/lines"
    rm -rf "$DIR/criterion"
}

measure() {
    local options=(--json)
    [ $quick = no ] || options+=(--quick)
    # How fast the time stamp counter runs, which turns times into cycles.
    bench net_ring --json --machine
    if wants path; then
        bench packet_path "${options[@]}" "${texts[@]}"
        bench net_ring "${options[@]}" "${texts[@]}"
    fi
    if wants throughput; then
        [ -z "$cores" ] || options+=(--cores "$cores")
        bench throughput "${options[@]}" "${texts[@]}"
    fi
    if wants parts; then
        criterion connection_table
        criterion parts
    fi
}

wants() {
    local tier
    [ ${#only[@]} -gt 0 ] || return 0
    for tier in "${only[@]}"; do
        [ "$tier" != "$1" ] || return 0
    done
    return 1
}

summarize() {
    local options=()
    [ $json = no ] || options=(--json)
    python3 "$ROOT/scripts/lib/bench-summary.py" "${options[@]}" "$DIR/lines" >&3
}

clean_up() {
    local status=$?
    trap - EXIT INT TERM
    [ -z "$pages_before" ] || echo "$pages_before" >"$PAGES_FILE" || true
    [ -z "$DIR" ] || rm -rf "$DIR"
    exit $status
}

quick=no json=no runs=1 setup=yes cores='' only=() texts=()
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) show_help && exit ;;
    --dry-run) DRY_RUN=yes ;;
    --quick) quick=yes ;;
    --json) json=yes ;;
    --no-setup) setup=no ;;
    --runs) need_value "$@" && runs=$2 && shift ;;
    --cores) need_value "$@" && cores=$2 && shift ;;
    --only) need_value "$@" && only+=("$2") && shift ;;
    -*) usage_error "what is \"$1\"?" ;;
    *) texts+=("$1") ;;
    esac
    shift
done
[[ $runs =~ ^[1-9][0-9]?$ ]] || usage_error "\"$runs\" is no number of runs; write 1 to 99"
[[ $cores =~ ^([0-9]+,[0-9]+)?$ ]] || usage_error "\"$cores\" are no two cores; write 3,2, say"
for tier in "${only[@]}"; do
    [[ " ${TIERS[*]} " == *" $tier "* ]] || usage_error "\"$tier\" is no tier; write one of ${TIERS[*]}"
done

cd "$ROOT"
# Figures go to 3; with --json all else goes to stderr.
exec 3>&1
[ $json = no ] || exec 1>&2
BENCHES=(net_ring)
! wants path || BENCHES+=(packet_path)
! wants throughput || BENCHES+=(throughput)
! wants parts || BENCHES+=(connection_table parts)
failures=() pages_before='' DIR=''
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
DIR=$(mktemp -d)
# Benches make their files here, so that none is left when one is killed.
export TMPDIR=$DIR CARGO_TERM_COLOR=never
: >"$DIR/lines"
main
