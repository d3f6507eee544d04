"""What the verbs of the client answer with."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import List, Optional


@dataclass(frozen=True)
class Model:
    """A row of hart.models."""

    name: str
    architecture: str
    parameters: int
    bytes_in: int
    bytes_stored: Optional[int]
    state: str
    ready_at: Optional[datetime]
    context_length: int


@dataclass(frozen=True)
class Progress:
    """A row of hart.ingest_progress: how far an ingestion is."""

    name: str
    tensors_done: int
    tensors_total: int
    current_tensor: Optional[str]
    bytes_done: int
    bytes_total: int
    time_left: Optional[timedelta]


@dataclass(frozen=True)
class Token:
    """A token of a text; the piece shows a character that it holds only a part of as U+FFFD."""

    id: int
    piece: str


@dataclass(frozen=True)
class Generation:
    """A continuation, and what it took."""

    text: str
    tokens: List[int]
    seconds: float

    @property
    def tokens_per_second(self) -> float:
        return len(self.tokens) / self.seconds
