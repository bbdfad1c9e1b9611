"""Finding the lightest of many candidates without looking at all of them.

The trick is that placing a request only makes a candidate heavier. So nothing is moved when that happens: an index files each candidate
under a key that is at most its true key, and puts it right when it comes up as the lightest. Only becoming lighter is told at once.
A decision thus costs O(log n) amortised, whatever number of models each worker holds, and a report O(1) for each index the worker is in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from heapq import heapify, heappop, heappush, heapreplace

from roost.placement.candidate import Candidate
from roost.placement.rng import Rng

_SLACK = 64  # emptied keys an index may carry before it is worth rebuilding


class LoadIndex:
    """Candidates filed by a key.

    State: buckets of candidates by key, a heap of the keys, and each candidate's place. Invariants: a candidate is in one bucket, whose key
    is at most its true key; each bucket's key is in the heap once; buckets are at most twice as many as candidates, plus a slack.
    """

    __slots__ = ("_buckets", "_heap", "_key_of", "_places")

    def __init__(self, key_of: Callable[[Candidate], float]) -> None:
        self._key_of = key_of
        self._buckets: dict[float, list[Candidate]] = {}
        self._heap: list[float] = []
        self._places: dict[Candidate, tuple[float, int]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def add(self, candidate: Candidate) -> None:
        self._file(candidate, self._key_of(candidate))

    def remove(self, candidate: Candidate) -> None:
        key, position = self._places.pop(candidate)
        self._take(self._buckets[key], key, position)

    def lighter(self, candidate: Candidate) -> None:
        """The candidate's key changed. Cheap where it did not fall below where it is filed."""
        true_key = self._key_of(candidate)
        place = self._places[candidate]
        if true_key < place[0]:
            self._move(candidate, *place, true_key)

    def lightest_key(self) -> float | None:
        """The key of the first bucket that is not empty. No candidate's true key is below it."""
        while self._heap:
            key = self._heap[0]
            if self._buckets[key]:
                return key
            heappop(self._heap)
            del self._buckets[key]
        return None

    def filed_under(self, key: float) -> int:
        """How many are in the key's bucket."""
        return len(self._buckets[key])

    def lightest(self, rng: Rng) -> Candidate | None:
        """The candidate with the smallest true key, uniformly among equals: `lightest` over this index alone, without its detours."""
        key_of, heap, buckets = self._key_of, self._heap, self._buckets
        while heap:
            key = heap[0]
            bucket = buckets[key]
            filed = len(bucket)
            if not filed:
                heappop(heap)
                del buckets[key]
                continue
            position = int(rng.random() * filed) if filed > 1 else 0
            candidate = bucket[position]
            true_key = key_of(candidate)
            if true_key == key:
                return candidate
            if filed == 1 and true_key not in buckets:  # alone under its key, as most are: the bucket goes with it
                heapreplace(heap, true_key)
                del buckets[key]
                buckets[true_key] = bucket
                self._places[candidate] = (true_key, 0)
                continue
            last = bucket.pop()  # as `_take` does
            if last is not candidate:
                bucket[position] = last
                self._places[last] = (key, position)
            self._file(candidate, true_key)
            heap, buckets = self._heap, self._buckets  # it may have rebuilt them
        return None

    def near(self, count: int) -> list[Candidate]:
        """Up to `count` candidates of those that are filed lightest, none of them moved: the first of the heap and what is next to it."""
        found: list[Candidate] = []
        for key in self._heap[:count]:
            found += self._buckets[key][: count - len(found)]
        return found

    def draw(self, key: float, position: int) -> Candidate | None:
        """The candidate at this position of the key's bucket, or None if it turns out heavier: then it is filed anew."""
        candidate = self._buckets[key][position]
        true_key = self._key_of(candidate)
        if true_key == key:
            return candidate
        self._move(candidate, key, position, true_key)
        return None

    def _move(self, candidate: Candidate, key: float, position: int, true_key: float) -> None:
        """File anew a candidate that is at this position of the key's bucket."""
        self._take(self._buckets[key], key, position)
        self._file(candidate, true_key)

    def _take(self, bucket: list[Candidate], key: float, position: int) -> None:
        """Empty a position of the key's bucket: the last one moves there."""
        last = bucket.pop()
        if position < len(bucket):
            bucket[position] = last
            self._places[last] = (key, position)

    def _file(self, candidate: Candidate, key: float) -> None:
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._heap) > 2 * len(self._places) + _SLACK:
                self._rebuild()
            bucket = self._buckets[key] = []
            heappush(self._heap, key)
        self._places[candidate] = (key, len(bucket))
        bucket.append(candidate)

    def _rebuild(self) -> None:
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if bucket}
        self._heap = list(self._buckets)
        heapify(self._heap)

    def __repr__(self) -> str:
        return f"<LoadIndex {len(self)} candidates under {len(self._buckets)} keys, lightest {self.lightest_key()}>"


def lightest(indexes: Sequence[LoadIndex], rng: Rng, excluded: AbstractSet[str] = frozenset()) -> Candidate | None:
    """The candidate with the smallest true key over all `indexes`, chosen uniformly among equals; None if there is none.

    Uniform because each draw is uniform over what is filed under the smallest key, and a draw that hits a heavier or an excluded candidate
    takes it from there and is repeated. Excluded ones are put back at the end.
    """
    if len(indexes) == 1 and not excluded:
        return indexes[0].lightest(rng)
    aside: list[tuple[LoadIndex, Candidate]] = []
    found: Candidate | None = None
    while found is None:
        key, first = _first(indexes)
        if key is None:
            break
        index, position = _position(first, key, rng)
        found = index.draw(key, position)
        if found is not None and found.node_id in excluded:
            index.remove(found)
            aside.append((index, found))
            found = None
    for index, candidate in aside:
        index.add(candidate)
    return found


def _first(indexes: Sequence[LoadIndex]) -> tuple[float | None, list[LoadIndex]]:
    """The smallest key under which anything is filed, and the indexes that have it."""
    keys = [index.lightest_key() for index in indexes]
    smallest = min((key for key in keys if key is not None), default=None)
    return smallest, [index for index, key in zip(indexes, keys, strict=True) if key == smallest]


def _position(indexes: Sequence[LoadIndex], key: float, rng: Rng) -> tuple[LoadIndex, int]:
    """One of all the positions under `key`, each equally likely."""
    position = int(rng.random() * sum(index.filed_under(key) for index in indexes))
    for index in indexes:
        if position < index.filed_under(key):
            return index, position
        position -= index.filed_under(key)
    raise AssertionError("a position below the sum is in one of them")
