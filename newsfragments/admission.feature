The host promises no more `cpu_min` than it can keep: what does not fit is refused with `NO_ROOM` and what is left.
