#!/bin/bash
# usage: box.sh DIR
# Boots this machine's systemd in namespaces of its own, over a copy-on-write view of /: what the box
# writes is under DIR/up, which may hold files beforehand. The network is this machine's. The box ends
# with this process; the caller removes DIR and the control groups named box-PID.
set -euo pipefail
export dir=$1 name=box-$$

# The hierarchies that systemd and a memory limit need; the box sees its own part of each.
hierarchies=$(awk '$3 == "cgroup2" || ($3 == "cgroup" && $4 ~ /(^|,)(memory|name=systemd)(,|$)/) { print $2 "," $3 "," $4 }' /proc/self/mounts)
export hierarchies
for h in $hierarchies; do
	mkdir "${h%%,*}/$name"
	echo $$ >"${h%%,*}/$name/cgroup.procs"
done

boot() {
	mount --make-rprivate /
	mkdir -p "$dir/up"
	mount -t tmpfs tmpfs "$dir/.box"
	mkdir "$dir/.box/root"
	# The overlay's upper layer may not lie in an overlay: a copy on a tmpfs.
	cp -a "$dir/up" "$dir/.box/up"
	mkdir "$dir/.box/work"
	root=$dir/.box/root
	mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/.box/up,workdir=$dir/.box/work" "$root"
	mount -t proc proc "$root/proc"
	mount -t sysfs sysfs "$root/sys"
	for h in $hierarchies; do
		IFS=, read -r at type options <<<"$h"
		at=$root$at
		mountpoint -q "$root/sys/fs/cgroup" || [ "$at" = "$root/sys/fs/cgroup" ] || mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
		mkdir -p "$at"
		case $type,$options in
		cgroup2,*) mount -t cgroup2 cgroup2 "$at" ;;
		*name=systemd*) mount -t cgroup -o none,name=systemd cgroup "$at" ;;
		*) mount -t cgroup -o memory cgroup "$at" ;;
		esac
	done
	mount -t tmpfs -o mode=755 tmpfs "$root/dev"
	cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty "$root/dev"
	mkdir "$root/dev/pts" "$root/dev/shm"
	mount -t devpts devpts "$root/dev/pts"
	ln -s pts/ptmx "$root/dev/ptmx"
	mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
	mount -t tmpfs -o mode=755 tmpfs "$root/run"
	mkdir -p "$root/.old"
	cd "$root"
	pivot_root . .old
	umount -l /.old
	exec env -i container=box PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=basic.target
}
export -f boot
mkdir -p "$dir/.box"
exec unshare --mount --pid --fork --kill-child --ipc --uts --cgroup bash -euc boot
