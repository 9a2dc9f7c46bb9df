Slivers have /home and /tmp of their own in a chroot as well, such as debootstrap makes, unless their mounts would be seen outside.
