Slivers of kind `container`: a root file system, users, processes, network and limits of their own, kept by conmon and runc or crun.
