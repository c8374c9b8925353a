"""Data sets of the Hugging Face Hub, streamed: nothing but what is read is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from electra.errors import DataError

HUB = "hub:"
"""How a source begins that is no file."""


@dataclass(frozen=True)
class HubDataSet:
    """A split of a data set."""

    name: str
    """`owner/name`, or `name` alone."""
    configuration: str | None = None
    split: str = "train"
    revision: str | None = None
    """A commit, branch or tag; none: the newest."""

    @classmethod
    def parse(cls, source: str) -> HubDataSet:
        """From `hub:owner/name[/configuration][@revision][:split]`.

        Raises:
            DataError: it has another form.
        """
        identity, colon, split = source.removeprefix(HUB).partition(":")
        identity, at, revision = identity.partition("@")
        parts = identity.split("/")
        if (
            not all(parts)
            or len(parts) > 3
            or (colon and not split)
            or (at and not revision)
            or identity.strip() != identity
        ):
            raise DataError(
                f"{source} names no data set; allowed: {HUB}owner/name, "
                f"{HUB}owner/name/configuration, {HUB}owner/name@revision, {HUB}owner/name:split "
                "(train without it)"
            )
        configuration = parts[2] if len(parts) == 3 else None
        return cls("/".join(parts[:2]), configuration, split or "train", revision or None)

    def __str__(self) -> str:
        """As `parse` reads it, the split said."""
        identity = "/".join(filter(None, (self.name, self.configuration)))
        at = f"@{self.revision}" if self.revision else ""
        return f"{HUB}{identity}{at}:{self.split}"

    def pinned(self) -> HubDataSet:
        """The same at the commit it has now: what is read later is what was planned for.

        Raises:
            DataError: it is not there, or the Hub cannot be reached.
        """
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError

        try:
            found = huggingface_hub.dataset_info(self.name, revision=self.revision)
        except (ValueError, HfHubHTTPError) as error:
            raise self._failed(error) from None
        except Exception as error:  # of the network; of what library depends on the version
            raise self._failed(ConnectionError(error)) from None
        return replace(self, revision=found.sha)

    def open(self) -> Any:
        """Its `datasets.IterableDataset`.

        Raises:
            DataError: it is not there, or the Hub cannot be reached.
        """
        import datasets

        try:
            return datasets.load_dataset(
                self.name,
                self.configuration,
                split=self.split,
                revision=self.revision,
                streaming=True,
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise self._failed(error) from None

    def num_shards(self) -> int:
        """How many parts it can be read in, each by itself: the files that it consists of.

        Raises:
            DataError: as `open`.
        """
        return max(1, int(self.open().num_shards))

    def rows(self, shard: int, num_shards: int) -> Iterator[dict[str, Any]]:
        """Rows of one of its shards.

        Raises:
            DataError: as `open`, or its files have changed or cannot be read to their end.
        """
        opened = self.open()
        if max(1, int(opened.num_shards)) != num_shards:
            raise DataError(
                f"{self} has {opened.num_shards} files, and had {num_shards} when this began: it "
                "has changed on the Hub; begin again in a new folder"
            )
        if num_shards > 1:
            opened = opened.shard(num_shards=num_shards, index=shard)
        rows = iter(opened)
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except Exception as error:  # of the network, of a reader, of many libraries
                raise self._failed(error) from None
            yield row

    def path(self) -> Path:
        """What stands for it where complaints name a file."""
        return Path(str(self))

    def _failed(self, error: Exception) -> DataError:
        said = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, (ConnectionError, TimeoutError)) or "reach" in said.lower():
            return DataError(
                f"{self}: the Hub cannot be reached; connect, or give files instead ({said[:200]})"
            )
        return DataError(f"{self} could not be had from the Hub: {said[:300]}")
