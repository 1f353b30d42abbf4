"""JSON and YAML files as data."""

from __future__ import annotations

import json
import reprlib
from pathlib import Path
from typing import Any

SUFFIXES = (".json", ".yaml", ".yml")


def read_structured(path: Path) -> Any:
    """What a JSON or a YAML file holds, by its suffix, one of :data:`SUFFIXES`.

    Raises ValueError, with the path, for text that is not UTF-8, is broken, or has a key twice; ImportError for a YAML
    file where PyYAML is not installed.
    """
    try:
        text = path.read_text("utf-8-sig")
        if path.suffix.lower() == ".json":
            return json.loads(text, object_pairs_hook=_object)
        return _read_yaml(text)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: bad JSON: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from error


def _object(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    # The readers of both formats would silently keep the last of two equal keys.
    data: dict[Any, Any] = {}
    for key, value in pairs:
        if key in data:
            raise ValueError(f"the key {reprlib.repr(key)} comes twice; remove one")
        data[key] = value
    return data


def _read_yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise ImportError("YAML files need PyYAML: pip install pyyaml; or save the file as JSON") from error

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """The safe loader, which refuses a key that comes twice."""

    def mapping(loader: Any, node: Any) -> dict[Any, Any]:
        loader.flatten_mapping(node)
        return _object([(loader.construct_object(k, True), loader.construct_object(v, True)) for k, v in node.value])

    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"bad YAML: {' '.join(str(error).split())}") from error
    except TypeError as error:  # a key that is a list or a mapping
        raise ValueError(f"bad YAML: {error}") from error
