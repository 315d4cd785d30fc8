"""Describe request bodies in all media types, starting from BentoML's description of the multipart form.

A file is bytes in a multipart form and text elsewhere, or it is the body. A form has no null: a field is present or
absent.
"""

from typing import Any

_MULTIPART = "multipart/form-data"
_RAW = ("image/*", "application/octet-stream")
_RAW_BODY = {"type": "string", "format": "binary", "description": "img itself; the other fields in the query string"}
_PICTURE = {"type": "string", "description": "base64, a data: URI, or a URL where the server fetches such"}


def describe_bodies(spec: dict[str, Any]) -> dict[str, Any]:
    """Add the other media types to every multipart body. Changes `spec` in place and returns it."""
    for item in spec["paths"].values():
        content = item.get("post", {}).get("requestBody", {}).get("content", {})
        if _MULTIPART in content:
            item["post"]["requestBody"] = {"required": True, "content": _kinds(content[_MULTIPART]["schema"], spec)}
    return spec


def _kinds(form: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    name, schemas = form["title"], spec["components"]["schemas"]
    fields = {field: _without_null(schema) for field, schema in form["properties"].items()}
    form = {**form, "properties": fields}
    schemas[name] = _with_text_for_files(schemas[name])
    raw = {kind: {"schema": _RAW_BODY} for kind in _RAW} if "img" in fields else {}
    return {
        _MULTIPART: {"schema": form, "encoding": _encoding(form)},
        "application/x-www-form-urlencoded": {"schema": _with_text_for_files(form), "encoding": _encoding(form)},
        "application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}},
        **raw,
    }


def _without_null(field: dict[str, Any]) -> dict[str, Any]:
    """Drop `default: null`, which Swagger's "Try it out" would fill in and send."""
    return {key: value for key, value in field.items() if (key, value) != ("default", None)}


def _encoding(form: dict[str, Any]) -> dict[str, Any]:
    """Declare JSON only for lists, except lists of files: Swagger sends every field declared as JSON as a file."""
    fields = form["properties"].items()
    lists = [name for name, field in fields if field.get("type") == "array" and not _is_file(field["items"])]
    return {name: {"contentType": "application/json"} for name in lists}


def _with_text_for_files(schema: dict[str, Any]) -> dict[str, Any]:
    fields = {name: _as_text(_without_null(field)) for name, field in schema["properties"].items()}
    return {**schema, "properties": fields}


def _as_text(field: dict[str, Any]) -> dict[str, Any]:
    """Replace a file, or the files in a list, with text."""
    if _is_file(field):
        said = f"{field['description']}; as {_PICTURE['description']}"
        return {"title": field["title"], "type": _PICTURE["type"], "description": said}
    if _is_file(field.get("items", {})):
        return {**field, "items": _PICTURE}
    return field


def _is_file(schema: dict[str, Any]) -> bool:
    """Recognise `format: binary`, and BentoML's `type: file`, which is not JSON Schema."""
    return schema.get("type") == "file" or schema.get("format") == "binary"
