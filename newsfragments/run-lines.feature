`run PROJ/EXP 'a | b'` takes a line for a shell.
