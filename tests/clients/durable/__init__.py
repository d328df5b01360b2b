"""Programs of Durable Streams, from npm, against a replica."""
