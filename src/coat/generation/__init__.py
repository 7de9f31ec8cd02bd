"""Answers: one prefill that holds the block, then plain greedy decoding."""

from coat.generation.embeddings import Embeddings
from coat.generation.many import Question, reply_to_many
from coat.generation.replies import Reply, generate, reply_to

__all__ = ["Embeddings", "Question", "Reply", "generate", "reply_to", "reply_to_many"]
