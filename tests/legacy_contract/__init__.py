"""The behaviours that the embedding is held to: 39, in seven groups, on real servers.

They were listed for an earlier manager of this name, whose tests had mocks only.
docs/legacy-contract.md says for each what Tidegate does, and where it does better on purpose.
"""
