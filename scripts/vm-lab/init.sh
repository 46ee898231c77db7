#!/bin/busybox sh
# shellcheck shell=dash
# The first process of the emulated machine (scripts/vm-lab.sh). Its system is
# the host's tree, read-only, with what is written kept in memory; then it does
# what comes by the second serial line.
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do
    insmod "/modules/$module"
done </modules/order

value() { tr ' ' '\n' </proc/cmdline | sed -n "s|^$1=||p"; }
root=$(value lab_root) cache=$(value lab_cache)

share() { # TAG DIRECTORY OPTIONS
    mount -t 9p -o "trans=virtio,version=9p2000.L,msize=1048576$3" "$1" "$2"
}

share hostroot /host ,ro,cache=loose
mount -t tmpfs tmpfs /rw
mkdir /rw/upper /rw/work
mount -t overlay -o lowerdir=/host,upperdir=/rw/upper,workdir=/rw/work overlay /new

for dir in proc sys dev; do
    mount -o move "/$dir" "/new/$dir"
done
for dir in run tmp var/lib/pointsman; do
    mkdir -p "/new/$dir"
    mount -t tmpfs tmpfs "/new/$dir"
done
mkdir -p /new/run/lab /new/dev/hugepages /new/lib/modules
share hostout /new/run/lab ''
mount -t hugetlbfs hugetlbfs /new/dev/hugepages
mount -o bind "/new$cache/kernel/lib/modules" /new/lib/modules
# The host may have no modprobe: a container has no use for one.
if [ ! -e /new/sbin/modprobe ]; then
    cp "/new$cache/kmod" /new/sbin/modprobe
fi
ifconfig lo 127.0.0.1 up
exec chroot /new /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
    /bin/bash "$root/scripts/vm-lab/agent.sh"
