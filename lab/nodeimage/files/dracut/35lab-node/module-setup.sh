#!/bin/bash
# The lab node's part of the initramfs: a live root from an ISO or a URL, the
# place of the user's Ignition config, kernel arguments, and reporting a failure.
# Everything else is Ignition's own module.

check() {
	return 255
}

depends() {
	echo systemd systemd-initrd udev-rules ignition
}

installkernel() {
	hostonly='' instmods \
		virtio_pci virtio_mmio virtio_blk virtio_net virtio_scsi virtio_console virtio_rng \
		sr_mod cdrom sd_mod ata_piix ahci nvme usb-storage uas xhci_pci \
		bonding 8021q loop squashfs overlay isofs ext4 vfat nls_cp437 nls_ascii nls_iso8859-1 \
		qemu_fw_cfg efivarfs dm_mod autofs4 af_packet e1000 e1000e
}

install() {
	local unit

	inst_multiple bash cat cp mkdir mktemp ls sleep mount umount losetup ln rm mv chmod \
		grep sed modprobe ip basename systemctl journalctl dmesg sync sha256sum curl install \
		useradd usermod groupadd id partx lsblk blkid findmnt tail head tr
	# name lookup for curl and for users of the root
	inst_libdir_file 'libnss_files*' 'libnss_dns*'
	inst_simple "$moddir/nsswitch.conf" /etc/nsswitch.conf
	inst_simple /etc/ssl/certs/ca-certificates.crt

	# Links must have the same names before and after the root is switched.
	inst_rules 75-net-description.rules 80-net-setup-link.rules
	inst_simple /usr/lib/systemd/network/99-default.link
	inst_multiple "$systemdutildir/systemd-networkd" "$systemdutildir/systemd-networkd-wait-online" \
		"$systemdsystemunitdir/systemd-networkd.service" "$systemdsystemunitdir/systemd-networkd.socket" \
		"$systemdsystemunitdir/systemd-networkd-wait-online.service"
	inst_simple "$moddir/80-dhcp.network" /usr/lib/systemd/network/80-dhcp.network
	grep '^systemd-network:' "$dracutsysrootdir/etc/passwd" >> "$initdir/etc/passwd"
	grep -E '^(root|disk|cdrom|kvm|tty|tape|input|kmem|video|audio|render|sgx|lp|dialout|floppy|utmp):' \
		"$dracutsysrootdir/etc/group" >> "$initdir/etc/group"
	grep -q '^root:' "$initdir/etc/passwd" || grep '^root:' "$dracutsysrootdir/etc/passwd" >> "$initdir/etc/passwd"

	inst_simple /usr/lib/ignition/base.d/00-core.ign
	inst_script "$moddir/is-live-image" /usr/bin/is-live-image
	inst_script "$moddir/live-root" /usr/libexec/lab-node-live-root
	inst_script "$moddir/user-config" /usr/libexec/lab-node-user-config
	inst_script "$moddir/keyfile-network" /usr/libexec/lab-node-keyfile-network
	inst_script "$moddir/net-down" /usr/libexec/lab-node-net-down
	inst_script "$moddir/live-generator" "$systemdutildir/system-generators/lab-node-live-generator"
	for unit in lab-node-user-config lab-node-net lab-node-net-down lab-node-live-root lab-node-kargs-reboot; do
		inst_simple "$moddir/$unit.service" "$systemdsystemunitdir/$unit.service"
	done
	for unit in lab-node-user-config lab-node-net lab-node-net-down lab-node-kargs-reboot; do
		$SYSTEMCTL -q --root="$initdir" add-requires ignition-complete.target "$unit.service" || exit 1
	done
	inst_simple "$moddir/emergency.service" "$systemdsystemunitdir/emergency.service"
	inst_script "$moddir/report-failure" /usr/libexec/lab-node-report-failure
	for unit in fetch-offline fetch kargs disks mount files; do
		inst_simple "$moddir/console.conf" "$systemdsystemunitdir/ignition-$unit.service.d/10-console.conf"
	done

	mkdir -p "$initdir/etc/coreos"
	echo '{"live-initrd-network": true}' > "$initdir/etc/coreos/features.json"
	: > "$initdir/etc/coreos-live-initramfs"
	: > "$initdir/etc/initrd-release"
	cat "$dracutsysrootdir/usr/lib/os-release" > "$initdir/etc/initrd-release"
	ln -sfn initrd-release "$initdir/etc/os-release"
}
