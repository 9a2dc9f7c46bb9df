"""
Façades: the surfaces of other systems, over the same commands.
"""
