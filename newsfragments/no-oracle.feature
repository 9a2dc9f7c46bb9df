What a caller may not see is answered like what does not exist in the time it takes, too: a stand-in is looked at in its place.
