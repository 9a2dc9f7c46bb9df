Topologies may be written in a short form of TOML (format=toml), and attributes `hostline:...` of nodes and interfaces are checked when a topology is read.
