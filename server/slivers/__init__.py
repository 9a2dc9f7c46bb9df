"""
Slivers: what should be, and the plan that leads from what is to it; decides, does no I/O.
"""
