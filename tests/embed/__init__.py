"""The embedding beyond the behaviours of tests/legacy_contract."""
