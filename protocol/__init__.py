"""
The wire: lines, words, literals, commands and errors, without any I/O; standard library only.
"""
