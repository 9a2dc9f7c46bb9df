"""
Experiments: topologies, addresses, placement and lifecycle; decides, does no I/O.
"""
