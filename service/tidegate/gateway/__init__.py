"""Brings topics and viewers together: who gets which frame, and when.

`hub` knows which operations are followed here, `channel` owns the viewers and the timers of one of
them, `outbox` has what is still to be sent to those who are live, `fanout` gives out the turns in
which that is written, `catchup` brings one viewer from its cursor to the live frames. `node` is
what a replica and an embedded gateway share. What is below does not import what is above: a viewer
knows its owner by a port, an outbox and a channel are given callbacks.
"""
