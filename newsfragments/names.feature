With `experiments.dns` a host answers by DNS for `node.experiment.project`, to its nodes for their own project only.
