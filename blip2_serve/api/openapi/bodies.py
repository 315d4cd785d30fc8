"""Request bodies in the three kinds that are read. BentoML describes the multipart form; the others follow from it.

A file is bytes in a multipart form and text elsewhere. A form has no null: it leaves the field out.
"""

from typing import Any

_MULTIPART = "multipart/form-data"
_PICTURE = {"type": "string", "description": "base64, a data: URI, or a URL where the server fetches such"}


def describe_bodies(spec: dict[str, Any]) -> dict[str, Any]:
    """Describe every body in all its kinds; changes `spec` in place."""
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
    return {
        _MULTIPART: {"schema": form, "encoding": _encoding(form)},
        "application/x-www-form-urlencoded": {"schema": _with_text_for_files(form), "encoding": _encoding(form)},
        "application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}},
    }


def _without_null(field: dict[str, Any]) -> dict[str, Any]:
    """Swagger's "Try it out" would fill in and send `default: null`."""
    return {key: value for key, value in field.items() if (key, value) != ("default", None)}


def _encoding(form: dict[str, Any]) -> dict[str, Any]:
    """Mark lists, but not those of files, as JSON; Swagger would send any other field marked so as a file."""
    fields = form["properties"].items()
    lists = [name for name, field in fields if field.get("type") == "array" and not _is_file(field["items"])]
    return {name: {"contentType": "application/json"} for name in lists}


def _with_text_for_files(schema: dict[str, Any]) -> dict[str, Any]:
    fields = {name: _as_text(_without_null(field)) for name, field in schema["properties"].items()}
    return {**schema, "properties": fields}


def _as_text(field: dict[str, Any]) -> dict[str, Any]:
    """Describe a file, or a list of files, as text."""
    if _is_file(field):
        said = f"{field['description']}; as {_PICTURE['description']}"
        return {"title": field["title"], "type": _PICTURE["type"], "description": said}
    if _is_file(field.get("items", {})):
        return {**field, "items": _PICTURE}
    return field


def _is_file(schema: dict[str, Any]) -> bool:
    """Recognise BentoML's own `type: file`, which JSON Schema does not have, and JSON Schema's format."""
    return schema.get("type") == "file" or schema.get("format") == "binary"
