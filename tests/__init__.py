"""The tests mirror the source: tests/<layer>/test_<module>.py; real servers: tests/servers."""
