# Run by mmdebstrap over a tree that has all of its packages: turns it into an image, and writes that, with its kernel
# and initrd, as a tar archive to the file descriptor $NSPROV_IMAGE_FD. $1 is the tree. Runs in mmdebstrap's own
# namespaces, as root there, which need not be root outside; with bash, as a descriptor may have more than one digit.
set -eu
tree=$1
image=$tree.image
trap 'rm -rf "$image"' EXIT
mkdir "$image" "$image/out" "$image/root" "$image/root/dev" "$image/root/proc" "$image/root/sys"

# The image is a copy from before the compiler came: the tree itself is thrown away. Devices are not copied, which
# only real root could: the kernel makes its own.
find "$tree" -mindepth 1 -maxdepth 1 ! -name dev ! -name proc ! -name sys \
    -exec cp -a --one-file-system -t "$image/root" {} +
chroot "$tree" apt-get -qq install -y --no-install-recommends \
    gcc libc6-dev python3-dev pkgconf libsystemd-dev >&2
chroot "$tree" sh -c 'cd /opt/build/pystemd-* &&
    PYTHONPATH=/opt/build/setuptools CFLAGS=-O1 python3 setup.py -q build --build-lib /opt/nsprov/packages' >&2
chroot "$tree" python3 -m compileall -q -j 0 /opt/nsprov/packages >&2
rm -rf "$image/root/opt/nsprov/packages" "$image/root/opt/build"
cp -a "$tree/opt/nsprov/packages" "$image/root/opt/nsprov/packages"

cd "$image/root"
# What only installing needed.
rm -rf var/lib/apt/lists var/cache/apt var/log/* etc/resolv.conf usr/sbin/policy-rc.d
mv -f sbin/start-stop-daemon.REAL sbin/start-stop-daemon
# Every machine gets keys of its own when it starts.
rm -f etc/ssh/ssh_host_*
tr -d - </proc/sys/kernel/random/uuid >etc/machine-id
# There is no screen, nobody knows the password, and nothing may be fetched or tidied behind a test's back.
for unit in getty@tty1.service serial-getty@ttyS0.service apt-daily.timer apt-daily-upgrade.timer \
    dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer; do
    ln -sf /dev/null "etc/systemd/system/$unit"
done
mkdir -p etc/systemd/system/multi-user.target.wants
ln -sf ../vm-seed.service ../vm-network.service etc/systemd/system/multi-user.target.wants/

mv boot/vmlinuz-* "$image/out/vmlinuz"
mv boot/initrd.img-* "$image/out/initrd"
mke2fs -q -t ext4 -d . "$image/out/root.ext4" 3G
tar -cS -C "$image/out" vmlinuz initrd root.ext4 >&"$NSPROV_IMAGE_FD"
