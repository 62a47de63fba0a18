"""The matrix as a picture: a square for each cell, a band in it for each caller. Plain SVG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final
from xml.sax.saxutils import escape

from tests.faults.expected import Cell
from tests.faults.faults import FAULTS

__all__ = ["figure"]

_LEFT, _TOP, _WIDTH, _BAND, _GAP = 130, 92, 56, 18, 8
_CALLERS: Final = ("known", "new", "later")
# Told apart by lightness and by a letter, not by hue alone.
_LOOKS: Final = {
    "whole": ("#d9efd8", "#1b4d1b", "w"),
    "degraded": ("#f5c767", "#4a3400", "d"),
    "error": ("#a8324a", "#ffffff", "e"),
}


def figure(matrix: Mapping[str, Mapping[str, Cell]]) -> str:
    """The picture of these cells, by service and fault."""
    height = _TOP + len(matrix) * (3 * _BAND + _GAP) + 40
    width = _LEFT + len(FAULTS) * _WIDTH + 70
    inside = "\n".join([*_heads(), *_rows(matrix), *_legend(height - 18)])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="12" role="img">\n'
        f"<title>What callers get while a service fails</title>\n"
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n{inside}\n</svg>\n'
    )


def _heads() -> Iterator[str]:
    for column, name in enumerate(FAULTS):
        x, y = _LEFT + column * _WIDTH + _WIDTH // 2, _TOP - 8
        yield _text(x, y, name, f'transform="rotate(-45 {x} {y})"')


def _rows(matrix: Mapping[str, Mapping[str, Cell]]) -> Iterator[str]:
    for row, (service, cells) in enumerate(matrix.items()):
        top = _TOP + row * (3 * _BAND + _GAP)
        yield _text(4, top + _BAND * 2 - 5, service, 'font-weight="bold"')
        for band, caller in enumerate(_CALLERS):
            yield _text(_LEFT - 36, top + band * _BAND + 13, caller, 'font-size="10" fill="#555555"')
            for column, fault in enumerate(FAULTS):
                kind = getattr(cells[fault], caller).partition(":")[0]
                yield from _band(_LEFT + column * _WIDTH, top + band * _BAND, kind)


def _band(x: int, y: int, kind: str) -> Iterator[str]:
    back, front, letter = _LOOKS[kind]
    yield f'<rect x="{x}" y="{y}" width="{_WIDTH - 4}" height="{_BAND - 1}" fill="{back}"/>'
    yield _text(x + _WIDTH // 2 - 2, y + 13, letter, f'fill="{front}" text-anchor="middle" font-size="10"')


def _legend(y: int) -> Iterator[str]:
    x = _LEFT
    for kind, (back, front, letter) in _LOOKS.items():
        yield f'<rect x="{x}" y="{y - 12}" width="16" height="16" fill="{back}"/>'
        yield _text(x + 8, y, letter, f'fill="{front}" text-anchor="middle" font-size="10"')
        yield _text(x + 22, y, kind, "")
        x += 110


def _text(x: int, y: int, text: str, more: str) -> str:
    return f'<text x="{x}" y="{y}" {more}>{escape(text)}</text>'
