#!/usr/bin/env bash
# Shows, reserves and releases hugepages.
#
#   scripts/hugepages.sh [status]          what each NUMA node has
#   scripts/hugepages.sh set N [options]   reserve N pages
#   scripts/hugepages.sh undo              back to what was before the first "set"
#
#   --size 2M|1G    which pages; 2M unless given
#   --node K        on this NUMA node; else the kernel spreads them over all
#   --persistent    also at the next start of the machine
#   --dry-run       say what would be done, and do nothing
#
# DPDK keeps packet buffers in hugepages; those of the node that the NIC sits
# on are the fast ones. Pages of 1G can rarely be had once memory is in use:
# reserve them with the kernel parameters that "set --persistent" prints.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

LIST=hugepages.before

status() {
    local dir node size total free found=no
    printf '%-8s %-10s %8s %8s %10s\n' NODE SIZE TOTAL FREE "RESERVED"
    for dir in "$SYSFS"/devices/system/node/node[0-9]*/hugepages/hugepages-*kB; do
        [ -d "$dir" ] || continue
        found=yes
        node=${dir%/hugepages/*}
        show_line "${node##*/node}" "$dir"
    done
    if [ $found = no ]; then
        for dir in "$SYSFS"/kernel/mm/hugepages/hugepages-*kB; do
            [ -d "$dir" ] || die "this kernel has no hugepages (CONFIG_HUGETLBFS)"
            show_line - "$dir"
        done
    fi
    say
    if ! awk '$3 == "hugetlbfs" { print "mounted on " $2 " (" $4 ")"; n++ } END { exit !n }' \
        "$PROC/mounts"; then
        say "hugetlbfs is mounted nowhere"
    fi
    say "transparent hugepages: $(cat "$SYSFS/kernel/mm/transparent_hugepage/enabled" 2>/dev/null || echo none)"
}

show_line() {
    local kib=${2##*hugepages-}
    kib=${kib%kB}
    size=$((kib / 1024))M
    [ "$kib" -lt 1048576 ] || size=$((kib / 1048576))G
    total=$(cat "$2/nr_hugepages")
    free=$(cat "$2/free_hugepages")
    printf '%-8s %-10s %8s %8s %6s MiB\n' "$1" "$size" "$total" "$free" $((total * kib / 1024))
}

set_pages() {
    local count=$1 size=$2 node=$3 persistent=$4 kib file got
    [[ $count =~ ^[0-9]+$ ]] || usage_error "\"$count\" is no number of pages"
    case $size in
    2M) kib=2048 ;;
    1G) kib=1048576 ;;
    *) usage_error "\"$size\" is no page size; write 2M or 1G" ;;
    esac
    file=$SYSFS/kernel/mm/hugepages/hugepages-${kib}kB/nr_hugepages
    if [ -n "$node" ]; then
        [ -d "$SYSFS/devices/system/node/node$node" ] || die "there is no NUMA node $node here"
        file=$SYSFS/devices/system/node/node$node/hugepages/hugepages-${kib}kB/nr_hugepages
    fi
    [ -e "$file" ] || die "this machine has no pages of $size ($file is missing)"
    need_root "reserving hugepages"
    remember_setting $LIST "$file"
    write_as_root "$count" "$file"
    [ "$persistent" = no ] || persist "$count" "$size" "$node" "$file"
    [ "$DRY_RUN" = no ] || return 0
    got=$(cat "$file")
    if [ "$got" -lt "$count" ]; then
        # Memory in use but movable can be put together.
        [ ! -e "$PROC/sys/vm/compact_memory" ] || write_as_root 1 "$PROC/sys/vm/compact_memory"
        write_as_root "$count" "$file"
        got=$(cat "$file")
    fi
    [ "$got" -ge "$count" ] ||
        die "the kernel gave $got of $count pages of $size: memory is full or scattered;" \
            "ask for fewer, or reserve them at the start of the machine with --persistent"
    say "$got pages of $size are reserved"
}

persist() {
    local count=$1 size=$2 node=$3 file=$4
    if [ "$size" = 1G ]; then
        say "add to the kernel's command line: hugepagesz=1G hugepages=${node:+$node:}$count"
    fi
    if [ "$size" = 2M ] && [ -z "$node" ]; then
        printf '# Made by scripts/hugepages.sh\nvm.nr_hugepages = %s\n' "$count" |
            install_text "$ETC/sysctl.d/80-pointsman-hugepages.conf" 644
    else
        # One file per setting, so that nodes and sizes do not overwrite each other.
        printf '# Made by scripts/hugepages.sh\nw %s - - - - %s\n' "$file" "$count" |
            install_text "$ETC/tmpfiles.d/pointsman-hugepages-$size${node:+-node$node}.conf" 644
    fi
}

undo() {
    need_root "releasing hugepages"
    restore_settings $LIST
    local file
    for file in "$ETC"/sysctl.d/80-pointsman-hugepages.conf \
        "$ETC"/tmpfiles.d/pointsman-hugepages-*.conf; do
        remove_file "$file"
    done
}

command='' count='' size=2M node='' persistent=no
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) show_help && exit ;;
    --dry-run) DRY_RUN=yes ;;
    --persistent) persistent=yes ;;
    --size) need_value "$@" && size=$2 && shift ;;
    --node) need_value "$@" && node=$2 && shift ;;
    status | undo | set)
        [ -z "$command" ] || usage_error "one command at a time"
        command=$1
        ;;
    *)
        [[ $command == set && -z $count ]] || usage_error "what is \"$1\"?"
        count=$1
        ;;
    esac
    shift
done

case ${command:-status} in
status) status ;;
set) set_pages "${count:-none}" "$size" "$node" "$persistent" ;;
undo) undo ;;
esac
