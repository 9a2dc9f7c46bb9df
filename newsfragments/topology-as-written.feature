`topology PROJ/EXP` and Emulab's `experiment.nsfile` give NS and TOML back as they were written; `format=topdl` what that is in TopDL.
