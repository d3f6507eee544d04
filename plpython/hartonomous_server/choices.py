"""The likeliest of many texts: exact best-first search in the prefix tree of their tokens.

A log-probability only falls as tokens are added, so the first whole choice that leaves the queue is the likeliest.
"""

import hashlib
import heapq
from collections import OrderedDict
from itertools import pairwise

import numpy

from .errors import INVALID_PARAMETER_VALUE, NULL_VALUE_NOT_ALLOWED, PROGRAM_LIMIT_EXCEEDED, HartError, quoted
from .handles import Handles
from .report import reported
from .tokens import check_ids
from .vocabulary import kept, session_vocabulary

TREES = 4  # kept in a session
NODES, ROWS = 32, 128  # run at once at most: nodes of the tree, and tokens
HELD = 72  # nodes whose keys and values are kept; more than twice NODES


@reported
def open_choices(plpy, GD, prompt, choices, model, max_positions, every):
    """hart.open_choices"""
    check_choices(choices)
    vocabulary = session_vocabulary(plpy, GD, model)
    check_ids(prompt, vocabulary.size)
    at_start = not vocabulary.tokenizer.decode(prompt, skip_special_tokens=True)
    digest = hashlib.blake2b("\0".join(choices).encode()).digest()
    cache = GD.setdefault("hartonomous_choices", OrderedDict())
    tree = kept(cache, (vocabulary, at_start, digest), TREES, lambda: Tree(vocabulary, choices, at_start))
    if len(prompt) + tree.longest - 1 > max_positions:
        raise HartError(
            f"prompt of {len(prompt)} tokens and choice of {tree.longest} exceed the context length of {max_positions}",
            PROGRAM_LIMIT_EXCEEDED,
            hint="Shorten the prompt or the longest choice.",
        )
    return searches(GD).open(plpy, GD, Search(tree, len(prompt), every))


@reported
def next_choices(plpy, GD, handle, logits):
    """hart.next_choices"""
    search = searches(GD).find(handle)
    search.take(logits)
    return search.next()


@reported
def found_choices(plpy, GD, handle):
    """hart.found_choices"""
    search = searches(GD).find(handle)
    searches(GD).close(handle)
    tokens = search.tree.sequences()
    found = [(index + 1, logprob, tokens(index)) for logprob, index in search.found]
    return sorted(found, key=lambda row: (-row[1], row[0]))


def searches(GD):
    """The searches of this session."""
    if "hartonomous_searches" not in GD:
        GD["hartonomous_searches"] = Handles("search", "Open it with hart.open_choices in this transaction.")
    return GD["hartonomous_searches"]


def check_choices(choices):
    """Choices are texts, one at least."""
    if choices is None:
        raise HartError("choices must not be null", NULL_VALUE_NOT_ALLOWED, hint="Pass an array of texts.")
    if not choices:
        raise HartError(
            "there are no choices", INVALID_PARAMETER_VALUE, hint="Pass one or more; is the query for them empty?"
        )
    if isinstance(choices[0], list):
        raise HartError(
            "choices must be an array of one dimension", INVALID_PARAMETER_VALUE, hint="Pass the texts in one row."
        )
    if None in choices:
        raise HartError(
            "choices must not be null", NULL_VALUE_NOT_ALLOWED, hint="Remove the nulls, with array_remove for example."
        )
    if "" in choices:
        raise HartError(
            "choices must not be empty texts",
            INVALID_PARAMETER_VALUE,
            hint="Remove them, with array_remove for example.",
        )


class Tree:
    """Choices as sequences of tokens in their order: those with a common beginning are neighbours, the shortest first.

    A node of the tree is a range of them and the number of tokens that they have in common. Of choices with the same
    tokens only the first is there.
    """

    def __init__(self, vocabulary, choices, at_start):
        ids = vocabulary.continuations(choices, at_start)
        lengths = numpy.fromiter(map(len, ids), numpy.int64, len(ids))
        flat = numpy.fromiter((token for part in ids for token in part), numpy.int32, lengths.sum())
        starts = numpy.cumsum(lengths) - lengths
        self._check(choices, vocabulary.unknown, flat, starts, lengths)
        # As big-endian bytes, sequences sort as their tokens do.
        data = flat.astype(">i4").tobytes()
        keys = [data[4 * start : 4 * (start + length)] for start, length in zip(starts.tolist(), lengths.tolist())]
        order = sorted(range(len(keys)), key=keys.__getitem__)
        order = [order[0], *(n for before, n in pairwise(order) if keys[before] != keys[n])]
        self.index = numpy.array(order)
        self.flat, self.starts, self.lengths = flat, starts[order], lengths[order]
        self.longest = int(lengths.max())

    def _check(self, choices, unknown, flat, starts, lengths):
        strange = numpy.flatnonzero(lengths == 0)
        if unknown is not None:
            strange = numpy.append(strange, numpy.searchsorted(starts, numpy.flatnonzero(flat == unknown), "right") - 1)
        if strange.size:
            raise HartError(
                f"choice {quoted(choices[int(strange[0])])} has characters that the model's tokenizer does not know",
                INVALID_PARAMETER_VALUE,
                hint="Leave it out, or write it with other characters.",
            )

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


class State:
    """Keys and values of some tokens behind the prompt: a sequence of the context, while it is kept.

    `waiting` counts what goes on from here: entries of the queue, and states of which the same is true. `longer` is a
    state whose sequence begins with what this one is about.
    """

    def __init__(self, sequence, depth, parent=None):
        self.sequence, self.depth, self.parent, self.waiting, self.longer = sequence, depth, parent, 0, None

    def nearest(self):
        """What is kept of the way here: a state, and how many tokens of it."""
        state = self
        while state.sequence is None:
            if state.longer and state.longer.sequence is not None:
                return state.longer, state.depth
            state = state.parent
        return state, state.depth


class Search:
    """The queue. An entry is (-log-probability, 1 when the choice is whole, its place, …): what is likelier comes first."""

    def __init__(self, tree, n_prompt, every):
        self.tree, self.n_prompt, self.every = tree, n_prompt, every
        self.prompt = State(0, 0)
        self.queue, self.found = [], []
        self.free, self.kept = list(range(HELD, 0, -1)), OrderedDict()
        self.running = [(0.0, 0, len(tree.index), 0, self.prompt, 0, self.prompt, 0)]
        self.unused = []
        self.width = 4  # nodes to run next: a search that takes long takes more of the likeliest at once

    def take(self, logits):
        """Note the results of what next() asked for; at first, of the prompt."""
        row = 0
        for logprob, low, high, depth, _, shared, state, end in self.running:
            # The last row of the prompt counts as the one before the first token.
            n_rows = max(end - shared, 1)
            before = state.parent
            while before and before.depth > shared:
                before.longer, before = state, before.parent
            self._expand(logits[row : row + n_rows], logprob, low, high, depth, state, end)
            row += n_rows
        for state in self.unused:
            self._hand_on(state)
        self.running, self.unused = [], []

    def _expand(self, logits, logprob, low, high, depth, state, end):
        """What follows `depth` tokens of known probability, by the logits after each up to `end`."""
        tree = self.tree
        rows = logits[max(len(logits) - 1 - (end - depth), 0) :]
        totals = log_sums(rows)
        common = tree.common(low, high)
        certain = tree.tokens(low, depth, min(common, end + 1))
        for row, token in enumerate(certain):
            logprob += float(rows[row, token]) - totals[row]
        depth += len(certain)
        if end < common:
            self._put(logprob, low, high, depth, state)
        else:
            lows, highs, tokens, ends_here = tree.branches(low, high, depth)
            logprobs = logprob + rows[-1, tokens].astype(numpy.float64) - totals[-1]
            if ends_here:
                others = rows[-1:].copy()
                others[0, tokens] = -numpy.inf
                self._put(logprob + log_sums(others)[0] - totals[-1], low, low + 1, depth, state)
            for child in zip(logprobs.tolist(), lows.tolist(), highs.tolist()):
                self._put(*child, depth + 1, state)
        while not state.waiting and state.parent:
            self.unused.append(state)
            state = state.parent
            state.waiting -= 1

    def _put(self, logprob, low, high, depth, state):
        whole = high - low == 1 and self.tree.lengths[low] == depth
        if not whole:
            state.waiting += 1
        place = int(self.tree.index[low]) if whole else low
        heapq.heappush(self.queue, (-float(logprob), int(whole), place, high, depth, state if not whole else None))

    def next(self):
        """The forks to make (from, to, positions) and what to run (tokens, sequences, positions); NULL at the end."""
        rows, self.width = 0, min(2 * self.width, NODES)
        while self.queue and len(self.running) < self.width and rows < ROWS:
            cost, whole, place, high, depth, state = self.queue[0]
            if whole:
                if self.running and not self.every:
                    break
                heapq.heappop(self.queue)
                self.found.append((-cost, place))
                if not self.every:
                    return None, None, None, None, None, None
                continue
            heapq.heappop(self.queue)
            rows += self._run(-cost, place, high, depth, state)
        if not self.running:
            return None, None, None, None, None, None
        forks, tokens, sequences, positions = [], [], [], []
        for _, low, _, _, start, shared, state, end in self.running:
            forks.append((start.sequence, state.sequence, self.n_prompt + shared))
            tokens += self.tree.tokens(low, shared, end).tolist()
            sequences += [state.sequence] * (end - shared)
            positions += range(self.n_prompt + shared, self.n_prompt + end)
        return *map(list, zip(*forks)), tokens, sequences, positions

    def _run(self, logprob, low, high, depth, parent):
        """Add a node to what is run next; the number of its rows."""
        start, shared = parent.nearest()
        if start in self.kept:
            self.kept.move_to_end(start)
        end = self.tree.common(low, high) - (high - low == 1)
        end = min(end, max(depth, shared + ROWS))
        # It waits in the place of its entry.
        state = State(self._sequence(start), end, parent)
        self.kept[state] = None
        self.running.append((logprob, low, high, depth, start, shared, state, end))
        return end - shared

    def _sequence(self, start):
        """A sequence that is free, or else that of the state used least recently which nothing of this batch needs."""
        if not self.free:
            needed = {start, *(part for entry in self.running for part in (entry[4], entry[6]))}
            oldest = next(state for state in self.kept if state not in needed)
            self._release(oldest)
        return self.free.pop()

    def _hand_on(self, state):
        """Nothing goes on from a state any more: what was kept for it serves one before it, or is free."""
        heir = state.parent
        while heir.sequence is None and not heir.waiting:
            heir = heir.parent
        if state in self.kept and heir.sequence is None:
            del self.kept[state]
            self.kept[heir] = None
            heir.sequence, state.sequence = state.sequence, None
        else:
            self._release(state)

    def _release(self, state):
        if self.kept.pop(state, 0) is None:
            self.free.append(state.sequence)
            state.sequence = None


def log_sums(rows):
    """The logarithm of the sum of the exponentials of each row."""
    largest = rows.max(axis=1, keepdims=True)
    return numpy.log(numpy.exp(rows - largest).sum(axis=1, dtype=numpy.float64)) + largest[:, 0]
