"""Describe the paths beside the endpoints: probes, metrics, descriptions and the page."""

from typing import Any

from blip2_serve.api.openapi.responses import error_answer

TAG = "Infrastructure"


def _get(name: str, description: str, kind: str, **others: Any) -> dict[str, Any]:
    schema = {"type": "object"} if kind == "application/json" else {"type": "string"}
    answer = {"description": "The answer", "content": {kind: {"schema": schema}}}
    responses = {"200": answer, **others}
    return {"get": {"tags": [TAG], "description": description, "operationId": name, "responses": responses}}


def _probe(name: str, description: str) -> dict[str, Any]:
    return _get(name, description, "text/plain", **{"503": error_answer("The model's loop has stopped", 503)})


INFRASTRUCTURE = {
    "/livez": _probe("livez", "Whether the server lives; restart it where it does not."),
    "/readyz": _probe("readyz", "Whether requests are answered; true after the first answer of the model."),
    "/healthz": _probe("healthz", "The same as /livez."),
    "/metrics": _get("metrics", "Metrics in Prometheus's format.", "text/plain"),
    "/docs.json": _get("docs", "This document.", "application/json"),
    "/schema.json": _get("schema", "What BentoML's clients know of the endpoints.", "application/json"),
    "/": _get("page", "This document as a page on which to try it out.", "text/html"),
}
