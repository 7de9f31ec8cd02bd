"""Cost of inference with a thinking block: time, memory and FLOPs."""
