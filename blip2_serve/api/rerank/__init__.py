"""Cohere's and Jina's reranking protocol, at /v1/rerank and /v2/rerank: the most relevant documents first."""
