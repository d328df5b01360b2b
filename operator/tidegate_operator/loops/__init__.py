"""What runs: one replica, a reconciler for each Gateway while it leads, and their status."""
