"""POST /v1/responses: OpenAI's newer protocol for conversations, with items in place of messages and typed events."""
