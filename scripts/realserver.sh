#!/usr/bin/env bash
# Makes this host a real server: it decapsulates what a director tunnels to it
# and answers from the virtual address, for which it answers no ARP request.
#
#   scripts/realserver.sh --vip A [--vip B ...]   set up; safe to repeat
#   scripts/realserver.sh --status                what is set
#   scripts/realserver.sh --undo                  back to what was before
#
#   --dry-run    say what would be done, and do nothing
#
# What is done: the module ipip is loaded and tunl0 brought up; each VIP
# becomes an address of tunl0 with /32; rp_filter is 0 on tunl0 and on "all"
# (the larger one counts), since answers leave by another interface; and
# arp_ignore is 1 and arp_announce 2 on "all", so that only the director
# answers for the VIP. The changes last until the machine restarts.
#
# A kernel without ipip: run "pointsman realserver" instead.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

LIST=realserver.before
ADDRESSES=$STATE/realserver.addresses
CONF=$PROC/sys/net/ipv4/conf

set_up() {
    need_root "setting up tunl0"
    if [ ! -e "$CONF/tunl0" ]; then
        if ! has modprobe || ! run_as_root modprobe ipip; then
            no_ipip
        fi
        [ -e "$CONF/tunl0" ] || [ "$DRY_RUN" = yes ] || no_ipip
    fi
    change all/arp_ignore 1
    change all/arp_announce 2
    change all/rp_filter 0
    change tunl0/rp_filter 0
    run_as_root ip link set tunl0 up
    local vip
    for vip in "$@"; do
        if [ "$DRY_RUN" = no ] && ip -4 -oneline address show dev tunl0 | grep -qF " $vip/32 "; then
            say "$vip is an address of tunl0 already"
            continue
        fi
        run_as_root ip -4 address add "$vip/32" dev tunl0
        [ "$DRY_RUN" = yes ] || echo "$vip" | "${SUDO[@]}" tee -a "$ADDRESSES" >/dev/null
    done
    [ "$DRY_RUN" = yes ] || say "real server for $*; undo with: $0 --undo"
}

no_ipip() {
    die "this kernel has no ipip (CONFIG_NET_IPIP)." \
        "Run \"pointsman realserver --vip A --local B\" instead, which decapsulates by itself"
}

change() {
    local file=$CONF/$1 old
    if [ "$DRY_RUN" = no ]; then
        old=$(cat "$file")
        [ "$old" != "$2" ] || return 0
        remember_setting $LIST "$file"
    fi
    write_as_root "$2" "$file"
}

undo() {
    need_root "undoing it"
    local vip
    if [ -e "$ADDRESSES" ]; then
        while read -r vip; do
            run_as_root ip -4 address delete "$vip/32" dev tunl0 ||
                warn "$vip was no address of tunl0 any more"
        done <"$ADDRESSES"
        run_as_root ip link set tunl0 down
        remove_file "$ADDRESSES"
    fi
    restore_settings $LIST
}

status() {
    local name
    for name in all/arp_ignore all/arp_announce all/rp_filter tunl0/rp_filter; do
        printf '%-20s %s\n' "$name" "$(cat "$CONF/$name" 2>/dev/null || echo 'not there')"
    done
    [ ! -e "$CONF/tunl0" ] || ip -4 -brief address show dev tunl0
}

vips=() command=up
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) show_help && exit ;;
    --dry-run) DRY_RUN=yes ;;
    --undo | --status) command=${1#--} ;;
    --vip)
        need_value "$@"
        vips+=("$2")
        shift
        [[ ${vips[-1]} =~ ^([0-9]{1,3}\.){3}[0-9]{1,3}$ ]] ||
            usage_error "\"${vips[-1]}\" is no IPv4 address"
        ;;
    *) usage_error "what is \"$1\"?" ;;
    esac
    shift
done

case $command in
up)
    [ ${#vips[@]} -gt 0 ] || usage_error "no --vip is given"
    set_up "${vips[@]}"
    ;;
undo) undo ;;
status) status ;;
esac
