doctor says under `tickets` how many authorities are believed, or why no ticket can be taken.
