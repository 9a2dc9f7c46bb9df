"""
The network of slivers that have one of their own: a bridge, addresses, the way out, and what they may send.
"""
