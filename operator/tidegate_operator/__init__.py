"""The Kubernetes operator of Tidegate: observe, decide, act.

An empty package for now. It is installed beside `tidegate`, from a source folder that must never
get an `__init__.py` of its own: a package named `operator` would shadow the standard library's.
"""
