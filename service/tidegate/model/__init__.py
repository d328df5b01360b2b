"""Records and rules without I/O: ids, entries, frames, close codes, errors, settings."""
