"""The JSON Schema of the workflow document, for editors: `dagctl schema` prints it.

Made of the same models that read documents, so it cannot fall behind them. It knows shapes; what needs the whole
document (cycles, unknown names, Lua) only `document.read` knows.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import TypeAdapter

from dagengine.spec.duration import Duration, format_duration
from dagengine.spec.model import Document
from dagengine.spec.size import Size

__all__ = ["json_schema"]

_ID: Final = "urn:dagengine:schema:workflows/v1"
_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_VERSION: Final = (
    r"^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(-(0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*))*)?"
    r"(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$"
)
_INPUT: Final = {
    "$ref": _DRAFT,
    "type": "object",
    "description": "JSON Schema of the input. With a `default` the input may be left out.",
}
_OLDER: Final = {
    "type": "object",
    "description": "Older spelling of `timeout` and `retry`; write those instead.",
    "deprecated": True,
    "additionalProperties": False,
    "properties": {
        "timeout": {"$ref": "#/$defs/Duration"},
        "retries": {"type": "integer", "minimum": 0, "maximum": 999, "description": "Tries after the first one."},
    },
}


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a workflow document, older spellings included."""
    schema: dict[str, Any] = _readable(Document.model_json_schema(by_alias=True, mode="validation"))
    parts = schema["$defs"]
    parts["Duration"] = TypeAdapter(Duration).json_schema()
    parts["Size"] = TypeAdapter(Size).json_schema()
    for part in parts.values():
        if "const" in part.get("properties", {}).get("type", {}):
            part["required"] = ["type", *part.get("required", ())]
            del part["properties"]["type"]["default"]
    parts["ShellExecutor"]["oneOf"] = _one_of("command", "script")
    parts["WaitExecutor"]["oneOf"] = _one_of("duration", "until", "signal", "approval")
    parts["Signal"]["properties"]["payload"] = {**parts["Signal"]["properties"]["payload"], "$ref": _DRAFT}
    parts["Metadata"]["properties"]["version"]["pattern"] = _VERSION
    parts["Spec"]["properties"]["inputs"]["additionalProperties"] = _INPUT
    parts["Node"]["properties"]["metadata"] = _OLDER
    parts["Node"]["allOf"] = [_not_both("timeout", "timeout"), _not_both("retry", "retries")]
    return {"$schema": _DRAFT, "$id": _ID, "title": "Workflow", **schema}


def _one_of(*fields: str) -> list[dict[str, Any]]:
    return [{"required": [field]} for field in fields]


def _not_both(newer: str, older: str) -> dict[str, Any]:
    both = {"required": [newer, "metadata"], "properties": {"metadata": {"required": [older]}}}
    return {"not": both}


def _readable(value: Any) -> Any:
    """Without what pydantic adds for others: titles made of field names, discriminators, durations and sizes spelt out.

    A mapping whose names have a pattern has no others.
    """
    if isinstance(value, list):
        return [_readable(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("anyOf") == TypeAdapter(Duration).json_schema()["anyOf"]:
        default = {"default": format_duration(value["default"])} if "default" in value else {}
        return {"$ref": "#/$defs/Duration", "description": value["description"], **default}
    if value.get("anyOf") == TypeAdapter(Size).json_schema()["anyOf"]:
        return {"$ref": "#/$defs/Size"}
    closed = {"additionalProperties": False} if "patternProperties" in value else {}
    return closed | {
        key: _readable(item)
        for key, item in value.items()
        if key != "discriminator" and not (key == "title" and isinstance(item, str))
    }
