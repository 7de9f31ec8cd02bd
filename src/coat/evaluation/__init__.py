"""Answers, scores, intervals."""
