"""How far a long copy is, for a person who waits for it."""

import time

MEGABYTE = 1_000_000
INTERVAL = 2.0  # seconds between two lines


class Progress:
    """Counts bytes and tensors; says every few seconds where it is."""

    def __init__(self, tensors, size, say, clock=time.monotonic):
        self.tensors = tensors
        self.size = size
        self.say = say
        self.clock = clock
        self.start = self.said = clock()
        self.done = 0

    def add(self, tensor_number, size):
        """Count bytes of the tensor with this number, from 1."""
        self.done += size
        if self.clock() - self.said >= INTERVAL:
            self.said = self.clock()
            self.say(self.line(tensor_number))

    def line(self, tensor_number):
        """tensor 12 of 290, 345 of 988 MB, 61.3 MB/s, 10 s left"""
        rate = self.done / self.seconds
        left = (self.size - self.done) / rate if rate > 0 else 0
        return (
            f"tensor {tensor_number} of {self.tensors}, {megabytes(self.done)} of {megabytes(self.size)} MB, "
            f"{rate / MEGABYTE:.1f} MB/s, {left:.0f} s left"
        )

    def summary(self):
        """290 tensors, 988 MB in 16.1 s, 61.3 MB/s"""
        return (
            f"{self.tensors} tensors, {megabytes(self.done)} MB in {self.seconds:.1f} s, "
            f"{self.done / self.seconds / MEGABYTE:.1f} MB/s"
        )

    @property
    def seconds(self):
        return max(self.clock() - self.start, 1e-6)


def megabytes(size):
    """Whole megabytes; small sizes with a digit more."""
    return f"{size / MEGABYTE:.0f}" if size >= 10 * MEGABYTE else f"{size / MEGABYTE:.1f}"
