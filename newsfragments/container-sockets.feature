Containers make UNIX, IPv4, IPv6 and netlink sockets only (no vsock, which leads out of any network namespace), and at most 128 pseudo-terminals each.
