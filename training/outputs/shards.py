"""Parts of a list of videos, for processing on several machines or in several processes."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tgdfer.training.errors import UserError
from tgdfer.training.video_paths import natural_sort_key


@dataclass(frozen=True)
class Shard:
    """One part of a list.

    Attributes:
        number (`int`, *optional*, defaults to 1): Number of the part, from 1.
        count (`int`, *optional*, defaults to 1): Number of parts.
    """

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Parses a text such as "3/16", which is the third of sixteen parts.

        Raises:
            UserError: If the text has another format.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise UserError(f"--shard is {text!r}, but must be like 3/16, the third of sixteen parts.")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Shard":
        """Returns the part of this process. `accelerate launch` and `torchrun` set RANK and WORLD_SIZE."""
        return cls(int(environment.get("RANK", 0)) + 1, int(environment.get("WORLD_SIZE", 1)))

    @property
    def is_part(self) -> bool:
        """Whether there are several parts."""
        return self.count > 1

    def of(self, videos: Sequence[str]) -> list[str]:
        """Returns every `count`-th video in natural order. So the part does not depend on the order of the list."""
        return sorted(videos, key=natural_sort_key)[self.number - 1 :: self.count] if self.is_part else list(videos)

    def path(self, path: Path) -> Path:
        """Returns the file of this part, e.g. `found-00003-of-00016.jsonl` for `found.jsonl`."""
        if not self.is_part:
            return path
        return path.with_name(f"{path.stem}-{self.number:05d}-of-{self.count:05d}{path.suffix}")
