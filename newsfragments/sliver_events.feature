Who watches a sliver hears `destroyed` when it is off the host, and of start commands that ended before it was seen to be up.
