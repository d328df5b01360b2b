"""The Kubernetes operator of Tidegate: observe, decide, act.

    cli > handlers > loops > observe | act | leader | simulate > kube | redis
        > decide | streams > model

What is decided is a pure function of what was observed (`decide`), so the simulator and the
property tests run the code that scales a cluster. The source folder must never get an `__init__.py`
of its own: a package named `operator` would shadow the standard library's.
"""
