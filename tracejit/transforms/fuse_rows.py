"""Fusion of what stands between row kernels: per-row values join the rows they belong to.

A layer norm's gradient reduces each row, does arithmetic on the row's few values, and goes over
the row again. When the groups are first formed that arithmetic is a small kernel of its own, and
keeps the two row kernels apart. Invariant: as in `fuse`, every use is at hand, groups stay convex.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracejit.transforms.views import axis_map, base_and_views

if TYPE_CHECKING:
    from tracejit.transforms.fuse import Fuser
    from tracejit.transforms.groups import Group


def merge_rows(fuser: Fuser) -> None:
    """Lift map groups over rows into their row groups, and merge row groups that then fit."""
    while _lift_one(fuser) or _merge_one(fuser):
        pass


def _neighbours(fuser: Fuser, group: Group) -> list[Group]:
    """Row groups that the group reads, then those that read it."""
    found = [g for node in group.nodes for g in fuser.sources(node)]
    found += sorted(fuser.users(group), key=lambda g: g.number)
    return [g for g in dict.fromkeys(found) if g.shape == "row" and g is not group]


def _lift_one(fuser: Fuser) -> bool:
    for group in list(fuser.groups.values()):
        if group.shape != "map":
            continue
        for rows in _neighbours(fuser, group):
            if _can_lift(fuser, group, rows):
                fuser.merge(group, rows)
                return True
    return False


def _merge_one(fuser: Fuser) -> bool:
    for group in list(fuser.groups.values()):
        if group.shape != "row":
            continue
        for other in _neighbours(fuser, group):
            if fuser.can_merge(other, group):
                fuser.merge(other, group)
                return True
    return False


def _can_lift(fuser: Fuser, group: Group, rows: Group) -> bool:
    """Whether the map group can be the row group's own values; if so its nodes are marked so."""
    if any(n.op.kind == "random" for n in group.nodes) or not fuser.may_be_lifted(group, rows):
        return False
    lifts = {id(n): fuser.lift_of(rows, n) for n in group.nodes}
    if any(lift is None for lift in lifts.values()):
        return False
    before = group.level, group.lift
    group.level = dict.fromkeys(group.level, "row")
    group.lift = lifts  # type: ignore[assignment]
    fits = _is_consistent(fuser, group)
    fits = fits and fuser.uses_fit(group, rows, "row") and fuser.uses_fit(rows, group, "row")
    if not fits:
        group.level, group.lift = before
    return fits


def _is_consistent(fuser: Fuser, group: Group) -> bool:
    """Whether the group's nodes read each other row by row."""
    for node in group.nodes:
        for x in node.inputs:
            base, views = base_and_views(x)
            if fuser.of.get(id(base)) is not group:
                continue
            through = axis_map(base.shape, views)
            if through is None:
                return False
            lift = group.lift[id(node)]
            if tuple(None if a is None else through[a] for a in lift) != group.lift[id(base)]:
                return False
    return True
