"""What think states hold: linear probes, scores of expert heads, reconstructions."""
