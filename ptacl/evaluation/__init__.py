"""Embeddings and what they are worth: regression, retrieval, intervals, reference rows."""
