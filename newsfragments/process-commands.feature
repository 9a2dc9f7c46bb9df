Commands and initscripts run in process slivers, their limits can be changed and read back from the kernel while they run, and they see their own control socket at `/run/hostline`.
