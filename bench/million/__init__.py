"""As many viewers as one machine has memory for: `python -m bench.million`.

cli        options, progress, tables, exit status
scene      what is played; which viewer watches which operation
room       what memory, descriptors and addresses allow
memory     where the memory went: servers, kernel, clients
site       the processes: Redis, replicas, publisher, swarms
phases     connect, hold, publish, kill, drain
swarm      one process of viewers: an epoll loop over arrays
wheel      what is due at which moment
comeback   when a viewer comes back: the rules of the clients
"""
