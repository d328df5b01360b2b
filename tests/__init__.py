"""The tests mirror the source: tests/<layer>/test_<module>.py. Real servers come from tests/servers."""
