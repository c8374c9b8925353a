"""Which documents are held out for validation: the same ones however often it is asked."""

from __future__ import annotations

import heapq

from electra.corpus.encoding import EncodedDocument
from electra.corpus.filters import uniform
from electra.corpus.shards import ShardWriter

VALIDATION_TOKENS = 2_048
"""A validation split smaller than this is filled up, to a tenth of the corpus at most."""
HELD_DOCUMENTS = 256
HELD_TOKENS = 2**25


class Splitter:
    """Writes documents to train and validation as they come, by their digests.

    Those whose digest says so go to validation, as long as it then has a tenth of the tokens at
    most, or of a larger share half as much again: one long document must not take the training
    text away. Where that gives less than `VALIDATION_TOKENS`, others follow.
    """

    def __init__(self, writers: dict[str, ShardWriter], share: float) -> None:
        """Take the writers of `train` and `validation` and the share of the documents held out."""
        self._writers, self._share = writers, share
        self._most = max(0.1, 1.5 * share)
        # those of the smallest digests are held back: they fill a validation split that is small
        self._held: list[tuple[bytes, int, EncodedDocument]] = []
        self._held_tokens = self._number = self._in_validation = 0
        self.tokens = 0
        """Of all documents."""

    def add(self, digest: bytes, document: EncodedDocument) -> None:
        """Take the next document; it may be held back until `finish`."""
        size = len(document.ids)
        if not size:
            return
        self.tokens += size
        self._number += 1
        if uniform(digest) < self._share and self._has_room(document, self._most):
            self._put("validation", document)
            return
        entry = (_inverted(digest), self._number, document)
        heapq.heappush(self._held, entry)
        self._held_tokens += size
        while len(self._held) > HELD_DOCUMENTS or self._held_tokens > HELD_TOKENS:
            if len(self._held) == 1:
                break
            last = heapq.heappop(self._held)[-1]
            self._held_tokens -= len(last.ids)
            self._put("train", last)

    def finish(self) -> None:
        """Deal what was held back; neither split is empty if there are two documents."""
        held = sorted(self._held, reverse=True)  # the smallest digest first
        if self._writers["train"].is_empty and len(held) > 1:
            # the training split has one at least
            longest = max(range(len(held)), key=lambda n: len(held[n][-1].ids))
            self._put("train", held.pop(longest)[-1])
        left = []
        for inverted, _, document in held:
            small = self._in_validation < min(VALIDATION_TOKENS, self.tokens / 10)
            # one that came early may have been too long for what there was by then
            chosen = uniform(_inverted(inverted)) < self._share
            if (small or chosen) and self._has_room(document, self._most if chosen else 0.1):
                self._put("validation", document)
            else:
                left.append(document)
        if self._writers["validation"].is_empty and left:
            shortest = min(range(len(left)), key=lambda n: len(left[n].ids))
            self._put("validation", left.pop(shortest))
        for document in left:
            self._put("train", document)

    def _has_room(self, document: EncodedDocument, most: float) -> bool:
        return self._in_validation + len(document.ids) <= most * self.tokens

    def _put(self, name: str, document: EncodedDocument) -> None:
        self._writers[name].add(document.ids, document.line_lengths, document.starts_word)
        self._in_validation += len(document.ids) if name == "validation" else 0


def _inverted(digest: bytes) -> bytes:
    """The smallest becomes the largest, and back."""
    return bytes(255 - b for b in digest)
