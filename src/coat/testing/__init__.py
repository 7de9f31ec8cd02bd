"""For tests, ours and yours: tiny checkpoints of every family with random weights, and the conformance suite."""
