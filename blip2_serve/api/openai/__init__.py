"""OpenAI's protocol, mounted at /v1: translates requests to `Tasks`' verbs and their results to OpenAI's answers."""
