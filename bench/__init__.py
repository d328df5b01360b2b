"""Measures a gateway replica from the outside, beside a naive one, in the same run.

Everything here treats the server under test as a black box: a process, its listening port and its
figures in /proc. So it measures any version, and the baseline by the same rule. It promises
ratios, not absolute figures: those belong to the machine, which is why every result names it.
"""
