#!/usr/bin/env bash
# Prepares a Debian 12 that has Rust: installs what is missing, reserves
# hugepages if it may, and builds pointsman. Safe to repeat.
#
#   scripts/setup.sh [options]
#
#   --tests           also what the tests and the demonstration need
#   --no-build        do not build
#   --no-hugepages    leave the hugepages as they are
#   --undo            release the hugepages, and list the packages that this
#                     script installed; with --packages remove them, too
#   --dry-run         say what would be done, and do nothing
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

BUILD_PACKAGES=(build-essential clang dpdk dpdk-dev libclang-dev libdpdk-dev pkg-config)
TEST_PACKAGES=(curl dbus ethtool iproute2 ipvsadm keepalived lua5.4 man-db nginx-light procps prometheus
    python3-jsonschema python3-pip python3-scapy shellcheck systemd systemd-container tcpdump tshark wrk)
# Client library of TRex, which Debian has not; tests of its profiles load it.
TREX_CLIENT=lbr-trex-client==3.4.0
TREX_FOLDER=$STATE/trex-client
INSTALLED=$STATE/setup.packages
POLICY=/usr/sbin/policy-rc.d

# Pages of 2 MiB that the director is comfortable with, and the fewest that
# are worth reserving.
PAGES_WANTED=512
PAGES_MIN=256

main() {
    local packages=("${BUILD_PACKAGES[@]}")
    [ "$tests" = no ] || packages+=("${TEST_PACKAGES[@]}")
    install_packages "${packages[@]}"
    [ "$tests" = no ] || install_trex_client
    [ "$hugepages" = no ] || reserve_hugepages
    [ "$build" = no ] || build
}

is_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

install_packages() {
    has apt-get || die "this is no Debian. Install by other means: $*"
    local package missing=()
    for package in "$@"; do
        is_installed "$package" || missing+=("$package")
    done
    if [ ${#missing[@]} -eq 0 ]; then
        say "all packages are installed: $*"
        return
    fi
    need_root "installing ${missing[*]}"
    # A package list older than the mirror names files that are gone.
    if ! apt-get install --simulate --no-install-recommends "${missing[@]}" >/dev/null 2>&1; then
        apt update
    fi
    keep_services_down
    if ! apt install --no-install-recommends "${missing[@]}"; then
        apt update
        apt install --no-install-recommends "${missing[@]}"
    fi
    let_services_start
    for package in "${missing[@]}"; do
        [ "$package" != nginx-light ] || disable_nginx
    done
    if [ "$DRY_RUN" = no ]; then
        "${SUDO[@]}" mkdir -p "$STATE"
        printf '%s\n' "${missing[@]}" | "${SUDO[@]}" tee -a "$INSTALLED" >/dev/null
    fi
}

apt() {
    run_as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get --quiet --yes -o DPkg::Lock::Timeout=300 "$@"
}

# Debian starts a service when it is installed, and nginx would take port 80.
keep_services_down() {
    [ ! -e $POLICY ] || return 0
    policy_is_ours=yes
    printf '#!/bin/sh\nexit 101\n' | install_text $POLICY 755
}

let_services_start() {
    [ "$policy_is_ours" = yes ] || return 0
    policy_is_ours=no
    remove_file $POLICY
}

# The tests and the demonstration start an nginx of their own.
disable_nginx() {
    ! has systemctl || run_as_root systemctl disable nginx.service ||
        warn "nginx may start with the machine: systemctl disable nginx"
}

install_trex_client() {
    [ ! -d "$TREX_FOLDER/lbr_trex_client" ] || return 0
    run_as_root /usr/bin/python3 -m pip install --quiet --no-deps --target "$TREX_FOLDER" $TREX_CLIENT ||
        warn "no client library of TRex: tests of its profiles are skipped"
}

reserve_hugepages() {
    local file=$SYSFS/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages pages available
    if [ ! -e "$file" ]; then
        warn "this kernel has no hugepages of 2 MiB; the director runs without, slower"
        return
    fi
    if [ "$(cat "$file")" -ge $PAGES_MIN ]; then
        say "$(cat "$file") hugepages are reserved"
        return
    fi
    available=$(awk '$1 == "MemAvailable:" { print $2 }' "$PROC/meminfo")
    # No more than a quarter of what is free.
    pages=$((available / 2048 / 4))
    [ $pages -le $PAGES_WANTED ] || pages=$PAGES_WANTED
    if [ $pages -lt $PAGES_MIN ]; then
        warn "too little memory is free for hugepages; the director runs without, slower"
        return
    fi
    local options=()
    [ "$DRY_RUN" = no ] || options=(--dry-run)
    "$ROOT/scripts/hugepages.sh" set $pages "${options[@]}" ||
        warn "no hugepages; the director runs without, slower"
}

build() {
    has cargo || die "Rust is missing: install it from https://rustup.rs and run this again"
    cd "$ROOT"
    run cargo build --release --locked
    [ "$DRY_RUN" = yes ] || say "built: $ROOT/target/release/pointsman"
}

undo() {
    local options=()
    [ "$DRY_RUN" = no ] || options=(--dry-run)
    "$ROOT/scripts/hugepages.sh" undo "${options[@]}"
    [ ! -d "$TREX_FOLDER" ] || run_as_root rm -rf "$TREX_FOLDER"
    if [ ! -s "$INSTALLED" ]; then
        say "no packages were installed by this script"
        return
    fi
    local packages
    mapfile -t packages < <(sort -u "$INSTALLED")
    if [ "$remove_packages" = yes ]; then
        need_root "removing packages"
        apt remove "${packages[@]}"
        remove_file "$INSTALLED"
    else
        say "installed by this script, and left (remove with --undo --packages): ${packages[*]}"
    fi
}

tests=no build=yes hugepages=yes command=main remove_packages=no policy_is_ours=no
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) show_help && exit ;;
    --dry-run) DRY_RUN=yes ;;
    --tests) tests=yes ;;
    --no-build) build=no ;;
    --no-hugepages) hugepages=no ;;
    --undo) command=undo ;;
    --packages) remove_packages=yes ;;
    *) usage_error "what is \"$1\"?" ;;
    esac
    shift
done
trap let_services_start EXIT
$command
