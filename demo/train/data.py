"""Token batches: a pure function of (seed, step), so that a resumed run sees what an uninterrupted one would."""

import numpy as np
import torch
from tokenizers import Tokenizer

import corpus
import tokenizer as bpe


class Pages:
    """The training pages as tokens; every epoch shuffles them, packs them end to end and cuts windows."""

    def __init__(self, work, context, batch, seed):
        tokenizer = Tokenizer.from_file(str(work / "tokenizer.json"))
        self.end = tokenizer.token_to_id(bpe.END)
        self.pages = [np.array([self.end] + e.ids) for e in tokenizer.encode_batch(corpus.load(work, "train"))]
        self.context, self.batch, self.seed = context, batch, seed
        # One window fewer than fit, so that an epoch may start anywhere in the first one.
        self.windows = sum(map(len, self.pages)) // context - 1
        self.steps_per_epoch = self.windows // batch
        self._epoch = None

    def batch_at(self, step):
        """-> (batch, context + 1) tokens: inputs and, shifted by one, targets."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, rng = epoch, np.random.default_rng([self.seed, epoch])
            stream = np.concatenate([self.pages[i] for i in rng.permutation(len(self.pages))])
            self._stream = torch.from_numpy(stream[rng.integers(self.context):])
            self._order = rng.permutation(self.windows - 1)
        rows = self._order[index * self.batch:(index + 1) * self.batch]
        return torch.stack([self._stream[r * self.context:(r + 1) * self.context + 1] for r in rows])
