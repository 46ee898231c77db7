#!/usr/bin/env bash
# Runs the director on real PCI drivers without hardware: boots a Debian kernel
# in QEMU (no KVM needed) and there binds emulated NICs with bind-nic.sh, runs
# the director on them and compares each frame that comes back.
#
#   scripts/vm-lab.sh [options]
#
#   --nic igb|e1000e|virtio-net|vmxnet3    only this one; may be repeated
#   --iommu intel|none    only with an IOMMU, or only without
#   --director FILE       the program; target/release/pointsman unless given
#   --keep                after the checks of the last NIC leave the machine and
#                         the director running, and take commands for it
#   --fetch               only get QEMU, a kernel and busybox
#   --dry-run             say what would be done, and do nothing
#
# What it needs is downloaded into target/vm-lab and not installed. Needs no
# root. Ends with "N passed, N failed, N skipped". See docs/vm-lab.md.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

CACHE=${POINTSMAN_VM_LAB:-$ROOT/target/vm-lab}
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
# In the order in which they are loaded: the way to the host's files.
BOOT_MODULES=(virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci
    9pnet 9pnet_virtio netfs fscache 9p overlay)
# QEMU has igb from here on.
QEMU_WANTED=8

# Ends with a reason that tests understand.
cannot() {
    say "skipped: vm-lab: $*"
    say "0 passed, 0 failed, 1 skipped"
    exit 0
}

main() {
    [ "$(uname -m)" = x86_64 ] || cannot "the emulated machine is an x86_64, this one is not"
    fetch
    [ "$only_fetch" = no ] || return 0
    [ "$DRY_RUN" = yes ] || make_initramfs
    run_lab
}

run_lab() {
    local python=/usr/bin/python3
    [ -x "$director" ] || [ "$DRY_RUN" = yes ] ||
        die "there is no $director; build it: cargo build --release"
    if [ "$DRY_RUN" = no ] && ! "$python" -c 'import scapy' 2>/dev/null; then
        cannot "$python has no scapy; scripts/setup.sh --tests installs it"
    fi
    local command=("$python" -B "$ROOT/scripts/vm-lab/lab.py" --root "$ROOT" --cache "$CACHE"
        --director "$director" "${lab_options[@]}")
    [ "$DRY_RUN" = no ] || { run "${command[@]}" && return; }
    exec "${command[@]}"
}

# ---- getting it -----------------------------------------------------------

# apt with lists and an archive of its own: nothing of this machine changes, no
# root is needed, and no other apt is waited for. What is installed counts as
# there, so that only what QEMU needs beside it is fetched.
apt() {
    local program=$1
    shift
    "$program" -qq -o Dir::Etc::sourcelist="$CACHE/apt/sources.list" \
        -o Dir::Etc::sourceparts="$CACHE/apt/none" -o Dir::Etc::preferencesparts="$CACHE/apt/none" \
        -o Dir::State::lists="$CACHE/apt/lists" -o Dir::Cache="$CACHE/apt" \
        -o Debug::NoLocking=1 -o DPkg::Lock::Timeout=300 -o APT::Sandbox::User= \
        -o APT::Install-Recommends=false -o Acquire::Languages=none -o Acquire::Retries=2 "$@"
}

fetch() {
    local list
    if [ -e "$CACHE/complete" ] && "$CACHE/qemu" --version >/dev/null 2>&1; then
        say "QEMU and kernel are in $CACHE"
        return
    fi
    if [ "$DRY_RUN" = yes ]; then
        say "would get QEMU, a Debian kernel and busybox into $CACHE"
        return
    fi
    has apt-get || cannot "this is no Debian: QEMU and a kernel come from its packages"
    say "QEMU, a kernel and busybox are fetched into $CACHE"
    rm -rf "$CACHE"
    mkdir -p "$CACHE"/apt/{none,lists/partial,archives/partial} "$CACHE"/{root,kernel}
    list=$(sources) || cannot "the package lists cannot be fetched"
    say "$list" >"$CACHE/apt/sources.list"
    apt apt-get update || cannot "the package lists cannot be fetched"
    fetch_kernel || cannot "Debian's kernel cannot be fetched"
    fetch_qemu || cannot "QEMU cannot be fetched"
    unpack
    rm -rf "$CACHE/apt"
    : >"$CACHE/complete"
}

# Where this machine gets Debian from, with the backports, which have a newer
# QEMU. A mirror without backports is no error.
sources() {
    local uri suite line
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)' \
        'Created-By: Packages' | awk '$1 == "Debian" && $4 == "main" { print $2, $3 }' | sort -u |
        while read -r uri suite; do
            line="deb [signed-by=$KEYRING] $uri"
            say "$line $suite main"
            if [[ $suite != *-* ]] && backports_exist "$uri" "$suite"; then
                say "$line $suite-backports main"
            fi
        done
}

backports_exist() {
    printf 'deb [signed-by=%s] %s %s-backports main\n' $KEYRING "$1" "$2" >"$CACHE/apt/sources.list"
    apt apt-get update -o APT::Update::Error-Mode=any >/dev/null 2>&1
}

# The newest kernel of the release itself, and a modprobe for it where this
# machine, perhaps a container, has none.
fetch_kernel() {
    local package
    package=$(apt apt-cache depends linux-image-amd64 |
        awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }')
    [ -n "$package" ] || return 1
    (cd "$CACHE/apt/archives" && apt apt-get download "$package" busybox-static) || return 1
    apt apt-get install --yes --download-only kmod
}

fetch_qemu() {
    local release
    release=$(sed -n 's/.* \([a-z]*-backports\) main$/\1/p' "$CACHE/apt/sources.list" | head -n 1)
    apt apt-get install --yes --download-only --reinstall ${release:+-t "$release"} qemu-system-x86
}

unpack() {
    local package to
    for package in "$CACHE"/apt/archives/*.deb; do
        case $package in
        */linux-image-*) to=$CACHE/kernel ;;
        *) to=$CACHE/root ;;
        esac
        dpkg-deb -x "$package" "$to"
    done
    ln -s "$(cd "$CACHE/kernel/boot" && echo vmlinuz-*)" "$CACHE/kernel/boot/vmlinuz"
    write_starter qemu usr/bin/qemu-system-x86_64 "$(firmware)"
    write_starter kmod bin/kmod ''
    "$CACHE/qemu" --version | head -n 1
    # kmod is what it is called as.
    ln -s kmod "$CACHE/depmod"
    "$CACHE/depmod" -b "$CACHE/kernel" "$(ls "$CACHE/kernel/lib/modules")"
    local major
    major=$("$CACHE/qemu" --version | sed -n 's/.*version \([0-9]*\)\..*/\1/p')
    [ "$major" -ge $QEMU_WANTED ] || warn "QEMU $major has no igb; $QEMU_WANTED or later has"
}

# Where QEMU finds its firmware: here, or where it is installed.
firmware() {
    local dir
    for dir in "$CACHE/root" ''; do
        printf -- '-L %q -L %q ' "$dir/usr/share/qemu" "$dir/usr/share/seabios"
    done
}

# A program with the libraries that came with it; or that of this machine,
# where the package is installed and so was not fetched.
write_starter() {
    local program=$CACHE/root/$2
    [ -e "$program" ] || program=/$2
    # The program that is written expands them.
    # shellcheck disable=SC2016
    printf '#!/bin/bash\nLD_LIBRARY_PATH=%q:%q exec -a "${0##*/}" %q %s"$@"\n' \
        "$CACHE/root/usr/lib/x86_64-linux-gnu" "$CACHE/root/lib/x86_64-linux-gnu" \
        "$program" "$3" >"$CACHE/$1"
    chmod +x "$CACHE/$1"
}

# busybox and the modules for 9p; the rest of the system is the host's.
make_initramfs() {
    local dir=$CACHE/initramfs name file
    rm -rf "$dir"
    mkdir -p "$dir"/{bin,modules,proc,sys,dev,host,rw,new}
    cp "$CACHE/root/bin/busybox" "$dir/bin/busybox"
    for name in "${BOOT_MODULES[@]}"; do
        file=$(find "$CACHE/kernel/lib/modules" -name "$name.ko" -o -name "$name.ko.xz" | head -n 1)
        # A kernel may have it built in.
        [ -n "$file" ] || continue
        cp "$file" "$dir/modules/"
        basename "$file" >>"$dir/modules/order"
    done
    install -m 755 "$ROOT/scripts/vm-lab/init.sh" "$dir/init"
    (cd "$dir" && find . | bin/busybox cpio -o -H newc 2>/dev/null) | gzip -1 >"$CACHE/initramfs.gz"
}

lab_options=() director=$ROOT/target/release/pointsman only_fetch=no
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) show_help && exit ;;
    --dry-run) DRY_RUN=yes ;;
    --keep) lab_options+=(--keep) ;;
    --fetch) only_fetch=yes ;;
    --director) need_value "$@" && director=$2 && shift ;;
    --nic)
        need_value "$@"
        [[ $2 =~ ^(igb|e1000e|virtio-net|vmxnet3)$ ]] ||
            usage_error "\"$2\" is no NIC of the lab; write igb, e1000e, virtio-net or vmxnet3"
        lab_options+=(--nic "$2") && shift
        ;;
    --iommu)
        need_value "$@"
        [[ $2 =~ ^(intel|none)$ ]] || usage_error "\"$2\" is no IOMMU of the lab; write intel or none"
        lab_options+=(--iommu "$2") && shift
        ;;
    *) usage_error "what is \"$1\"?" ;;
    esac
    shift
done
main
