"""POST /v1/completions: OpenAI's older protocol, a text to continue, here about a picture."""
