"""The boards and the rules, and the proof that they show something on a running gateway."""
