"""What is done: a decision carried out, one fenced step after the other."""
