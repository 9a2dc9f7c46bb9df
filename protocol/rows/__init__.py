"""
The command table, by noun; L{hostline.protocol.commands} puts it together.
"""
