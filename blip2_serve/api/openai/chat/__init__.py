"""POST /v1/chat/completions: messages about a picture, answered as OpenAI's chat models do."""
