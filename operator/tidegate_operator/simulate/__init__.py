"""Load traces replayed through the decisions of the operator, on a small model of a cluster."""
