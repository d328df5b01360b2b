"""The embedding beyond the behaviours of tests/seed."""
