"""Earlier shards that may hold vectors of a job's texts, told from the lake's listings alone."""

from collections.abc import Iterator, Sequence

from embed_worker.lake.census import shard_at
from embed_worker.lake.layout import DELTA, MANIFEST, WHOLE, Partitioning, ShardId
from embed_worker.lake.store import Store


class Bases:
    """Of one spec. Of each stride the newest committed shard counts, of deltas the newest; a dataset is listed once."""

    def __init__(self, store: Store, spec_id: str) -> None:
        self._store, self._spec_id = store, spec_id
        self._known: dict[str, _Committed] = {}

    def of(self, shard: ShardId, others: Sequence[str] = ()) -> list[ShardId]:
        """For a shard to be made, the best first; `others`: datasets that its own may take from.

        A stride finds its texts in its own range of keys, whatever the number of strides; one that is not cut by keys
        finds them in any shard of the newest base, its own stride first.
        """
        found = list(self._committed(shard.dataset).near(shard))
        for dataset in others:
            found += self._committed(dataset).near(shard)
        return [base for base in dict.fromkeys(found) if base != shard]

    def _committed(self, dataset: str) -> "_Committed":
        if dataset not in self._known:
            self._known[dataset] = _Committed(self._store, dataset, self._spec_id)
        return self._known[dataset]


class _Committed:
    """The newest shard of each stride of a dataset, by how it is cut; the cuts by their newest shards."""

    def __init__(self, store: Store, dataset: str, spec_id: str) -> None:
        newest: dict[Partitioning, dict[int, tuple[float, str, ShardId]]] = {}
        for file in store.listing(f"embedding_shards/{dataset}/{spec_id}"):
            folder, _, name = file.path.rpartition("/")
            if name == MANIFEST and (shard := shard_at(folder)) is not None:
                strides = newest.setdefault(shard.partitioning, {})
                found = file.written, shard.input_digest, shard
                if shard.stride not in strides or found[:2] > strides[shard.stride][:2]:
                    strides[shard.stride] = found
        by_time = sorted(newest.items(), key=lambda item: max(one[0] for one in item[1].values()), reverse=True)
        cuts = {cut: {stride: shard for stride, (*_, shard) in strides.items()} for cut, strides in by_time}
        self._delta = list(cuts.pop(WHOLE, {}).values())
        self._cuts = cuts
        whole = [cut for cut, strides in cuts.items() if len(strides) == cut.count]
        self._base = next(iter(whole or cuts), None)
        """The newest cut of which no stride is missing, if there is one."""

    def near(self, shard: ShardId) -> Iterator[ShardId]:
        """Shards that may hold texts of a stride, or of a delta."""
        if shard.method != DELTA and shard.stride in (own := self._cuts.get(shard.partitioning, {})):
            yield own[shard.stride]
        yield from self._delta
        for cut, strides in self._cuts.items():
            by_key = shard.method == cut.method == "content"
            if by_key or cut == self._base:  # an older base has little that a newer one has not
                places = _overlapping(shard, cut) if by_key else range(cut.count)
                yield from (strides[stride] for stride in places if stride in strides)


def _overlapping(shard: ShardId, cut: Partitioning) -> range:
    """Strides of a cut by keys whose ranges overlap a stride's of another such cut."""
    return range(shard.stride * cut.count // shard.count, -(-(shard.stride + 1) * cut.count // shard.count))
