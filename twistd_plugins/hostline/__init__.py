"""
hostline: slivers, experiments and jobs on shared hosts, asked for by lines of text.
"""

__version__ = "0.1.0"
