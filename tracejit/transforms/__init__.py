"""Passes: `Graph -> Graph`, one a file, and `fuse: Graph -> Plan`."""
