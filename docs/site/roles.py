"""A hook of MkDocs: references in docstrings (``:class:`harness.x.Y```) are shown as the name that they end in."""

from __future__ import annotations

import re
from typing import Any

ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):<code>~?([\w.]+)</code>")


def on_page_content(html: str, **_: Any) -> str:
    """The page's HTML with plain names in place of roles."""
    return ROLE.sub(lambda role: f'<code title="{role[1]}">{role[1].rpartition(".")[2]}</code>', html)
