"""``python -m protocol.roles_page``: the table of roles as a page."""

from __future__ import annotations

from typing import Final

from protocol.roles import WORDS, Action, Role, may

_HEAD: Final = """\
# Roles

Made from `protocol/roles.py` by `python -m protocol.roles_page`. The orchestrator asks this table
before it does what is asked for; what is not in it is refused with the code `forbidden`. Who has
which role, and within which limits, says
[a file of the cloud's](../how-to/say-who-may-do-what.md). Without one everybody is an analyst,
and may read the audit log as well.

Everybody works with what is his own: the last line says who may do the same with what others have.
"""


def page() -> str:
    """The page, in Markdown."""
    names = " | ".join(role.value for role in Role)
    lines = [f"| may | as a request | {names} |", "| --- | --- |" + " --- |" * len(Role)]
    for action in Action:
        marks = " | ".join("yes" if may(role, action) else "" for role in Role)
        mode = "" if action is Action.OTHERS else f"`{action.value}`"
        lines.append(f"| {WORDS[action]} | {mode} | {marks} |")
    return f"{_HEAD}\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
