"""Features of frozen experts and embeddings of the frozen tower: computed once, kept in shards, read while training."""
