"""What may be cleaned up, decided without I/O: the state of a stream, how long it is kept, what is
done to it, and what is done when Redis fills up.
"""
