"""Pure state machines: data in, effects out. No await, no clock, no logger, no Redis types."""
