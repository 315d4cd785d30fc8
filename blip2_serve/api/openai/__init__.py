"""OpenAI's protocol, mounted at /v1: translation in, the same verbs, translation out."""
