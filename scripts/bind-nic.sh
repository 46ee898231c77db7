#!/usr/bin/env bash
# Shows NICs and who drives them; hands one to DPDK and back to the kernel.
#
#   scripts/bind-nic.sh [status]              all NICs on PCI
#   scripts/bind-nic.sh bind ADDR [options]   take it from the kernel
#   scripts/bind-nic.sh restore ADDR          give it back
#
#   --driver vfio-pci|uio_pci_generic    who takes it; vfio-pci unless given
#   --no-iommu    let vfio-pci work without an IOMMU: the NIC can then write
#                 to any memory of this machine
#   --force       even if the NIC carries the default route
#   --dry-run     say what would be done, and do nothing
#
# ADDR is a PCI address, 0000:01:00.0 or 01:00.0. A NIC with a bifurcated
# driver (mlx5) needs no binding: DPDK uses it beside the kernel.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

PCI=$SYSFS/bus/pci
NO_IOMMU=$SYSFS/module/vfio/parameters/enable_unsafe_noiommu_mode

link_name() { [ ! -L "$1" ] || basename "$(readlink "$1")"; }

driver_of() { link_name "$PCI/devices/$1/driver"; }

group_of() { link_name "$PCI/devices/$1/iommu_group"; }

# The kernel's interfaces of a device; a virtio NIC has them one level deeper.
interfaces_of() {
    local dir
    for dir in "$PCI/devices/$1"/net/* "$PCI/devices/$1"/virtio*/net/*; do
        [ ! -e "$dir" ] || basename "$dir"
    done
}

name_of() {
    local name=''
    if [ "$SYSFS" = /sys ] && has lspci; then
        name=$(lspci -s "$1" 2>/dev/null | cut -d: -f3- | cut -c2-) || name=''
    fi
    local vendor device
    vendor=$(cat "$PCI/devices/$1/vendor") device=$(cat "$PCI/devices/$1/device")
    printf '%s' "${name:-${vendor#0x}:${device#0x}}"
}

is_nic() { [[ $(cat "$PCI/devices/$1/class") == 0x02* ]]; }

status() {
    local format='%-13s %-16s %-12s %5s %6s  %s\n' dir address found=no
    # shellcheck disable=SC2059
    printf "$format" PCI DRIVER INTERFACE NUMA IOMMU DEVICE
    for dir in "$PCI"/devices/*; do
        address=$(basename "$dir")
        if [ ! -e "$dir/class" ] || ! is_nic "$address"; then
            continue
        fi
        found=yes
        local driver interfaces group
        driver=$(driver_of "$address") group=$(group_of "$address")
        interfaces=$(interfaces_of "$address" | paste -sd, -)
        # shellcheck disable=SC2059
        printf "$format" "$address" "${driver:--}" "${interfaces:--}" \
            "$(cat "$dir/numa_node" 2>/dev/null || echo -)" "${group:--}" "$(name_of "$address")"
    done
    [ $found = yes ] || say "there is no NIC on PCI; software ports (veth, tap, memif) need no binding"
}

# The interfaces by which the IPv4 and IPv6 default routes go.
default_interfaces() {
    awk '$2 == "00000000" && $8 == "00000000" { print $1 }' "$PROC/net/route" 2>/dev/null || true
    awk '$1 == "00000000000000000000000000000000" && $2 == "00" && $10 != "lo" { print $10 }' \
        "$PROC/net/ipv6_route" 2>/dev/null || true
}

# An interface and everything on top of it: bonds, bridges, VLANs.
with_uppers() {
    say "$1"
    local upper
    for upper in "$SYSFS/class/net/$1"/upper_*; do
        [ ! -L "$upper" ] || with_uppers "${upper##*/upper_}"
    done
}

refuse_default_route() {
    local interface upper defaults
    defaults=$(default_interfaces)
    for interface in $(interfaces_of "$1"); do
        for upper in $(with_uppers "$interface"); do
            grep -qxF "$upper" <<<"$defaults" || continue
            [ "$force" = yes ] ||
                die "$1 ($interface) carries the default route by $upper: this machine would" \
                    "lose its network. Take another NIC, or add --force"
            warn "$1 ($interface) carries the default route by $upper"
        done
    done
}

# Members of the device's IOMMU group that keep vfio-pci from taking it: all
# must be free, or with a driver that lets vfio in.
blockers_of() {
    local group other driver
    group=$(group_of "$1")
    [ -n "$group" ] || return 0
    for other in "$SYSFS/kernel/iommu_groups/$group/devices"/*; do
        other=$(basename "$other")
        [ "$other" != "$1" ] || continue
        driver=$(driver_of "$other")
        case $driver in
        '' | vfio-pci | pci-stub | pcieport) ;;
        *) say "$other ($driver)" ;;
        esac
    done
}

# Unbinds and lets the kernel find a driver again, the one named if there is one.
probe() {
    local address=$1 driver=$2 old tries
    old=$(driver_of "$address")
    [ -z "$old" ] || write_as_root "$address" "$PCI/devices/$address/driver/unbind"
    # An empty line takes the override away.
    write_as_root "$driver" "$PCI/devices/$address/driver_override"
    write_as_root "$address" "$PCI/drivers_probe"
    [ "$DRY_RUN" = no ] || return 0
    # Writing succeeds even when the driver refuses: only the link tells.
    for tries in 1 2 3 4 5 6 7 8 9 10; do
        [ -z "$(driver_of "$address")" ] || break
        [ "$tries" -eq 10 ] || sleep 0.05
    done
}

bind_nic() {
    local address=$1 old got blockers
    old=$(driver_of "$address")
    if [ "$old" = "$driver" ]; then
        say "$address has $driver already"
        return
    fi
    refuse_default_route "$address"
    case $driver in
    vfio-pci)
        if [ "$no_iommu" = no ] && [ -z "$(group_of "$address")" ]; then
            die "$address is in no IOMMU group. Turn the IOMMU on (firmware: VT-d or AMD-Vi;" \
                "kernel: intel_iommu=on), or add --no-iommu, which lets the NIC write to any memory"
        fi
        blockers=$(blockers_of "$address" | paste -sd' ' -)
        [ -z "$blockers" ] ||
            die "IOMMU group $(group_of "$address") is shared with $blockers: vfio-pci takes" \
                "whole groups. Unbind those too, or put the NIC in another slot"
        ;;
    uio_pci_generic) warn "uio_pci_generic gives no protection by an IOMMU and needs INTx" ;;
    *) usage_error "\"$driver\" is no driver for DPDK; write vfio-pci or uio_pci_generic" ;;
    esac
    need_root "binding a NIC"
    if [ ! -d "$PCI/drivers/$driver" ]; then
        run_as_root modprobe "$driver" ||
            die "this kernel has no $driver; install the kernel's extra modules, or use a software port"
    fi
    if [ "$no_iommu" = yes ] && [ "$driver" = vfio-pci ]; then
        warn "without an IOMMU the NIC, and whoever controls it, can write to any memory"
        if [ "$DRY_RUN" = no ] && [ ! -e "$NO_IOMMU" ]; then
            die "this kernel's vfio cannot work without an IOMMU (CONFIG_VFIO_NOIOMMU)"
        fi
        write_as_root Y "$NO_IOMMU"
    fi
    if [ "$DRY_RUN" = no ]; then
        "${SUDO[@]}" mkdir -p "$STATE"
        echo "$old" | "${SUDO[@]}" tee "$STATE/nic-$address.driver" >/dev/null
    fi
    probe "$address" "$driver"
    [ "$DRY_RUN" = no ] || return 0
    got=$(driver_of "$address")
    [ "$got" = "$driver" ] ||
        die "$driver did not take $address (it has ${got:-no driver} now); the kernel's reason:" \
            "dmesg | tail. Give it back with: $0 restore $address"
    say "$address has $driver now; give it back with: $0 restore $address"
}

restore_nic() {
    local address=$1 old='' got
    need_root "restoring a NIC"
    [ ! -e "$STATE/nic-$address.driver" ] || old=$(cat "$STATE/nic-$address.driver")
    if [ -n "$old" ] && [ ! -d "$PCI/drivers/$old" ]; then
        run_as_root modprobe "$old" || warn "$old, which $address had before, cannot be loaded"
    fi
    probe "$address" ''
    [ "$DRY_RUN" = no ] || return 0
    got=$(driver_of "$address")
    if [ -n "$old" ] && [ "$got" != "$old" ]; then
        die "$address has ${got:-no driver} now, not $old as before: modprobe $old and try again"
    fi
    remove_file "$STATE/nic-$address.driver"
    say "$address has ${got:-no driver} now"
}

command='' address='' driver=vfio-pci no_iommu=no force=no
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) show_help && exit ;;
    --dry-run) DRY_RUN=yes ;;
    --no-iommu) no_iommu=yes ;;
    --force) force=yes ;;
    --driver) need_value "$@" && driver=$2 && shift ;;
    status | bind | restore)
        [ -z "$command" ] || usage_error "one command at a time"
        command=$1
        ;;
    *)
        [[ -z $address && ($command == bind || $command == restore) ]] ||
            usage_error "what is \"$1\"?"
        address=$1
        ;;
    esac
    shift
done

if [[ $command == bind || $command == restore ]]; then
    [ -n "$address" ] || usage_error "$command needs a PCI address"
    [[ $address == *:*:* ]] || address=0000:$address
    [ -e "$PCI/devices/$address" ] || die "there is no PCI device $address; see: $0 status"
    is_nic "$address" || die "$address is no NIC but a $(name_of "$address"); see: $0 status"
fi
case ${command:-status} in
status) status ;;
bind) bind_nic "$address" ;;
restore) restore_nic "$address" ;;
esac
