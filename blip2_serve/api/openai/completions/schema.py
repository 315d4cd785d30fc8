"""JSON Schema of a completion's body: all that `request` accepts."""

from blip2_serve.api.openai.completions.request import IGNORED, REFUSED, CompletionRequest
from blip2_serve.api.openai.schema import Schema, body_schema


def completions_schema() -> Schema:
    """Build the schema of the body."""
    return body_schema(CompletionRequest, REFUSED, IGNORED)
