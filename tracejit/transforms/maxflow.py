"""Minimum cuts of directed graphs with capacities, by Dinic's algorithm (1970).

Knows nothing of the IR. Invariant: `sink_side` is the set of vertices from which the residual
graph still reaches the sink, so the cut edges lead into it; of all minimum cuts it is the one
nearest to the sink.
"""

from __future__ import annotations

from collections import deque

INFINITE = 1 << 60


class FlowNetwork:
    """A network under construction: ``add_edge`` any number of times, then ``sink_side``."""

    def __init__(self, vertices: int):
        self.heads: list[list[int]] = [[] for _ in range(vertices)]  # edge numbers by tail
        self.target: list[int] = []
        self.room: list[int] = []

    def add_edge(self, tail: int, head: int, capacity: int) -> None:
        """An edge and its (initially empty) reverse: numbers 2k and 2k + 1."""
        for a, b, room in ((tail, head, capacity), (head, tail, 0)):
            self.heads[a].append(len(self.target))
            self.target.append(b)
            self.room.append(room)

    def _levels(self, source: int) -> list[int]:
        levels = [-1] * len(self.heads)
        levels[source] = 0
        queue = deque([source])
        while queue:
            vertex = queue.popleft()
            for edge in self.heads[vertex]:
                if self.room[edge] and levels[self.target[edge]] < 0:
                    levels[self.target[edge]] = levels[vertex] + 1
                    queue.append(self.target[edge])
        return levels

    def _augment(self, source: int, sink: int, levels: list[int], start: list[int]) -> int:
        """Push flow along one shortest path; 0 when there is none left in this level graph."""
        path: list[int] = []
        vertex = source
        while vertex != sink:
            edges = self.heads[vertex]
            while start[vertex] < len(edges):
                edge = edges[start[vertex]]
                if self.room[edge] and levels[self.target[edge]] == levels[vertex] + 1:
                    break
                start[vertex] += 1
            else:
                if not path:
                    return 0
                levels[vertex] = -1  # a dead end: step back
                vertex = self.target[path.pop() ^ 1]
                continue
            path.append(edge)
            vertex = self.target[edge]
        flow = min(self.room[edge] for edge in path)
        for edge in path:
            self.room[edge] -= flow
            self.room[edge ^ 1] += flow
        return flow

    def sink_side(self, source: int, sink: int) -> set[int]:
        """The vertices on the sink's side of the minimum cut nearest to the sink."""
        while True:
            levels = self._levels(source)
            if levels[sink] < 0:
                break
            start = [0] * len(self.heads)
            while self._augment(source, sink, levels, start):
                pass
        side, queue = {sink}, deque([sink])
        while queue:
            for edge in self.heads[queue.popleft()]:
                tail = self.target[edge]
                if self.room[edge ^ 1] and tail not in side:
                    side.add(tail)
                    queue.append(tail)
        return side
