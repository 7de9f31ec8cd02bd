"""Whoever answers: a model here, vLLM, or an endpoint; all are asked the same."""
