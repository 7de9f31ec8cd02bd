"""Checkpoints: runs, exports and bases; found, named, loaded and fingerprinted."""
