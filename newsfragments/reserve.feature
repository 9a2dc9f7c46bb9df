When the disk of the state is full, what makes room (`destroy`, `stop`, `terminate`, ...) is still done: the daemon keeps 8 MiB back for it.
