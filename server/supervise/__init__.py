"""
What keeps a workload alive, and its exit status safe, whatever happens to the daemon.
"""
