"""What is to be done about a gateway: pure functions of what was observed. No I/O, no clock."""
