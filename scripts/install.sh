#!/usr/bin/env bash
# Installs pointsman with what lets ipvsadm and keepalived drive it, or takes
# it away again. Safe to repeat.
#
#   scripts/install.sh [options]
#
#   --prefix DIR    where programs and libraries go; /usr/local unless given
#   --destdir DIR   put everything below this directory, for packages
#   --from DIR      where the built files are; target/release unless given
#   --no-tools      neither the ipvsadm wrapper nor the keepalived drop-in
#   --uninstall     take away what this script installed
#   --dry-run       say what would be done, and do nothing
#
#   PREFIX/bin/pointsman
#   PREFIX/lib/pointsman/libpointsman_ipvs.so        leads a tool to the director
#   PREFIX/lib/pointsman/libpointsman_ipvs_proc.so   shows it /proc/net/ip_vs*
#   PREFIX/sbin/ipvsadm                              ipvsadm with both
#   PREFIX/share/man/man1/pointsman*.1               manual pages
#   PREFIX/share/...                                 completions for bash, zsh and fish
#   /etc/systemd/system/pointsman.service            runs /etc/pointsman/director.toml
#   /etc/systemd/system/keepalived.service.d/pointsman.conf
#                                                    keepalived with the first
#
# Nothing is started, and no configuration is touched. Where no director runs,
# both tools go on to work on the kernel's IPVS.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

MARK="Installed by scripts/install.sh of pointsman, which removes it, too."
TOOL=/sbin/ipvsadm
LIBRARIES=(libpointsman_ipvs.so libpointsman_ipvs_proc.so)

prefix=/usr/local destdir=${DESTDIR:-} from=$ROOT/target/release tools=yes command=install
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) show_help && exit ;;
    --dry-run) DRY_RUN=yes ;;
    --no-tools) tools=no ;;
    --uninstall) command=uninstall ;;
    --prefix | --destdir | --from)
        need_value "$@"
        declare "${1#--}=$2"
        shift
        ;;
    *) usage_error "what is \"$1\"?" ;;
    esac
    shift
done
for directory in "$prefix" ${destdir:+"$destdir"}; do
    [[ $directory = /* ]] || usage_error "\"$directory\" does not begin with /"
    # They stand in a shell script and in unit files.
    [[ $directory != *[[:space:]\'\"\\%\$:]* ]] || usage_error "\"$directory\" has odd characters"
done

lib=$prefix/lib/pointsman
program=$prefix/bin/pointsman
wrapper=$prefix/sbin/ipvsadm
pages=$prefix/share/man/man1
declare -A completions=(
    [pointsman.bash]=$prefix/share/bash-completion/completions/pointsman
    [_pointsman]=$prefix/share/zsh/site-functions/_pointsman
    [pointsman.fish]=$prefix/share/fish/vendor_completions.d/pointsman.fish
)
unit=$ETC/systemd/system/pointsman.service
drop_in=$ETC/systemd/system/keepalived.service.d/pointsman.conf

install() {
    local file
    for file in pointsman "${LIBRARIES[@]}"; do
        [ -e "$from/$file" ] || die "$from/$file is missing: build it with cargo build --release --workspace"
    done
    [ "$tools" = no ] || check_foreign "$wrapper"
    check_foreign "$unit"
    check_foreign "$drop_in"
    need_root "installing"
    install_file "$from/pointsman" "$program" 755
    for file in "${LIBRARIES[@]}"; do
        install_file "$from/$file" "$lib/$file" 644
    done
    install_documents
    unit_text | install_text "$destdir$unit" 644
    if [ "$tools" = yes ]; then
        wrapper_text | install_text "$destdir$wrapper" 755
        drop_in_text | install_text "$destdir$drop_in" 644
    fi
    reload_systemd
    [ "$DRY_RUN" = yes ] || next_steps
}

uninstall() {
    local file
    need_root "removing"
    for file in "$wrapper" "$unit" "$drop_in"; do
        # What is not ours stays.
        if is_ours "$file"; then
            remove_file "$destdir$file"
        fi
    done
    for file in "$program" "${LIBRARIES[@]/#/$lib/}" "${completions[@]}"; do
        remove_file "$destdir$file"
    done
    for file in "$destdir$pages"/pointsman{,-*}.1; do
        remove_file "$file"
    done
    for file in "$lib" "${drop_in%/*}"; do
        [ ! -d "$destdir$file" ] || [ -n "$(ls -A "$destdir$file")" ] || run_as_root rmdir "$destdir$file"
    done
    reload_systemd
}

is_ours() { grep -qsF "$MARK" "$destdir$1"; }

# A file of this name that somebody else put there is not replaced.
check_foreign() {
    [ ! -e "$destdir$1" ] || is_ours "$1" || die "$destdir$1 exists and is not of this script; move it away, or use --prefix or --no-tools"
}

# install_file FROM TO MODE. By way of another name, since the old file may be
# in use.
install_file() {
    local to=$destdir$2
    run_as_root mkdir -p "$(dirname "$to")"
    run_as_root cp "$1" "$to.new"
    run_as_root chmod "$3" "$to.new"
    run_as_root mv "$to.new" "$to"
}

# Manual pages and completions, which the program writes itself.
install_documents() {
    local file
    if [ "$DRY_RUN" = yes ]; then
        say "would write manual pages to $destdir$pages, and completions to:" "${completions[@]/#/$destdir}"
        return
    fi
    documents=$(mktemp -d)
    trap 'rm -rf "$documents"' EXIT
    "$from/pointsman" generate man "$documents/man"
    "$from/pointsman" generate completions "$documents/completions"
    for file in "$documents"/man/*.1; do
        install_file "$file" "$pages/${file##*/}" 644
    done
    for file in "${!completions[@]}"; do
        install_file "$documents/completions/$file" "${completions[$file]}" 644
    done
}

reload_systemd() {
    # A package is installed later, by others.
    if [ -z "$destdir" ] && [ "$ETC" = /etc ] && [ -d /run/systemd/system ]; then
        run_as_root systemctl daemon-reload
    fi
}

wrapper_text() {
    cat <<END
#!/bin/bash
# $MARK
# ipvsadm, led to the director; without one, to the kernel.
LD_PRELOAD=$lib/libpointsman_ipvs.so:$lib/libpointsman_ipvs_proc.so\${LD_PRELOAD:+:\$LD_PRELOAD} \\
    exec -a ipvsadm $TOOL "\$@"
END
}

drop_in_text() {
    cat <<END
# $MARK
# keepalived, led to the director; without one, to the kernel. Programs that it
# starts inherit the library, which does nothing for them.
[Unit]
After=pointsman.service

[Service]
Environment=LD_PRELOAD=$lib/libpointsman_ipvs.so
END
}

unit_text() {
    printf '# %s\n#\n' "$MARK"
    sed "s|/usr/local/bin/pointsman|$program|" "$ROOT/dpdk-config/systemd/pointsman.service"
}

next_steps() {
    say
    say "installed below $destdir$prefix. Next:"
    say "  write /etc/pointsman/director.toml, and try it: $program check /etc/pointsman/director.toml"
    say "  systemctl enable --now pointsman"
    [ "$tools" = no ] || say "  systemctl try-restart keepalived   # from then on it drives the director"
    [ "$tools" = no ] || say "  hash -r; ipvsadm -Ln               # $wrapper, where it stands before $TOOL in PATH"
}

$command
