"""Every parameter of the project: its name, its default in ``conf/base``, what it takes, and what it means."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader
from kedro.validation.type_extractor import TypeExtractor
from pydantic import TypeAdapter

_LONGEST = 90
_MISSING: Any = object()

MAPPING = "names and values"
"""What a parameter takes that holds others by names of their own."""


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    Parameters
    ----------
    name
        As on the command line; ``[]`` stands for each entry of a list, ``<name>`` for any name of a mapping.
    default
        Its value in ``conf/base``, or that of its model where ``conf/base`` does not name it; a JSON-like value.
    takes, meaning
        What it takes and what it says, for the reader.
    """

    name: str
    default: Any
    takes: str
    meaning: str


class Documented:
    """All parameters, by the name that nodes ask for them with.

    Parameters
    ----------
    models
        Types that check the parameters, by their names without ``params:``.
    values
        The parameters of ``conf/base``.
    """

    def __init__(self, models: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        self.blocks = {
            name: list(_walk(_schema(model), name, _look_up(values, name))) for name, model in sorted(models.items())
        }

    @classmethod
    def of_the_project(cls, root: Path) -> Documented:
        """Read the parameters of all pipelines."""
        from crack_pipeline.pipeline_registry import register_pipelines

        models = TypeExtractor(register_pipelines()).extract_types_from_pipelines()
        return cls(models, base_parameters(root))

    @property
    def names(self) -> set[str]:
        """Every name there is, those of blocks and of what holds them included."""
        leaves = {parameter.name for block in self.blocks.values() for parameter in block} | set(self.blocks)
        return {".".join(parts[:n]) for parts in (leaf.split(".") for leaf in leaves) for n in range(1, len(parts) + 1)}

    def tables(self, prefixes: list[str]) -> Iterator[str]:
        """Write the blocks whose names begin with one of some prefixes, each as a table that can be unfolded."""
        for prefix in prefixes:
            blocks = [name for name in self.blocks if name == prefix or name.startswith(f"{prefix}.")]
            if not blocks:
                raise ValueError(f"no parameter begins with {prefix}: there are {', '.join(self.blocks)}")
            for block in blocks:
                yield f'\n??? note "`{block}`"\n'
                yield "    | parameter | default | takes | meaning |\n    |---|---|---|---|"
                for found in self.blocks[block]:
                    short = found.name.removeprefix(f"{block}.")
                    yield f"    | `{short}` | {_shown(found.default)} | {_cell(found.takes)} | {_cell(found.meaning)} |"
                yield ""


def base_parameters(root: Path) -> dict[str, Any]:
    """Read the parameters of ``conf/base``."""
    loader = OmegaConfigLoader(
        str(root / "conf"),
        base_env="base",
        default_run_env="base",
        config_patterns={"parameters": ["parameters*", "parameters*/**", "**/parameters*"]},
    )
    found: dict[str, Any] = loader["parameters"]
    return found


def _schema(model: Any) -> dict[str, Any]:
    whole = TypeAdapter(model).json_schema()
    return _resolved(whole, whole.get("$defs", {}))


def _resolved(part: Any, definitions: Mapping[str, Any]) -> Any:
    """Put definitions in the place of references to them; what is said beside a reference stays."""
    if isinstance(part, list):
        return [_resolved(entry, definitions) for entry in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        named = definitions[part["$ref"].rpartition("/")[2]]
        part = {**named, **{name: value for name, value in part.items() if name != "$ref"}}
    return {name: _resolved(value, definitions) for name, value in part.items() if name != "$defs"}


def _look_up(values: Any, name: str) -> Any:
    for part in name.split("."):
        if not isinstance(values, Mapping) or part not in values:
            return _MISSING
        values = values[part]
    return values


def _walk(schema: dict[str, Any], name: str, value: Any) -> Iterator[Parameter]:
    if value is _MISSING:
        value = schema.get("default", _MISSING)
    alternatives = [part for part in (*schema.get("anyOf", ()), *schema.get("oneOf", ())) if part.get("type") != "null"]
    models = [part for part in alternatives if "properties" in part]
    if "properties" in schema:
        for field, part in schema["properties"].items():
            yield from _walk(part, f"{name}.{field}", _look_up(value, field))
    elif models:
        if not name.endswith("[]") and (len(models) < len(alternatives) or value in (None, _MISSING)):
            yield Parameter(name, value, _takes(schema), schema.get("description", ""))
        kind = next((field for field, part in models[0]["properties"].items() if "const" in part), None)
        if kind:
            kinds = ", ".join(f"`{model['properties'][kind]['const']}`" for model in models)
            yield Parameter(f"{name}.{kind}", _look_up(value, kind), kinds, "")
        for model in models:
            its_kind = model["properties"][kind]["const"] if kind else None
            mine = kind is None or _look_up(value, kind) == its_kind
            for found in _walk(model, name, value if mine else _MISSING):
                if found.name != f"{name}.{kind}":
                    of = f" ({kind}: {its_kind})" if kind else ""
                    yield Parameter(found.name, found.default, found.takes, f"{found.meaning}{of}".strip())
    else:
        yield Parameter(name, value, _takes(schema), schema.get("description", ""))
        inner = schema.get("items") or schema.get("additionalProperties")
        if isinstance(inner, dict) and ("properties" in inner or "oneOf" in inner):
            yield from _walk(inner, f"{name}[]" if "items" in schema else f"{name}.<name>", _MISSING)


def _takes(schema: dict[str, Any]) -> str:
    """Say what a value may be."""
    if "const" in schema:
        return f"`{json.dumps(schema['const']).strip(chr(34))}`"
    if "enum" in schema:
        return ", ".join(f"`{_plain(value)}`" for value in schema["enum"])
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(_takes(part) for part in schema[several]))
    kind = schema.get("type")
    if kind == "boolean":
        return "`true`, `false`"
    if kind in ("integer", "number"):
        return _range("whole number" if kind == "integer" else "number", schema)
    if kind == "array":
        inner = schema.get("items") or {}
        return f"list of {_takes(inner)}" if inner and "properties" not in inner and "oneOf" not in inner else "list"
    return {"null": "`null`", "string": "text", "object": MAPPING}.get(str(kind), "")


def _range(kind: str, schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    ends = [
        f"from {low:,}" if low is not None else f"above {above:,}" if above is not None else "",
        f"to {high:,}" if high is not None else f"below {below:,}" if below is not None else "",
    ]
    return " ".join([kind, *filter(None, ends)])


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _shown(value: Any) -> str:
    if value is _MISSING:
        return "must be given"
    text = _plain(value) or '""'
    return f"`{_cell(text)}`" if len(text) <= _LONGEST else "see `conf/base`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
