"""
How fast hostline is, beside what stands next to it: run with C{python -m bench}.

Every figure is a ratio of two things measured side by side in one run: one short slice of each candidate per round,
all on one core, another core each round.
"""
