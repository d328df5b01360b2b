"""Brings topics and viewers together: who gets which frame, and when.

`hub` owns the operations watched here, `channel` the viewers of one of them, `fanout` the passes
over their sockets, `catchup` the way of one viewer from its cursor to the live frames. No Redis and
no web framework in here.
"""
