"""The documentation as a site: MkDocs with what docs/ needs to be read there as on GitHub."""
