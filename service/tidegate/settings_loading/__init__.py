"""Settings from outside into a model: what may be set, where a value came from, what is wrong.

The gateway and the operator load theirs by it. `fields` describes what may be set, `environment`
reads variables, `loading` merges, validates and words the problems. Files and flags are the
business of the command lines, which give them as `Given`.
"""
