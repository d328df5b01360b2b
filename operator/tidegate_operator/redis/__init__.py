"""The sweep's side of Redis: a connection to one primary at a time, the scripts, the sweep itself.

Each script that changes something looks again at its reason and may run twice, late, or beside that
of another operator, and does no harm: that is what stands in for fencing.
"""
