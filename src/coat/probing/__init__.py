"""Measure the information in think states: linear probes, scores of expert heads, reconstructions."""
