run PROJECT/EXPERIMENT COMMAND runs a command in all nodes of an experiment and folds equal answers; node_logs pages through what all of them wrote.
