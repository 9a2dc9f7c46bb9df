What an NS file puts into the array `opt` (TopDL: `opt:NAME`; TOML: `[environment]`) is in the environment of start commands.
