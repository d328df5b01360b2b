"""Who may connect, how many, and for how long."""
