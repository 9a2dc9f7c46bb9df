snapshot_node PROJECT/EXPERIMENT NODE IMAGE makes an image of a container or QEMU machine of an experiment, running or stopped.
