`experiments.exclusive`: where it is on, an exclusive node keeps all other experiments off its host; where it is off, which it is at first, a warning says that they may be there.
