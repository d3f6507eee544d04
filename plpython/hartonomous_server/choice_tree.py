"""Choices as a prefix tree of their tokens."""

from itertools import chain, pairwise

import numpy

from .database import rows
from .errors import INVALID_PARAMETER_VALUE, HartError, quoted
from .vocabulary import session_vocabulary


def tokenized(plpy, GD, choices, model, at_start):
    """Tokens of all choices, and where those of each begin and how many they are.

    Those that the server tokenizes by itself come first; the library, which takes its time, is for the others.
    """
    sql = "SELECT tokens, lengths FROM hart.tokenize_plain($1, $2)"
    found = rows(plpy, GD, sql, ["text[]", "text"], [choices, model])[0]
    left = [place for place, length in enumerate(found["lengths"]) if length is None]
    flat, lengths = numpy.array(found["tokens"], numpy.int32), numpy.array(found["lengths"], numpy.float64)
    others = []
    if left:
        vocabulary = session_vocabulary(plpy, GD, model)
        others = vocabulary.continuations([choices[place] for place in left], at_start)
        check_known([choices[place] for place in left], others, vocabulary.unknown)
    return joined(flat, lengths, others)


def joined(flat, lengths, others):
    """The tokens of some choices with those of the others, which have no length yet."""
    order = numpy.argsort(numpy.isnan(lengths), kind="stable")
    lengths[numpy.isnan(lengths)] = [len(ids) for ids in others]
    lengths = lengths.astype(numpy.int64)
    starts = numpy.empty_like(lengths)
    starts[order] = numpy.cumsum(lengths[order]) - lengths[order]
    more = numpy.fromiter(chain.from_iterable(others), numpy.int32, sum(map(len, others)))
    return numpy.concatenate((flat, more)), starts, lengths


def check_known(choices, tokens, unknown):
    """Each choice has tokens, and none is the one for what is not known."""
    for choice, ids in zip(choices, tokens):
        if not ids or unknown in ids:
            raise HartError(
                f"choice {quoted(choice)} has characters that the model's tokenizer does not know",
                INVALID_PARAMETER_VALUE,
                hint="Leave it out, or write it with other characters.",
            )


class Tree:
    """Choices as sequences of tokens in their order: those with a common beginning are neighbours, the shortest first.

    A node of the tree is a range of them and the number of tokens that they have in common. Of choices with the same
    tokens only the first is there.
    """

    def __init__(self, flat, starts, lengths):
        # As big-endian bytes, sequences sort as their tokens do.
        data = flat.astype(">i4").tobytes()
        keys = [data[4 * start : 4 * (start + length)] for start, length in zip(starts.tolist(), lengths.tolist())]
        order = sorted(range(len(keys)), key=keys.__getitem__)
        order = [order[0], *(n for before, n in pairwise(order) if keys[before] != keys[n])]
        self.index = numpy.array(order)
        self.flat, self.starts, self.lengths = flat, starts[order], lengths[order]
        self.longest = int(lengths.max())

    def tokens(self, choice, first, last):
        """Tokens first to last of a choice, the last one excluded."""
        start = int(self.starts[choice])
        return self.flat[start + first : start + last]

    def sequences(self):
        """place in the array of choices → the tokens of that choice."""
        at = numpy.empty(self.index.max() + 1, numpy.int64)
        at[self.index] = numpy.arange(len(self.index))
        return lambda place: self.tokens(at[place], 0, self.lengths[at[place]]).tolist()

    def common(self, low, high):
        """How many tokens the choices of a range begin with in common: as many as the outermost two have."""
        length = int(min(self.lengths[low], self.lengths[high - 1]))
        differs = self.tokens(low, 0, length) != self.tokens(high - 1, 0, length)
        return int(numpy.argmax(differs)) if differs.any() else length

    def branches(self, low, high, depth):
        """Where the ranges of the next token begin and end, their tokens, and whether a choice ends here."""
        ends_here = bool(self.lengths[low] == depth)
        low += ends_here
        tokens = self.flat[self.starts[low:high] + depth]
        borders = low + 1 + numpy.flatnonzero(tokens[1:] != tokens[:-1])
        lows = numpy.concatenate(([low], borders))
        return lows, numpy.append(borders, high), tokens[lows - low], ends_here
