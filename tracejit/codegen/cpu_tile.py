"""Kernel source for CPUs: a map whose operands disagree about which axis is dense, in square tiles.

Transposed operands jump from line to line of memory along the inner axis. Within a tile over the
two inner axes every line that is fetched is used whole. Measured on two Cascade Lake cores, a
2048x2048 transpose in float32: see docs/performance.md. Invariant: values and places are the map's.
"""

from __future__ import annotations

from collections.abc import Sequence

from tracejit.codegen.cpu import MapEmitter

TILE = 32  # elements along each side


def wants_tiles(sizes: Sequence[int], strides: Sequence[Sequence[int]]) -> bool:
    """Whether some operand is dense along the last axis but one."""
    if len(sizes) < 2:
        return False
    return any(s[-2] == 1 and s[-1] not in (0, 1) for s in strides)


def tile_count(sizes: Sequence[int]) -> int:
    """Tiles in all: the units of work."""
    count = -(-sizes[-2] // TILE) * -(-sizes[-1] // TILE)
    for n in sizes[:-2]:
        count *= n
    return count


class TileEmitter(MapEmitter):
    """Pointwise over an n-d nest, rank 2 or more; `[lo, hi)` counts tiles."""

    def source(self) -> str:
        self.head()
        w, rank = self.w, self.variant.rank
        rows, columns = f"n{rank - 2}", f"n{rank - 1}"
        w.put(f"across = ({columns} + {TILE - 1}) // {TILE}")
        w.put(f"down = ({rows} + {TILE - 1}) // {TILE}")
        w.put("for u in range(lo, hi):")
        w.depth += 1
        w.put(f"left = u % across * {TILE}")
        w.put(f"top = u // across % down * {TILE}")
        w.put("outer = u // across // down")
        w.put(f"right = select(left + {TILE} < {columns}, left + {TILE}, {columns})")
        w.put(f"bottom = select(top + {TILE} < {rows}, top + {TILE}, {rows})")
        coordinates = [*self.coordinates("outer", rank - 2), "i"]
        w.put("for i in range(top, bottom):")
        w.depth += 1
        w.put(f"r = outer * {rows} + i")
        self.starts(coordinates, range(self.layout.operands))
        self.hoisted(True)
        w.put("for j in range(left, right):")
        w.depth += 1
        self.body("j", f"r * {columns} + j", True)
        return w.text()
