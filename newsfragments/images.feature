Images are built with debootstrap or from busybox, or imported from tars and OCI layouts that need not be trusted; each container's own files are held to disk_max by a file system of that size.
