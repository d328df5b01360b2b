"""Files of pages: what is served, and how. `shared` is what all pages have in common."""
