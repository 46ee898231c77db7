#!/usr/bin/env bash
# Real HTTP through the director, on one machine and without a NIC: a client,
# a router, the director and three real servers, each in a network namespace
# of its own.
#
#   scripts/demo.sh [options]
#
#   --keep        leave it running at the end, and say what to try
#   --stop        end what --keep left running
#   --no-setup    install and build nothing
#   --dry-run     say what would be done, and do nothing
#
#                    203.0.113.0/24        192.0.2.0/24
#   client .7 ------------- .1 router .254 ------------- .1 director
#                              .254 |                         | .1
#                                   +------ 10.0.0.0/24 ------+
#                                     |        |        |
#                                    .11      .12      .13
#                                  server1  server2  server3
#
# The client asks 198.51.100.10, the router sends that to the director, the
# director tunnels it to a real server, and the answer goes from there by the
# router straight to the client. It is shown who answers, what a tunnelled
# packet looks like, that servers come and go under load without a failed
# request, and that path MTU discovery works for an upload by a client whose
# packets have no room for the outer header.
#
# Ends with "demo: N requests, N ok, N failed".
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "$0")/lib/common.sh"

VIP=198.51.100.10
URL=http://$VIP
RUNS=/run/pointsman-demo
POINTSMAN=${POINTSMAN_BIN:-$ROOT/target/release/pointsman}
# Seconds of load at most, in which a server is added and another one drained.
LOAD_TIME_MAX=60
TOOLS=(curl ethtool ip nginx python3 tcpdump tshark wrk)
# Not every user's PATH has nginx and ip in it.
PATH=$PATH:/usr/sbin:/sbin

main() {
    # Namespaces, files and processes of runs that were killed.
    remove_dead_runs
    prepare_directory
    make_network
    start_servers
    start_director
    [ "$DRY_RUN" = no ] || plan_and_exit
    show_who_answers
    show_tunnel_packet
    change_servers_under_load
    upload_and_download
    show_director
    summarize
}

# --- names -------------------------------------------------------------------

# Every namespace of a run begins with its prefix, so that runs do not meet.
PREFIX=pmdemo$$
DIR=$RUNS/$$
ns() { printf '%s-%s' "$PREFIX" "$1"; }

# Does it, or says so.
act() {
    if [ "$DRY_RUN" = yes ]; then
        say "would run: $*"
    else
        "$@"
    fi
}

# in_ns NAME COMMAND...
in_ns() {
    local name=$1
    shift
    act ip netns exec "$(ns "$name")" "$@"
}

# Starts a process in a namespace that outlives this script: spawn NAME LOG COMMAND...
spawn() {
    local name=$1 log=$2
    shift 2
    if [ "$DRY_RUN" = yes ]; then
        say "would start in $(ns "$name"): $*"
    else
        setsid ip netns exec "$(ns "$name")" "$@" >"$DIR/$log" 2>&1 </dev/null &
        SPAWNED=$!
    fi
}

heading() { printf '\n== %s\n' "$*"; }

# --- network -----------------------------------------------------------------

prepare_directory() {
    [ "$DRY_RUN" = no ] || return 0
    [ ! -e "$DIR" ] || die "a run that --keep left has the number $$, too: end it by $0 --stop"
    mkdir -p "$DIR"
    chmod 700 "$DIR"
}

make_network() {
    heading "network namespaces $PREFIX-*"
    local name number
    for name in client router director server1 server2 server3; do
        act ip netns add "$(ns $name)"
        in_ns $name sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
        # Answers come from the VIP by another way than requests go to it.
        in_ns $name sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
        act ip -n "$(ns $name)" link set lo up
    done
    in_ns router sysctl -qw net.ipv4.ip_forward=1
    act ip -n "$(ns router)" link add servers type bridge forward_delay 0
    act ip -n "$(ns router)" link set servers up

    connect client eth0 router clients
    connect director wan router director
    connect director lan router lan
    attach lan
    for number in 1 2 3; do
        connect server$number eth0 router server$number
        attach server$number
    done

    address client eth0 203.0.113.7/24
    address router clients 203.0.113.1/24
    address router director 192.0.2.254/24
    address router servers 10.0.0.254/24
    act ip -n "$(ns client)" route add default via 203.0.113.1
    act ip -n "$(ns router)" route add $VIP/32 via 192.0.2.1
    for number in 1 2 3; do
        address server$number eth0 10.0.0.1$number/24
        act ip -n "$(ns server$number)" route add default via 10.0.0.254
    done
    # The kernel must not answer on the director's ports: no address, no ARP.
    for name in wan lan; do
        act ip -n "$(ns director)" link set $name arp off
    done
}

# connect NS INTERFACE NS INTERFACE: both ends up, with nothing left for
# hardware to finish, since packet sockets would see it unfinished.
connect() {
    act ip link add "$2" netns "$(ns "$1")" type veth peer name "$4" netns "$(ns "$3")"
    local name interface
    for name in "$1 $2" "$3 $4"; do
        interface=${name#* } name=${name% *}
        in_ns "$name" ethtool -K "$interface" tx off tso off gso off gro off | grep '^would' || true
        act ip -n "$(ns "$name")" link set "$interface" up
    done
}

attach() { act ip -n "$(ns router)" link set "$1" master servers; }

address() { act ip -n "$(ns "$1")" address add "$3" dev "$2"; }

# --- real servers ------------------------------------------------------------

start_servers() {
    heading "three real servers with nginx"
    local number
    for number in 1 2 3; do
        start_nginx "$number"
        start_real_server "$number"
    done
    [ "$DRY_RUN" = no ] || return 0
    for number in 1 2 3; do
        wait_for "server$number answers on $VIP" answers_locally "$number"
    done
}

start_nginx() {
    local dir=$DIR/server$1
    if [ "$DRY_RUN" = no ]; then
        mkdir -p "$dir/html" "$dir/html/upload" "$dir/body"
        echo "server$1" >"$dir/html/index.html"
        head -c 1000000 /dev/zero | tr '\0' "$1" >"$dir/html/large"
        nginx_configuration "$1" >"$dir/nginx.conf"
    fi
    spawn "server$1" "nginx$1.log" nginx -e "$dir/error.log" -p "$dir" -c "$dir/nginx.conf"
}

nginx_configuration() {
    cat <<CONF
daemon off;
user root;
worker_processes 1;
pid nginx.pid;
error_log error.log;
events { worker_connections 1024; }
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path body;
    fastcgi_temp_path body;
    uwsgi_temp_path body;
    scgi_temp_path body;
    server {
        listen 80 backlog=1024;
        root html;
        add_header X-Server server$1 always;
        location /upload/ {
            client_max_body_size 4m;
            dav_methods PUT;
        }
    }
}
CONF
}

# By the kernel where it can, else by our own program.
start_real_server() {
    if [ "$DRY_RUN" = no ] && has_ipip "server$1"; then
        in_ns "server$1" env POINTSMAN_STATE="$DIR/server$1" \
            "$ROOT/scripts/realserver.sh" --vip $VIP >"$DIR/realserver$1.log"
        return
    fi
    spawn "server$1" "realserver$1.log" \
        "$POINTSMAN" realserver --vip $VIP --local "10.0.0.1$1" --director 10.0.0.1/32
}

has_ipip() {
    { has modprobe && modprobe -q ipip 2>/dev/null; } || true
    ip netns exec "$(ns "$1")" test -e /proc/sys/net/ipv4/conf/tunl0
}

answers_locally() {
    [ "$(ip netns exec "$(ns "server$1")" curl -s --max-time 1 $URL/)" = "server$1" ]
}

# --- director ----------------------------------------------------------------

start_director() {
    heading "the director"
    local config=$DIR/director.toml
    if [ "$DRY_RUN" = no ]; then
        configuration 1 1 >"$config"
        cat "$config"
    fi
    spawn director director.log "$POINTSMAN" run --config "$config"
    [ "$DRY_RUN" = no ] || return 0
    DIRECTOR=$SPAWNED
    wait_for "the director answers" ask director
}

# configuration WEIGHT...: the real servers in order, each with its weight.
configuration() {
    local number=0 weight
    cat <<CONF
[director]
workers = [$(last_core)]
control_socket = "$DIR/control.sock"
state_file = "$DIR/state.json"

[director.ipvs]
# A client under load soon uses a source port again whose last connection still
# stands here in FIN_WAIT. Its SYN would go to the server of that connection,
# drained or not; with this one a server of weight 0 gets none of them.
expire_nodest_conn = true

[eal]
memory_mib = 256
file_prefix = "$PREFIX"

[[port]]
name = "wan"
device = "net_af_packet0,iface=wan"
addresses = ["192.0.2.1/24"]

[[port]]
name = "lan"
device = "net_af_packet1,iface=lan"
addresses = ["10.0.0.1/24"]

[[route]]
to = "default"
via = "192.0.2.254"

[[service]]
address = "$VIP:80"
protocol = "tcp"
scheduler = "rr"
CONF
    for weight in "$@"; do
        number=$((number + 1))
        printf '\n[[service.real_server]]\naddress = "10.0.0.1%s"\nweight = %s\n' $number "$weight"
    done
}

# The last core that this script may use; in a container that need not be one
# less than their number.
last_core() {
    awk '$1 == "Cpus_allowed_list:" { n = split($2, cores, /[,-]/); print cores[n] }' /proc/self/status
}

# Asks the running director: ask services
ask() { "$POINTSMAN" show "$@" --socket "$DIR/control.sock"; }

# A changed file, and SIGHUP: change_to WHAT WEIGHT...; returns when all workers
# go by it.
change_to() {
    local what=$1
    shift
    configuration "$@" >"$DIR/director.toml"
    # The process in the namespace, since "ip netns exec" became it.
    kill -HUP "$DIRECTOR"
    wait_for "$what" works_with "$@"
}

# Whether these are the weights of the real servers, and all workers know.
works_with() {
    local number=0 weight wanted=''
    for weight in "$@"; do
        number=$((number + 1))
        wanted+="10.0.0.1$number $weight"$'\n'
    done
    [ "$(servers | cut -d ' ' -f 1,2)" = "${wanted%$'\n'}" ] &&
        ask director --json | python3 -c '
import json, sys
director = json.load(sys.stdin)
sys.exit(director["workers_live"] != director["workers"])'
}

# Of each real server: RIP, weight, active connections, connections ever.
servers() {
    ask services --json | python3 -c '
import json, sys
for server in json.load(sys.stdin)[0]["servers"]:
    print(server["key"]["address"], server["options"]["weight"],
          server["active_connections"], server["statistics"]["connections"])' | sort
}

gets_connections() { servers | awk -v rip="$1" '$1 == rip && $4 > 0 { found = 1 } END { exit !found }'; }

is_drained() { servers | awk -v rip="$1" '$1 == rip && $3 == 0 { found = 1 } END { exit !found }'; }

# wait_for WHAT COMMAND...: up to half a minute, for machines that are busy.
wait_for() {
    local what=$1 end=$((SECONDS + 30))
    shift
    until "$@" >"$DIR/wait.log" 2>&1; do
        if [ $SECONDS -ge $end ]; then
            say "--- logs"
            tail -n 20 "$DIR"/*.log
            die "not within 30 s: $what"
        fi
        sleep 0.1
    done
    say "$(date +%T) $what"
}

# --- what is shown -----------------------------------------------------------

requests=0 ok=0

# Asks COUNT times and adds up who answered into "answers".
ask_vip() {
    local answer
    answers=''
    for _ in $(seq "$1"); do
        requests=$((requests + 1))
        answer=$(ip netns exec "$(ns client)" curl -sS --fail --max-time 5 $URL/ 2>&1) || answer="failed: $answer"
        case $answer in
        server[1-3]) ok=$((ok + 1)) ;;
        esac
        answers+=$answer$'\n'
    done
    printf '%s' "$answers" | sort | uniq -c
}

# Whether the last answers came from exactly these servers.
expect_answers_from() {
    local got
    got=$(printf '%s' "$answers" | sort -u | paste -sd' ' -)
    [ "$got" = "$*" ] || problem "answers came from $got, not from $*"
}

problems=0
problem() {
    problems=$((problems + 1))
    say "PROBLEM: $*"
}

show_who_answers() {
    heading "twelve requests to $URL/, two servers"
    # Without immediate mode the kernel keeps packets back for a second.
    spawn router tcpdump.log tcpdump -i lan --immediate-mode -U -Z root -c 500 \
        -w "$DIR/tunnel.pcap" 'ip proto 4'
    TCPDUMP=$SPAWNED
    wait_for "tcpdump listens where the director sends to the servers" grep -q listening "$DIR/tcpdump.log"
    ask_vip 12
    expect_answers_from server1 server2
}

show_tunnel_packet() {
    heading "a tunnelled packet"
    kill "$TCPDUMP" 2>/dev/null || true
    wait "$TCPDUMP" 2>/dev/null || true
    local checks=(-o ip.check_checksum:TRUE -o tcp.check_checksum:TRUE) packets complaints
    tshark -r "$DIR/tunnel.pcap" "${checks[@]}" -c 1 -O ip,tcp 2>/dev/null |
        grep -E '^(Frame|Internet|Transmission)|Total Length|Flags:|Time to Live|Protocol:|Checksum' |
        cut -c1-110 || problem "tshark decodes nothing"
    packets=$(tshark -r "$DIR/tunnel.pcap" 2>/dev/null | wc -l)
    complaints=$(tshark -r "$DIR/tunnel.pcap" "${checks[@]}" -Y \
        '_ws.malformed || ip.checksum.status == 0 || tcp.checksum.status == 0' 2>/dev/null | wc -l)
    say "tshark decodes $packets tunnelled packets and complains about $complaints"
    [ "$packets" -gt 0 ] || problem "no tunnelled packet was seen"
    [ "$complaints" -eq 0 ] || problem "tshark complains"
}

change_servers_under_load() {
    heading "load, a connection for each request; server3 joins, server1 is drained"
    load_script >"$DIR/load.lua"
    # In the background, to change things meanwhile.
    ip netns exec "$(ns client)" wrk -t 1 -c 16 -d ${LOAD_TIME_MAX}s --timeout 5s \
        -s "$DIR/load.lua" $URL/ >"$DIR/load.log" 2>&1 &
    local load=$!
    wait_for "load reaches server1" gets_connections 10.0.0.11
    change_to "server3 is added" 1 1 1
    wait_for "load reaches server3" gets_connections 10.0.0.13
    # A while with all three, and below without the first.
    sleep 2
    change_to "server1 has weight 0" 0 1 1
    wait_for "server1 is drained" is_drained 10.0.0.11
    sleep 2
    kill -INT $load 2>/dev/null || problem "the load was over before the servers had changed"
    wait $load || problem "wrk failed"
    grep -E '^load:|Latency|Requests/sec' "$DIR/load.log" || true
    local count good
    read -r count good < <(awk '$1 == "load:" && $2 == "total" { print $3, $4 }' "$DIR/load.log") || true
    if [ "${count:-0}" -eq 0 ]; then
        problem "no request was made: $(cat "$DIR/load.log")"
        return
    fi
    requests=$((requests + count))
    ok=$((ok + good))
    say "afterwards, twelve requests:"
    ask_vip 12
    expect_answers_from server2 server3
}

# Counts answers by server; errors of any kind are requests that failed.
load_script() {
    cat <<'LUA'
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init()
    counts = {}
    request_line = wrk.format("GET", "/", { ["Host"] = "demo", ["Connection"] = "close" })
end
function request() return request_line end
function response(status, headers, body)
    local name = status == 200 and string.match(body, "^server%d") or "other"
    counts[name] = (counts[name] or 0) + 1
end
function done(summary)
    local total, good = 0, 0
    for _, thread in ipairs(threads) do
        for name, count in pairs(thread:get("counts")) do
            print("load: " .. name .. " answered " .. count)
            total = total + count
            if name ~= "other" then good = good + count end
        end
    end
    local e = summary.errors
    local errors = e.connect + e.read + e.write + e.timeout
    print(string.format("load: connect errors %d, read %d, write %d, timeouts %d",
        e.connect, e.read, e.write, e.timeout))
    print(string.format("load: total %d %d", total + errors, good))
end
LUA
}

upload_and_download() {
    heading "1 MB up and down, client MTU $(ip netns exec "$(ns client)" cat /sys/class/net/eth0/mtu)"
    head -c 1000000 /dev/urandom >"$DIR/upload"
    local name=upload-$RANDOM server sum
    requests=$((requests + 2))
    server=$(ip netns exec "$(ns client)" curl -sS --max-time 20 -D - -o /dev/null \
        -T "$DIR/upload" $URL/upload/$name | tr -d '\r' | awk '$1 == "X-Server:" { print $2 }') || true
    sum=$(sha256sum <"$DIR/upload")
    if [ -n "$server" ] && [ "$(sha256sum <"$DIR/$server/html/upload/$name")" = "$sum" ]; then
        ok=$((ok + 1))
        say "$server has the upload, and it is the same"
    else
        problem "the upload did not arrive (server: ${server:-none})"
    fi
    # What the client has learnt from the director's ICMP.
    local route
    route=$(ip -n "$(ns client)" route get $VIP)
    if [[ $route =~ mtu\ ([0-9]+) ]]; then
        say "path MTU that the client has learnt: ${BASH_REMATCH[1]}"
    else
        problem "the client has learnt no path MTU: $route"
    fi
    if [ "$(ip netns exec "$(ns client)" curl -sS --max-time 20 $URL/large | wc -c)" = 1000000 ]; then
        ok=$((ok + 1))
        say "the download is complete"
    else
        problem "the download is not complete"
    fi
}

show_director() {
    local what
    for what in services counters workers; do
        heading "pointsman show $what"
        ask $what || problem "show $what failed"
    done
}

summarize() {
    if [ $keep = yes ]; then
        : >"$DIR/kept"
        heading "left running; try"
        cat <<TRY
ip netns exec $(ns client) curl $URL/
ip netns exec $(ns client) wrk -t 1 -c 16 -d 10s $URL/
ip netns exec $(ns router) tcpdump -ni lan proto 4
$POINTSMAN show services --socket $DIR/control.sock
$POINTSMAN show connections --socket $DIR/control.sock
editor $DIR/director.toml && kill -HUP $DIRECTOR
$0 --stop
TRY
    else
        heading "the end"
        stop_director
    fi
    say
    say "demo: $requests requests, $ok ok, $((requests - ok)) failed"
    [ "$requests" -eq "$ok" ] && [ $problems -eq 0 ]
}

stop_director() {
    kill -TERM "$DIRECTOR" 2>/dev/null || true
    local status=0
    wait "$DIRECTOR" || status=$?
    tail -n 15 "$DIR/director.log"
    [ $status -eq 0 ] || problem "the director ended with exit code $status"
}

plan_and_exit() {
    say "would then ask $URL/ by curl and wrk, decode packets by tshark, add and drain a server," \
        "upload 1 MB, and remove all of it"
    exit
}

# --- cleaning up -------------------------------------------------------------

# remove_run PID: its processes are those that live in its namespaces. A
# director that was killed leaves the directory of its EAL behind.
remove_run() {
    local name pids
    for name in $(ip netns list | awk -v prefix="pmdemo$1-" 'index($1, prefix) == 1 { print $1 }'); do
        pids=$(ip netns pids "$name" 2>/dev/null) || pids=''
        # shellcheck disable=SC2086
        [ -z "$pids" ] || kill -TERM $pids 2>/dev/null || true
    done
    for name in $(ip netns list | awk -v prefix="pmdemo$1-" 'index($1, prefix) == 1 { print $1 }'); do
        for _ in {1..30}; do
            pids=$(ip netns pids "$name" 2>/dev/null) || pids=''
            [ -n "$pids" ] || break
            sleep 0.1
        done
        # shellcheck disable=SC2086
        [ -z "$pids" ] || kill -KILL $pids 2>/dev/null || true
        ip netns delete "$name" || true
    done
    rm -rf "${RUNS:?}/$1" "/var/run/dpdk/pmdemo$1"
}

remove_dead_runs() {
    [ "$DRY_RUN" = no ] || return 0
    local dir pid
    for dir in "$RUNS"/*; do
        [ -d "$dir" ] || continue
        pid=${dir##*/}
        [ ! -e "$dir/kept" ] || continue
        # Numbers of processes come again, and ours may be that of a dead one.
        if [ "$pid" = $$ ] || ! grep -qsa demo.sh "/proc/$pid/cmdline"; then
            say "removing what the killed run $pid left behind"
            remove_run "$pid"
        fi
    done
}

stop_kept() {
    local dir found=no
    for dir in "$RUNS"/*; do
        [ -e "$dir/kept" ] || continue
        found=yes
        say "ending run ${dir##*/}"
        act remove_run "${dir##*/}"
    done
    [ $found = yes ] || say "nothing was left running"
}

clean_up() {
    local status=$?
    trap - EXIT INT TERM
    [ -e "$DIR/kept" ] || [ "$DRY_RUN" = yes ] || remove_run $$
    exit $status
}

# --- start -------------------------------------------------------------------

keep=no setup=yes stop=no arguments=("$@")
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) show_help && exit ;;
    --dry-run) DRY_RUN=yes ;;
    --keep) keep=yes ;;
    --stop) stop=yes ;;
    --no-setup) setup=no ;;
    *) usage_error "what is \"$1\"?" ;;
    esac
    shift
done

if [ $setup = yes ] && [ $stop = no ]; then
    # Software ports need no hugepages, and the machine stays as it is.
    options=(--tests --no-hugepages)
    [ "$DRY_RUN" = no ] || options+=(--dry-run)
    "$ROOT/scripts/setup.sh" "${options[@]}"
fi
if [ "$(id -u)" -ne 0 ] && [ "$DRY_RUN" = no ]; then
    has sudo || die "network namespaces take root: run this script as root"
    exec sudo -- "$0" --no-setup "${arguments[@]}"
fi
if [ $stop = yes ]; then
    remove_dead_runs
    stop_kept
    exit
fi
for tool in "${TOOLS[@]}"; do
    has "$tool" || [ "$DRY_RUN" = yes ] || die "$tool is missing: scripts/setup.sh --tests installs it"
done
[ -x "$POINTSMAN" ] || [ "$DRY_RUN" = yes ] || die "$POINTSMAN is missing: scripts/setup.sh builds it"
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
main
