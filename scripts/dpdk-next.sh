#!/usr/bin/env bash
# Builds pointsman against another release of DPDK and tests it there: the core,
# the driver, the recorded cases, and that the benches run.
#
#   scripts/dpdk-next.sh [options]
#
#   --suite NAME    a Debian release whose libdpdk-dev to take; trixie, with
#                   DPDK 24.11, unless given
#   --mirror URL    where its packages are; as a rule where this machine has
#                   its own from
#   --installed     the DPDK that pkg-config finds on this machine, in
#                   PKG_CONFIG_PATH first, and no Debian release
#   --undo          remove what this script has made: target/dpdk-next
#   --dry-run       say what would be done, and do nothing
#
# A libdpdk of another Debian needs that release's C library, too. So a whole
# small Debian (1.6 GB) goes into a folder in target/dpdk-next, and this
# machine's Rust builds and tests in there, in a mount namespace that ends with
# it. That takes root, debootstrap and a mirror; it says "skipped" and ends well
# where one is missing. The folder is kept for the next time.
#
# Ends with "N passed, N failed, N skipped".
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

PACKAGES=build-essential,clang,dpdk,ethtool,iproute2,libclang-dev,libdpdk-dev,pkg-config
TESTS=(--lib --test dpdk --test oracle --test packet_path --test static_link
    --bench connection_table --bench packet_path)

suite=trixie mirror='' installed=no undo=no
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) show_help && exit ;;
    --suite) need_value "$@" && suite=$2 && shift ;;
    --mirror) need_value "$@" && mirror=$2 && shift ;;
    --installed) installed=yes ;;
    --undo) undo=yes ;;
    --dry-run) DRY_RUN=yes ;;
    *) usage_error "what is \"$1\"?" ;;
    esac
    shift
done

FOLDER=$ROOT/target/dpdk-next
DEBIAN=$FOLDER/$suite
CARGO_DIR=${CARGO_HOME:-$HOME/.cargo}
RUSTUP_DIR=${RUSTUP_HOME:-$HOME/.rustup}
LOG=$FOLDER/test.log

skip() {
    say "skipped: dpdk-next: $*"
    say "0 passed, 0 failed, 1 skipped"
    exit 0
}

# The first Debian mirror in this machine's sources.
find_mirror() {
    has apt-get || return 0
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        awk '/\/debian\/?$/ { print; exit }'
}

make_debian() {
    [ ! -e "$DEBIAN/.complete" ] || return 0
    has debootstrap || skip "debootstrap is missing: apt-get install debootstrap"
    [ -n "$mirror" ] || mirror=$(find_mirror)
    [ -n "$mirror" ] || skip "no Debian mirror is among this machine's package sources: give one with --mirror"
    say "a Debian $suite with its libdpdk-dev goes into $DEBIAN"
    [ "$DRY_RUN" = no ] || return 0
    rm -rf "$DEBIAN"
    mkdir -p "$DEBIAN"
    if ! debootstrap --variant=minbase --include="$PACKAGES" "$suite" "$DEBIAN" "$mirror" \
        >"$FOLDER/debootstrap.log" 2>&1; then
        tail -n 3 "$FOLDER/debootstrap.log"
        rm -rf "$DEBIAN"
        skip "debootstrap could not make a Debian $suite, see $FOLDER/debootstrap.log"
    fi
    : >"$DEBIAN/.complete"
}

# within COMMAND...: in the other Debian, or here.
within() {
    local variables=(CARGO_TARGET_DIR="$FOLDER/$name" CARGO_TERM_COLOR=never)
    if [ "$installed" = yes ]; then
        env "${variables[@]}" "$@"
        return
    fi
    variables+=(HOME=/root CARGO_HOME="$CARGO_DIR" RUSTUP_HOME="$RUSTUP_DIR"
        PATH="$CARGO_DIR/bin:/usr/sbin:/usr/bin:/sbin:/bin" CARGO_NET_OFFLINE=true)
    # The mounts go with the namespace. The inner shells expand their own.
    # shellcheck disable=SC2016
    unshare --mount --propagation private bash -euc '
        debian=$1 here=$2
        shift 2
        for directory in "$here" "$CARGO_DIR" "$RUSTUP_DIR"; do
            mkdir -p "$debian$directory"
            mount --bind "$directory" "$debian$directory"
        done
        for directory in proc sys dev; do
            mount --rbind "/$directory" "$debian/$directory"
        done
        exec chroot "$debian" env -i "$@"
    ' bash "$DEBIAN" "$ROOT" "${variables[@]}" \
        sh -c 'cd "$0" && exec "$@"' "$ROOT" "$@"
}

if [ $undo = yes ]; then
    # A mount in there that were not gone would be emptied, too.
    ! grep -qF " $FOLDER/" "$PROC/self/mounts" || die "something is mounted below $FOLDER"
    run rm -rf "$FOLDER"
    exit
fi

cd "$ROOT"
has cargo || skip "Rust is missing: install it from https://rustup.rs"
if [ $installed = yes ]; then
    name=installed
    pkg-config --exists libdpdk 2>/dev/null ||
        skip "pkg-config finds no libdpdk; PKG_CONFIG_PATH names the folder of its libdpdk.pc"
else
    name=$suite-target
    [ "$(id -u)" -eq 0 ] || skip "another Debian in a folder takes root"
    make_debian
fi
if [ "$DRY_RUN" = yes ]; then
    say "would run: cargo test --locked ${TESTS[*]}"
    exit
fi

mkdir -p "$FOLDER/$name"
# What the other Debian cannot fetch for itself.
[ $installed = yes ] || cargo fetch --locked --quiet
export CARGO_DIR RUSTUP_DIR
say "DPDK $(within pkg-config --modversion libdpdk), $(within rustc --version)," \
    "$(within ldd --version | head -n 1)"
status=0
within cargo test --locked --no-fail-fast "${TESTS[@]}" -- --show-output 2>&1 |
    tee "$LOG" || status=${PIPESTATUS[0]}

# libtest's sums and those of programs with a harness of their own; a libtest
# test that printed "skipped:" has passed as far as libtest knows.
read -r passed failed skipped < <(awk '
    /^test result: / { passed += $4; failed += $6; skipped += $8 }
    /^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { passed += $1; failed += $3 }
    /^skipped: oracle / { skipped++; next }
    /^skipped: / { skipped++; passed-- }
    END { print passed + 0, failed + 0, skipped + 0 }
' "$LOG")
# It did not build, or a bench failed, which says no sum.
[ "$status" -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
say
grep -a '^skipped: ' "$LOG" | sort -u || true
say "log: $LOG"
say "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
