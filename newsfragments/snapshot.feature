snapshot_node PROJECT/EXPERIMENT NODE IMAGE makes an image of a container of an experiment, running or stopped, or of a QEMU machine that is stopped.
