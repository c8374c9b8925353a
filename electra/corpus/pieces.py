"""Pieces of documents that are read one by one: lines, and long lines cut where words end."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
HAN = "\u3400-\u4dbf\u4e00-\u9fff"
"""Chinese characters but the rarest, as in a class of a regular expression."""
_BEFORE = re.compile(f"[ {HAN}]")
_UP_TO_LAST = re.compile(f"(?s:.*)(?=[{HAN}])")


def pieces_of(
    line: str, size: int, *, anywhere: bool = False, before_han: bool = False
) -> Iterator[str]:
    """The line in pieces of about `size` characters, which joined are the line again.

    Args:
        line: what is cut, before spaces.
        size: characters; a piece without spaces is longer, unless cut elsewhere.
        anywhere: cut inside of words, too, where there is no space.
        before_han: cut before Chinese characters, too, where there is no space.
    """
    start = 0
    while len(line) - start > size:
        cut = line.rfind(" ", start + 1, start + size + 1)
        if cut < 0 and before_han:
            last = _UP_TO_LAST.match(line, start + 1, start + size + 1)
            found = last or _BEFORE.search(line, start + size)
            cut = -1 if found is None else last.end() if last else found.start()
        elif cut < 0:
            cut = start + size if anywhere else line.find(" ", start + size)
        if cut < 0:
            break
        yield line[start:cut]
        start = cut
    yield line[start:]


def grouped(items: Iterable[tuple[Item, int]], size: int) -> Iterator[list[Item]]:
    """Lists of items whose sizes add up to `size` or to little more than that.

    Args:
        items: each with its size.
        size: a list ends with the item that reaches it.
    """
    group: list[Item] = []
    held = 0
    for item, length in items:
        group.append(item)
        held += length
        if held >= size:
            yield group
            group, held = [], 0
    if group:
        yield group
