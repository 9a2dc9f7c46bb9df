Topologies may be written in NS, as Emulab's users do: a real Tcl reads them, in a process with limits (Debian: libtcl8.6); what it does not support is told of with its line (docs/topologies.md).
