"""What tasks wait for one another with, for every layer above `core`: asyncio and nothing else."""
