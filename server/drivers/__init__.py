"""
The drivers: each runs one kind of sliver.
"""
