`hostline topdl set FILE NODE.. NAME=VALUE..` sets attributes of nodes in a TopDL file and leaves the rest of it as it is.
