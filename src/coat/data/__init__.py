"""Manifests, datasets and batching."""
