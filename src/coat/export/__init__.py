"""A run as a plain checkpoint that others load, serve and share."""
