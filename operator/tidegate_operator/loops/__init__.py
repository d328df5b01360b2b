"""What runs: one replica, a keeper for each Gateway while it leads, and what it tells of them."""
