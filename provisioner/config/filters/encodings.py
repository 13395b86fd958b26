"""Filters between values and their texts: YAML, JSON, Base64, digests."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from typing import Any

import yaml

from provisioner.config.bounds import bounded
from provisioner.config.filters.inputs import plain, text_of
from provisioner.config.source import Map, Seq, Str, load_yaml_text
from provisioner.config.values import FilterError, needed
from provisioner.secrets import SecretFloat, SecretInt


def b64encode(value: Any, encoding: str = "utf-8", urlsafe: bool = False) -> str:
    """The text in Base64."""
    data = value if isinstance(value, bytes) else text_of(value).encode(encoding)
    return (base64.urlsafe_b64encode if urlsafe else base64.b64encode)(data).decode("ascii")


def b64decode(value: Any, encoding: str = "utf-8", urlsafe: bool = False) -> str:
    """The text that Base64 stands for."""
    try:
        return (base64.urlsafe_b64decode if urlsafe else base64.b64decode)(text_of(value)).decode(encoding)
    except ValueError as error:
        raise FilterError(f"this is not Base64 of a text: {error}") from None


class _Dumper(yaml.SafeDumper):
    """Writes located values as the plain ones that they are."""


_Dumper.add_representer(Str, lambda dumper, value: dumper.represent_str(str(value)))
_Dumper.add_multi_representer(str, lambda dumper, value: dumper.represent_str(str(value)))
_Dumper.add_representer(SecretInt, lambda dumper, value: dumper.represent_int(int(value)))
_Dumper.add_representer(SecretFloat, lambda dumper, value: dumper.represent_float(float(value)))
_Dumper.add_representer(Map, lambda dumper, value: dumper.represent_dict(value.items()))
_Dumper.add_representer(Seq, lambda dumper, value: dumper.represent_list(value))


def to_yaml(value: Any, default_flow_style: bool | None = None, **options: Any) -> str:
    """The value in YAML."""
    return _dump(value, {"allow_unicode": True, "default_flow_style": default_flow_style, **options})


def to_nice_yaml(value: Any, indent: int = 4, default_flow_style: bool = False, **options: Any) -> str:
    """The value in YAML, in blocks, indented."""
    style = {"allow_unicode": True, "indent": indent, "default_flow_style": default_flow_style}
    return _dump(value, {**style, **options})


def _dump(value: Any, options: dict[str, Any]) -> str:
    try:
        # A single value needs no mark of the document's end after it.
        return str(yaml.dump(plain(value), Dumper=_Dumper, **options)).removesuffix("...\n")
    except (yaml.YAMLError, TypeError) as error:
        raise FilterError(f"this cannot be written as YAML: {error}") from None


def from_yaml(value: Any) -> Any:
    """The value that a text in YAML stands for."""
    if not isinstance(value, str):
        return needed(value)
    return load_yaml_text(value, "the text given to from_yaml")


def from_yaml_all(value: Any) -> list[Any]:
    """The values of all the documents of a text in YAML."""
    try:
        return list(yaml.safe_load_all(text_of(value)))
    except yaml.YAMLError as error:
        raise FilterError(f"this is not YAML: {error}") from None


def to_json(value: Any, indent: int | None = None, sort_keys: bool = False, **options: Any) -> str:
    """The value in JSON."""
    known = {
        "ensure_ascii",
        "separators",
        "skipkeys",
        "allow_nan",
        "check_circular",
        "vault_to_text",
        "preprocess_unsafe",
    }
    unknown = set(options) - known
    if unknown:
        raise FilterError(f"to_json has no option '{min(unknown)}'")
    given = {key: item for key, item in options.items() if key not in ("vault_to_text", "preprocess_unsafe")}
    bounded((indent or 0) * 1_000_000)
    try:
        return json.dumps(plain(value), indent=indent, sort_keys=sort_keys, **given)
    except (TypeError, ValueError) as error:
        raise FilterError(f"this cannot be written as JSON: {error}") from None


def to_nice_json(value: Any, indent: int = 4, sort_keys: bool = True, **options: Any) -> str:
    """The value in JSON, indented, with sorted keys."""
    return to_json(value, indent=indent, sort_keys=sort_keys, **{"separators": (",", ": "), **options})


def from_json(value: Any) -> Any:
    """The value that a text in JSON stands for."""
    try:
        return json.loads(text_of(value))
    except ValueError as error:
        raise FilterError(f"this is not JSON: {error}") from None


def get_hash(value: Any, hashtype: str = "sha1") -> str:
    """The digest of a text, in hexadecimal."""
    try:
        made = hashlib.new(hashtype)
    except ValueError:
        raise FilterError(f"the hash '{hashtype}' is not known", "known here: md5, sha1, sha256, sha512") from None
    made.update(text_of(value).encode())
    return made.hexdigest()


_NAMESPACE = uuid.UUID("361E6D51-FAEC-444A-9079-341386DA8E2E")


def to_uuid(value: Any, namespace: Any = _NAMESPACE) -> str:
    """The UUID that belongs to a text: always the same one (version 5)."""
    try:
        within = namespace if isinstance(namespace, uuid.UUID) else uuid.UUID(str(namespace))
    except ValueError:
        raise FilterError(f"'{namespace}' is not a UUID") from None
    return str(uuid.uuid5(within, text_of(value)))
