"""Applications that use Tidegate; each runs with one command, and a test runs that command."""
