`wait_for` waits for any state of an experiment, for one of several (`active,failed`), and for its end (`terminated`); Emulab's `expwait` and `experiment.statewait` are told at once, too.
