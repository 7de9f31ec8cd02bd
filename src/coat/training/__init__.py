"""Stages, losses over whole effective batches, checkpoints."""
