"""A picture (SVG) of what an inventory builds: hosts, bridges, namespaces, workloads, and who reaches whom.

Pure: desired graphs in, a string out. ``sketch.py`` reads the graph; here it gets places and colours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import TYPE_CHECKING

from provisioner.report.sketch import Cable, Namespace, Reach, Sketch, sketch_of

if TYPE_CHECKING:
    from provisioner.model import Desired

__all__ = ["picture"]

_INK, _SOFT, _LINE = "#1f2937", "#6b7280", "#9ca3af"
_PAPER, _HOST, _CARD = "#ffffff", "#f8fafc", "#ffffff"
_GREEN, _RED, _BLUE, _AMBER = "#15803d", "#dc2626", "#1d4ed8", "#b45309"
_SANS = "font-family=\"Inter, 'Segoe UI', Helvetica, Arial, sans-serif\""
_MONO = "font-family=\"'JetBrains Mono', 'DejaVu Sans Mono', Menlo, Consolas, monospace\""

#: Sizes in pixels.
_EDGE = 28
_HOST_GAP = 32
_BOX_GAP = 64
_BOX_WIDTH = 300
_BRIDGE_HEIGHT = 46
_CABLE_HEIGHT = 92
_LANE = 36
_LINE_HEIGHT = 19
#: How wide a letter of a label is.
_CHARACTER = 6.9


def picture(hosts: Mapping[str, Desired], title: str | None = None) -> str:
    """The SVG of these hosts side by side."""
    places = _place([sketch_of(name, desired) for name, desired in hosts.items()])
    canvas = _Canvas()
    for place in places:
        _draw_host(canvas, place)
    bottom = _draw_reaches(canvas, places)
    width = max((place.x + place.width for place in places), default=400) + _EDGE
    return canvas.svg(width, _draw_legend(canvas, bottom), title or "What the inventory builds")


# -- places ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Box:
    """Where a namespace stands."""

    namespace: Namespace
    x: float
    y: float
    height: float

    @property
    def middle(self) -> float:
        return self.x + _BOX_WIDTH / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a host stands, and everything of it."""

    sketch: Sketch
    x: float
    y: float
    width: float
    boxes: tuple[_Box, ...]
    bridge_y: float
    bottom: float

    def box(self, netns: str) -> _Box | None:
        return next((one for one in self.boxes if one.namespace.name == netns), None)


def _place(sketches: Sequence[Sketch]) -> list[_Place]:
    places = []
    x: float = _EDGE
    for sketch in sketches:
        bridge_y = _EDGE + 52
        wired = bridge_y + _BRIDGE_HEIGHT + _CABLE_HEIGHT if sketch.bridges else bridge_y
        boxes = []
        left = x + _EDGE
        tallest = max((_box_height(one) for one in sketch.namespaces), default=0)
        for namespace in sketch.namespaces:
            boxes.append(_Box(namespace, left, wired, tallest))
            left += _BOX_WIDTH + _BOX_GAP
        width = max(left - _BOX_GAP + _EDGE - x, _BOX_WIDTH + 2 * _EDGE)
        rows = len([one for one in sketch.cables if one.inner]) + len(_pairs(sketch, boxes, boxes))
        bottom = wired + tallest + 22 + _LANE * rows
        places.append(_Place(sketch, x, _EDGE, width, tuple(boxes), bridge_y, bottom))
        x += width + _HOST_GAP
    lowest = max((place.bottom for place in places), default=0)
    return [_Place(one.sketch, one.x, one.y, one.width, one.boxes, one.bridge_y, lowest) for one in places]


def _box_height(namespace: Namespace) -> float:
    workloads = sum(58 for _ in namespace.workloads)
    return 56 + _LINE_HEIGHT * (len(namespace.addresses) + bool(namespace.limits)) + workloads


# -- drawing --------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Canvas:
    """Gathers SVG elements."""

    parts: list[str] = field(default_factory=list)

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: str,
        line: str,
        round: int = 10,
        thick: float = 1.2,
        dash: str = "",
    ) -> None:
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{round}" fill="{fill}" '
            f'stroke="{line}" stroke-width="{thick:g}"{dashed}/>'
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 13,
        colour: str = _INK,
        bold: bool = False,
        mono: bool = False,
        anchor: str = "start",
    ) -> None:
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" {_MONO if mono else _SANS} font-size="{size:g}" fill="{colour}"{weight} '
            f'text-anchor="{anchor}">{escape(text)}</text>'
        )

    def path(self, d: str, *, colour: str, thick: float = 1.6, dash: str = "", ends: str = "") -> None:
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<path d="{d}" fill="none" stroke="{colour}" stroke-width="{thick:g}"{dashed}{ends}/>')

    def dot(self, x: float, y: float, colour: str, size: float = 4) -> None:
        self.parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="{size:g}" fill="{colour}"/>')

    def cross(self, x: float, y: float) -> None:
        self.parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="9" fill="{_PAPER}" stroke="{_RED}" stroke-width="1.6"/>')
        self.path(f"M{x - 4:g} {y - 4:g}l8 8m0 -8l-8 8", colour=_RED, thick=2)

    def label(self, x: float, y: float, text: str, colour: str, behind: str = _PAPER) -> None:
        """Text over a line: on a patch of the ground's colour."""
        width = _CHARACTER * len(text) + 12
        self.parts.append(
            f'<rect x="{x - width / 2:g}" y="{y - 10:g}" width="{width:g}" height="20" rx="4" fill="{behind}"/>'
        )
        self.text(x, y + 4.5, text, size=12, colour=colour, anchor="middle", mono=True)

    def svg(self, width: float, height: float, title: str) -> str:
        return "\n".join(
            [
                (
                    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
                    f'height="{height:g}" role="img">'
                ),
                f"<title>{escape(title)}</title>",
                f'<rect width="{width:g}" height="{height:g}" rx="14" fill="{_PAPER}"/>',
                "<defs>",
                _arrow_head("reached", _GREEN),
                _arrow_head("stopped", _RED),
                "</defs>",
                *self.parts,
                "</svg>",
                "",
            ]
        )


def _arrow_head(name: str, colour: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 10 10" refX="8.5" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto-start-reverse"><path d="M0 0.8L9.5 5L0 9.2z" fill="{colour}"/></marker>'
    )


def _draw_host(canvas: _Canvas, place: _Place) -> None:
    sketch = place.sketch
    canvas.box(place.x, place.y, place.width, place.bottom - place.y, fill=_HOST, line=_LINE, round=14)
    canvas.text(place.x + _EDGE, place.y + 32, sketch.host, size=17, bold=True)
    canvas.text(place.x + place.width - _EDGE, place.y + 32, sketch.note, size=12, colour=_SOFT, anchor="end")
    if sketch.bridges:
        _draw_bridges(canvas, place)
    for box in place.boxes:
        _draw_namespace(canvas, box)
    for cable in sketch.cables:
        if not cable.inner:
            _draw_cable(canvas, place, cable)
    for row, cable in enumerate(one for one in sketch.cables if one.inner):
        _draw_inner_cable(canvas, place, cable, row)


def _draw_bridges(canvas: _Canvas, place: _Place) -> None:
    share = (place.width - 2 * _EDGE + 16) / len(place.sketch.bridges)
    for index, bridge in enumerate(place.sketch.bridges):
        left = place.x + _EDGE + index * share
        canvas.box(left, place.bridge_y, share - 16, _BRIDGE_HEIGHT, fill="#eff6ff", line=_BLUE)
        canvas.text(left + 16, place.bridge_y + 28, bridge.name, bold=True, colour=_BLUE, size=14)
        wide = 16 + 9 * len(bridge.name) + 12
        canvas.text(left + wide, place.bridge_y + 28, "bridge", size=12, colour=_SOFT)
        canvas.text(
            left + share - 32, place.bridge_y + 28, "  ".join(bridge.addresses), mono=True, size=13, anchor="end"
        )


def _draw_cable(canvas: _Canvas, place: _Place, cable: Cable) -> None:
    box = place.box(cable.netns)
    if box is None or not place.sketch.bridges:
        return
    top, end = place.bridge_y + _BRIDGE_HEIGHT, box.y
    x = box.x + 46
    canvas.path(f"M{x:g} {top:g}V{end:g}", colour=_INK, thick=2)
    canvas.dot(x, top, _INK)
    canvas.dot(x, end, _INK)
    canvas.text(x + 10, top + 20, cable.host_end, mono=True, size=12, colour=_SOFT)
    canvas.text(x + 10, end - 10, cable.name, mono=True, size=12, colour=_SOFT)


def _draw_inner_cable(canvas: _Canvas, place: _Place, cable: Cable, row: int) -> None:
    one, other = place.box(cable.netns), place.box(cable.other or "")
    if one is None or other is None:
        return
    y = one.bottom + 20 + _LANE * row
    start = one.x + 40 + 22 * row
    end = other.x + 40 + 22 * row
    canvas.path(f"M{start:g} {one.bottom:g}V{y:g}H{end:g}V{other.bottom:g}", colour=_INK, thick=2)
    canvas.dot(start, one.bottom, _INK)
    canvas.dot(end, other.bottom, _INK)
    canvas.label((start + end) / 2, y, f"{cable.name} ↔ {cable.host_end}", _SOFT, _HOST)


def _draw_namespace(canvas: _Canvas, box: _Box) -> None:
    namespace = box.namespace
    canvas.box(box.x, box.y, _BOX_WIDTH, box.height, fill=_CARD, line=_INK, thick=1.6)
    x, y = box.x + 18, box.y + 30
    canvas.text(x, y, namespace.name, size=16, bold=True)
    if namespace.firewall:
        canvas.box(box.x + _BOX_WIDTH - 86, box.y + 14, 70, 22, fill="#fff7ed", line=_AMBER, round=11, thick=1)
        canvas.text(box.x + _BOX_WIDTH - 51, box.y + 29, "firewall", size=11.5, colour=_AMBER, anchor="middle")
    for interface, address in namespace.addresses:
        y += _LINE_HEIGHT
        canvas.text(x, y + 2, f"{interface:<5} {address}", mono=True, size=12.5)
    if namespace.limits:
        y += _LINE_HEIGHT
        canvas.text(x, y + 2, namespace.limits, size=12, colour=_SOFT)
    y += 18
    for workload in namespace.workloads:
        canvas.box(x - 4, y, _BOX_WIDTH - 28, 48, fill="#f0fdf4", line=_GREEN, round=8, thick=1)
        canvas.text(x + 8, y + 20, workload.name, bold=True, size=12.5)
        canvas.text(x + 8, y + 37, _cut(workload.command, 38), mono=True, size=11, colour=_SOFT)
        y += 58


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


# -- who reaches whom -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Lane:
    """An arrow under the boxes: from one box to another, of any host."""

    start: _Box
    end: _Box
    reach: Reach

    @property
    def span(self) -> float:
        return abs(self.start.x - self.end.x)


def _pairs(sketch: Sketch, own: Sequence[_Box], all_boxes: Sequence[_Box]) -> list[_Lane]:
    """The expectations between namespaces; one lane where both sides expect the same of each other."""
    by_name = {box.namespace.name: box for box in own}
    # Two hosts may use the same addresses inside: a host's own come first.
    by_address = {address: box for box in [*all_boxes, *own] for address in _addresses(box.namespace)}
    lanes: dict[tuple[str, int, int], _Lane] = {}
    for reach in sketch.reaches:
        start, end = by_name.get(reach.start), by_address.get(reach.address)
        if start is None or end is None:
            continue
        meaning = f"{reach.text} {reach.result}"
        back = lanes.get((meaning, id(end), id(start)))
        if back is not None:
            lanes[meaning, id(end), id(start)] = replace(back, reach=replace(back.reach, both_ways=True))
        else:
            lanes[meaning, id(start), id(end)] = _Lane(start, end, reach)
    return sorted(lanes.values(), key=lambda one: one.span)


def _addresses(namespace: Namespace) -> set[str]:
    return {address.partition("/")[0] for _, address in namespace.addresses}


def _draw_reaches(canvas: _Canvas, places: Sequence[_Place]) -> float:
    """The arrows: a host's own inside its frame, those between hosts below all frames. Says where they end."""
    every = [box for place in places for box in place.boxes]
    feet: dict[int, int] = {}
    between: list[_Lane] = []
    for place in places:
        _draw_host_reaches(canvas, place)
        inner = len([one for one in place.sketch.cables if one.inner])
        y = max((box.bottom for box in place.boxes), default=0) + 10 + _LANE * inner
        for lane in _pairs(place.sketch, place.boxes, every):
            if any(box is lane.end for box in place.boxes):
                y += _LANE
                _draw_lane(canvas, lane, y - 6, feet, _HOST)
            else:
                between.append(lane)
    y = max((place.bottom for place in places), default=0)
    for lane in sorted(between, key=lambda one: one.span):
        y += _LANE
        _draw_lane(canvas, lane, y, feet, _PAPER)
    return y


def _draw_lane(canvas: _Canvas, lane: _Lane, y: float, feet: dict[int, int], ground: str) -> None:
    start, end = _foot(lane.start, feet), _foot(lane.end, feet)
    reached = lane.reach.result == "reached"
    colour, head = (_GREEN, "reached") if reached else (_RED, "stopped")
    ends = f' marker-end="url(#{head})"' + (f' marker-start="url(#{head})"' if lane.reach.both_ways else "")
    turn = 10 if end > start else -10
    canvas.path(
        f"M{start:g} {lane.start.bottom + 3:g}V{y - 10:g}q0 10 {turn} 10H{end - turn:g}q{turn} 0 {turn} -10"
        f"V{lane.end.bottom + 3:g}",
        colour=colour,
        dash="" if reached else "6 5",
        ends=ends,
    )
    middle = (start + end) / 2
    if reached:
        canvas.label(middle, y, lane.reach.text, colour, ground)
    else:
        canvas.label(middle + 11, y, lane.reach.text, colour, ground)
        canvas.cross(middle - (_CHARACTER * len(lane.reach.text) + 12) / 2 + 2, y)


def _foot(box: _Box, feet: dict[int, int]) -> float:
    """The next free place along a box's lower edge: the middle, then right and left of it by turns."""
    taken = feet.get(id(box), 0)
    feet[id(box)] = taken + 1
    return box.middle + 24 * ((taken + 1) // 2) * (1 if taken % 2 else -1)


def _draw_host_reaches(canvas: _Canvas, place: _Place) -> None:
    """Arrows between the host itself and its namespaces, beside the cables."""
    if not place.sketch.bridges:
        return
    gateways = {address.partition("/")[0] for bridge in place.sketch.bridges for address in bridge.addresses}
    top, bottom = place.bridge_y + _BRIDGE_HEIGHT + 4, _CABLE_HEIGHT - 8
    for box in place.boxes:
        own = _addresses(box.namespace)
        down = [one for one in place.sketch.reaches if one.start == "host" and one.address in own]
        up = [one for one in place.sketch.reaches if one.start == box.namespace.name and one.address in gateways]
        for index, reach in enumerate([*down, *up]):
            x = box.x + _BOX_WIDTH - 60 - 84 * index
            reached = reach.result == "reached"
            colour, head = (_GREEN, "reached") if reached else (_RED, "stopped")
            line = f"M{x:g} {top:g}v{bottom:g}" if reach in down else f"M{x:g} {top + bottom:g}v{-bottom:g}"
            canvas.path(line, colour=colour, dash="" if reached else "6 5", ends=f' marker-end="url(#{head})"')
            canvas.label(x, top + bottom / 2, reach.text, colour, _HOST)


def _draw_legend(canvas: _Canvas, y: float) -> float:
    y += 34
    x: float = _EDGE + 4
    for text, colour, head, dash in (("reaches", _GREEN, "reached", ""), ("must not reach", _RED, "stopped", "6 5")):
        canvas.path(f"M{x:g} {y:g}h34", colour=colour, dash=dash, ends=f' marker-end="url(#{head})"')
        canvas.text(x + 44, y + 4, text, size=12.5, colour=_SOFT)
        x += 72 + 6.6 * len(text)
    canvas.text(x, y + 4, "tried with real packets after each apply", size=12.5, colour=_SOFT)
    return y + 26
