#!/bin/busybox sh
# The init of the virtual machine that run starts: two nodes, one kernel device.
/bin/busybox --install -s /bin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev; mount -t tmpfs t /tmp; mount -t tmpfs t /run
ip link set lo up
for m in crc32c_generic crc16 libcrc32c mbcache jbd2 ext4 nbd; do [ ! -e /mod/$m.ko ] || insmod /mod/$m.ko; done

end() { echo "$*"; poweroff -f; }
must() { echo "+ $*"; "$@" || end "kernel device: failed: $*"; }
refused() { echo "+ $* (to be refused)"; if "$@"; then end "kernel device: not refused: $*"; fi; }
is() { [ "$(cat "$1")" = "$2" ] || end "kernel device: $1 is $(cat "$1"), want $2"; }

cat >/tmp/c.conf <<CONF
global { usage-count no; }
resource r0 {
	net { protocol C; cram-hmac-alg sha256; shared-secret "of the guest"; }
	on alice { device /dev/drbd0; disk /tmp/a.img; address 127.0.0.1:7801; meta-disk internal; }
	on bob { device /dev/drbd0; disk /tmp/b.img; address 127.0.0.1:7802; meta-disk internal; }
}
CONF
truncate -s 256M /tmp/a.img /tmp/b.img
alice="drship -c /tmp/c.conf --node alice --state-dir /tmp/as --run-dir /run/a"
bob="drship -c /tmp/c.conf --node bob --state-dir /tmp/bs --run-dir /run/b"
must $alice create-md r0
must $bob create-md r0
$alice daemon 2>/tmp/a.log &
$bob daemon 2>/tmp/b.log &
bobs=$!
until $alice role r0 >/dev/null 2>&1 && $bob role r0 >/dev/null 2>&1; do sleep 1; done
must $alice primary --force r0
must $alice wait-sync r0

must $alice device attach r0
is /sys/block/nbd0/size 524288
is /sys/block/nbd0/queue/write_cache "write back" # so that the kernel sends FLUSH: promise 3
is /sys/block/nbd0/queue/fua 1
must real-mke2fs -q -t ext4 /dev/nbd0
must mount -t ext4 /dev/nbd0 /mnt
must dd if=/dev/urandom of=/mnt/x bs=4k count=4000 conv=fsync
must cp /bin/drship /mnt/y
md5sum /mnt/x /mnt/y >/tmp/sums
must cp -r /mod /mnt/z
rm -r /mnt/z
must fstrim /mnt
refused $alice secondary r0
must umount /mnt
must $alice device detach r0
must $alice device attach r0 /dev/nbd3
must $alice device detach /dev/nbd3

must $alice secondary r0
must $bob primary r0
must $bob device attach r0
must real-e2fsck -fn /dev/nbd0
must mount -o ro -t ext4 /dev/nbd0 /mnt
must md5sum -c /tmp/sums
must umount /mnt
kill -9 $bobs
refused dd if=/dev/nbd0 of=/dev/null bs=4k skip=60000 count=1
end "kernel device: all as it should be"
