"""
The thin clients: they import the standard library and L{hostline.protocol}, nothing else.
"""
