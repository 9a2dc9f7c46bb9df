`snapshot_node` makes an image of a QEMU machine that runs, too: its file systems are put to rest for a moment, its disk is copied as it was then.
