`tb-fix-node` (TopDL: `fixed`) places a node on the host that it names.
