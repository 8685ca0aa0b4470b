"""One environment for HTML pages: everything is escaped, and a name that is not given is an error."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2


def render(template: Path, values: Mapping[str, Any], filters: Mapping[str, Callable[..., Any]] | None = None) -> str:
    """Fills a Jinja template.

    Args:
        template: its file.
        values: name -> value, every name that the template uses.
        filters: name -> function, beside Jinja's own.

    Raises:
        jinja2.UndefinedError: if the template uses a name that is not in `values`.
    """
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= dict(filters or {})
    return environment.from_string(template.read_text(encoding="utf-8")).render(values)
