"""Bugs of an earlier gateway for the same job, one named test each, so that they stay its bugs.

The numbers are those of the study in which they were found.
"""
