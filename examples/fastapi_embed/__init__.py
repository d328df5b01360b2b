"""An application of one's own, with the gateway inside."""
