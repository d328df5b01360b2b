"""As many viewers as the memory of one machine allows: `python -m bench.million`.

cli        options, progress, tables, exit status
scene      the parameters of a run; which viewer watches which operation
room       what memory, file descriptors and addresses allow
memory     how memory is used: servers, kernel, clients
site       the processes: Redis, replicas, publisher, swarms
phases     connect, hold, publish, kill, drain
pauses     how long event loops of the replicas were blocked
swarm      one process of viewers: an epoll loop over arrays
wheel      timers of viewers
comeback   when a viewer reconnects, by the rules of the clients
"""
