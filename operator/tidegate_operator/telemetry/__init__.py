"""What the operator tells of itself: metrics, and the port of health."""
