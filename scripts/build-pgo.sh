#!/usr/bin/env bash
# Builds a pointsman that is optimised for what it does here: an instrumented
# director forwards what an instrumented pktgen sends it through shared memory,
# and what it spent its time on decides how the program is compiled.
#
#   scripts/build-pgo.sh [options]
#
#   --seconds N    how long each kind of traffic lasts (10)
#   --dry-run      say what would be run, and do nothing
#
# The result is target/pgo/release/pointsman. It takes root, two cores with
# nothing else to do, an llvm-profdata that reads the profiles of this rustc
# (rustup's component llvm-tools, or Debian's llvm-19, which is installed), and
# some minutes. No interface is made, and nothing is bound. docs/building.md
# tells what it brings.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

seconds=10
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) show_help && exit ;;
    --seconds) need_value "$@" && seconds=$2 && shift ;;
    --dry-run) DRY_RUN=yes ;;
    *) usage_error "what is \"$1\"?" ;;
    esac
    shift
done
[[ $seconds =~ ^[1-9][0-9]{0,3}$ ]] || usage_error "--seconds takes a number from 1 to 9999"

cd "$ROOT"
INSTRUMENTED=target/pgo-instrumented
PROGRAM=$INSTRUMENTED/release/pointsman
# Always the same place, or cargo would build everything anew.
DATA=$ROOT/target/pgo-data
director='' work=''

# Of rustup's component, or else the newest one that is installed.
find_profdata() {
    local found
    found=$(find "$(rustc --print sysroot)/lib/rustlib" -name llvm-profdata 2>/dev/null | head -n 1)
    [ -n "$found" ] || found=$(compgen -c llvm-profdata- | sort -t- -k3 -n | tail -n 1)
    printf '%s' "$found"
}

clean_up() {
    if [ -n "$director" ]; then
        kill -TERM "$director" 2>/dev/null || true
        wait "$director" 2>/dev/null || true
    fi
    [ -z "$work" ] || rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

start_director() {
    say "run: $PROGRAM run --config $work/director.toml"
    "$PROGRAM" run --config "$work/director.toml" 2>"$work/log" &
    director=$!
    for _ in $(seq 300); do
        ! grep -qs 'ready: ' "$work/log" || return 0
        kill -0 "$director" 2>/dev/null || break
        sleep 0.1
    done
    die "the director does not get ready: $(cat "$work/log")"
}

# The profile is written when it ends.
stop_director() {
    local status=0
    kill -TERM "$director" 2>/dev/null || true
    wait "$director" || status=$?
    director=''
    return $status
}

# traffic OPTIONS...: one kind of it through a director of its own.
traffic() {
    local tries_left status
    for tries_left in 4 3 2 1 0; do
        [ "$DRY_RUN" = yes ] || start_director
        # Always the same MAC addresses, which a director may have learnt. What
        # is lost while a core does something else is no error here; a packet
        # that is not as it should be is.
        run "$PROGRAM" pktgen --core 0 --file-prefix pointsman-pgo-pktgen \
            --port net_memif0,role=client,id=0,mac=02:00:00:00:00:01 \
            --port net_memif1,role=client,id=1,mac=02:00:00:00:00:02 \
            --service 198.51.100.10:80 --server 10.0.0.11-10.0.0.14 \
            --director 192.0.2.10 --local 192.0.2.1 \
            --duration "$seconds" --loss-max 100 "$@"
        [ "$DRY_RUN" = no ] || return 0
        status=0
        stop_director || status=$?
        [ $status -ne 0 ] || return 0
        # SIGSEGV: DPDK's net_memif does not always stand that its peer goes
        # away while it is polled.
        if [ $status -ne 139 ] || [ "$tries_left" -eq 0 ]; then break; fi
        say "the director was killed when pktgen ended, and with it its profile: once more"
    done
    die "the director ended with exit code $status: $(cat "$work/log")"
}

need_root "running a director"
[ ${#SUDO[@]} -eq 0 ] || die "run this as root: the director and the build share files"
profdata=$(find_profdata)
if [ -z "$profdata" ]; then
    run_as_root env DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes \
        -o DPkg::Lock::Timeout=300 install --no-install-recommends llvm-19
    profdata=$(find_profdata)
    [ -n "$profdata" ] || [ "$DRY_RUN" = yes ] || die "there is no llvm-profdata: rustup component add llvm-tools"
fi
work=$(mktemp -d)
say "== an instrumented program"
run rm -rf "$DATA"
run env RUSTFLAGS="-Cprofile-generate=$DATA/raw" \
    cargo build --release --locked --target-dir "$INSTRUMENTED"
say "== traffic"
sed "s|^control_socket = .*|control_socket = \"$work/control.sock\"|" \
    dpdk-config/memif.toml >"$work/director.toml"
[ "$DRY_RUN" = no ] || say "would run: $PROGRAM run --config $work/director.toml, for each:"
traffic --flows 1k
traffic --flows 100k --size 60:7,576:4,1400:1
traffic --tcp connections --flows 100k
traffic --flows 100k --rate 300k --new-flows 100k --syn-flood 300k
say "== the program"
run "${profdata:-llvm-profdata}" merge -o "$DATA/director.profdata" "$DATA/raw"
run env RUSTFLAGS="-Cprofile-use=$DATA/director.profdata" \
    cargo build --release --locked --target-dir target/pgo
[ "$DRY_RUN" = yes ] || say "built: $ROOT/target/pgo/release/pointsman"
