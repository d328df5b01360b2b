"""What can go wrong in a run, worded for the one who started it.

BenchError
    NotPossible     this machine or installation cannot run it; says what to do
    ProcessFailed   a process did not start, died or did not answer; carries the end of its log
"""


class BenchError(Exception):
    """Base: the message is complete and goes to the terminal as it is."""


class NotPossible(BenchError):
    """Something is missing, and the message says how to get it."""


class ProcessFailed(BenchError):
    """A process of the run failed."""

    def __init__(self, name: str, what: str, log_tail: str) -> None:
        self.name = name
        self.log_tail = log_tail
        super().__init__(f"{name} {what}" + (f"\n{log_tail}" if log_tail else ""))
