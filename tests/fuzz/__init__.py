"""What reads bytes from outside, under a coverage-guided fuzzer (Atheris, libFuzzer).

`targets` says what must hold whatever the bytes are, and has a few seeds; `__main__` runs one
target for some seconds (`make fuzz`). The ordinary tests run every target over its seeds, so that a
target does not rot where Atheris is not installed. Hypothesis has its own tests of the same code.
"""
