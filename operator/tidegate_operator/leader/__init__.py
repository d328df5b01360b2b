"""Who acts: the election over a Lease, as a pure state machine and as the task that runs it."""
