Images of QEMU machines are built (`image_build NAME kind=qemu base=debian|busybox`) or imported from qcow2 disks; guests without a disk start in a few tenths of a second, as clones of a template.
