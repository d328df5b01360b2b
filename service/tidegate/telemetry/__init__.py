"""What a replica tells about itself: logs and metrics."""
