"""Who may watch: tokens to identities, origins, and operation sources."""
