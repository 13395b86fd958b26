"""The kind ``template``: a file rendered from a template of the role. Driven as ``file`` is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from provisioner.errors import ConfigError, Problem
from provisioner.model import spec
from provisioner.resources import register
from provisioner.resources.file import File, FileDriver, is_name

if TYPE_CHECKING:
    from provisioner.model import TaskContext

__all__ = ["Template"]


class Template(File):
    """A file whose content is a template of the role's `templates/`, rendered before anything is touched."""

    kind: ClassVar[str] = "template"

    src: str | None = spec(
        None, doc="the template, in the role's `templates/` or the project's", examples=["app.conf.j2"]
    )
    vars: dict[str, Any] | None = spec(None, doc="variables for this template alone", examples=[{"port": 80}])

    @classmethod
    def prepare(cls, fields: dict[str, Any], context: TaskContext) -> dict[str, Any]:
        for name in ("content", "content_base64", "target"):
            if name in fields:
                raise ConfigError(Problem(f"a template has no '{name}'", context.source, "write a `file` instead"))
        src, variables = fields.get("src"), fields.get("vars")
        if src is None:
            raise ConfigError(Problem("the template's src is missing", context.source, "src: name.j2"))
        if variables is not None and not isinstance(variables, dict):
            raise ConfigError(Problem("vars is not a mapping", context.source, "vars: {port: 80}"))
        if not is_name(src):
            return {**fields, "content": ""}  # refused with all other fields
        rest = {key: value for key, value in fields.items() if key not in ("src", "vars")}
        return {**rest, "content": context.render_file(str(src), variables)}


register(Template, FileDriver(Template))
