`hostline picture PROJECT/EXPERIMENT OUT.svg` draws an experiment with its hosts, links and states, by graphviz.
