"""The likeliest of many texts: best-first search in the prefix tree of their tokens, a beam where that takes too long.

A log-probability only falls as tokens are added, so the first whole choice that leaves the queue is the likeliest.
"""

import heapq
from collections import OrderedDict, deque

import numpy

NODES, ROWS = 32, 128  # run at once at most: nodes of the tree, and tokens
HELD = 256  # nodes whose keys and values are kept at most; what left is run again


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
    """The queue. An entry is (-log-probability, 1 when the choice is whole, its place, …): the likelier comes first.

    `bound` is how many tokens may be run for a certain answer, None without one; `held` how many nodes have memory for
    keys and values.
    """

    def __init__(self, tree, n_prompt, every, bound=None, held=HELD):
        self.tree, self.n_prompt, self.every, self.bound = tree, n_prompt, every, bound
        self.nodes = max(min(NODES, (held - 1) // 2), 1)
        self.prompt = State(0, 0)
        self.queue, self.found = [], []
        self.free, self.kept = list(range(max(held, 3), 0, -1)), OrderedDict()
        self.running = [(0.0, 0, len(tree.index), 0, self.prompt, 0, self.prompt, 0)]
        self.n_run = 0  # tokens
        # A beam of this width runs about as many tokens as were in vain before it.
        self.beam = max(NODES, bound // tree.longest) if bound else NODES
        self.level, self.given_up = deque(), -numpy.inf  # what the beam runs next, and the likeliest that it does not
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
        if self.bound is not None and self.n_run >= self.bound:
            self._narrow()
        else:
            self._widen()
        if not self.running:
            return None, None, None, None, None, None
        forks, tokens, sequences, positions = [], [], [], []
        for _, low, _, _, start, shared, state, end in self.running:
            forks.append((start.sequence, state.sequence, self.n_prompt + shared))
            tokens += self.tree.tokens(low, shared, end).tolist()
            sequences += [state.sequence] * (end - shared)
            positions += range(self.n_prompt + shared, self.n_prompt + end)
        self.n_run += len(tokens)
        return *map(list, zip(*forks)), tokens, sequences, positions

    def certain(self):
        """Whether what was found is the likeliest of all."""
        return self.given_up < self.found[0][0]

    def _widen(self):
        """Best first: run what is likeliest, until that is a whole choice."""
        rows, self.width = 0, min(2 * self.width, self.nodes)
        # Tokens without an alternative run ahead where the batch has room for them.
        ahead = ROWS if self.every or len(self.queue) <= self.width else 0
        while self.queue and len(self.running) < self.width and rows < ROWS:
            cost, whole, place, high, depth, state = self.queue[0]
            if whole and self.running and not self.every:
                break
            heapq.heappop(self.queue)
            if not whole:
                rows += self._run(-cost, place, high, depth, state, ahead)
                continue
            self.found.append((-cost, place))
            if not self.every:
                break

    def _narrow(self):
        """A beam: of the nodes with equally many tokens, the fewest first, run the likeliest and give up the others."""
        if not self.level:
            self.level = self._next_level()
        rows = 0
        while self.level and len(self.running) < self.nodes and rows < ROWS:
            cost, _, place, high, depth, state = self.level.popleft()
            rows += self._run(-cost, place, high, depth, state, 0)
        if not self.running:
            cost, _, place, *_ = self.queue[0]
            self.found.append((-cost, place))

    def _next_level(self):
        """What a beam runs next; empty when the best whole choice is the likeliest, then alone in the queue."""
        best = min((entry for entry in self.queue if entry[1]), default=None)
        nodes = sorted(entry for entry in self.queue if not entry[1] and (best is None or entry < best))
        depth = min((entry[4] for entry in nodes), default=0)
        level = [entry for entry in nodes if entry[4] == depth]
        self.queue = [entry for entry in nodes if entry[4] > depth] + [best] * (best is not None)
        for cost, *_ in level[self.beam : self.beam + 1]:
            self.given_up = max(self.given_up, -cost)
        return deque(level[: self.beam])

    def _run(self, logprob, low, high, depth, parent, ahead):
        """Add a node to what is run next, and so many tokens ahead that have no alternative; the number of its rows."""
        start, shared = parent.nearest()
        if start in self.kept:
            self.kept.move_to_end(start)
        end = self.tree.common(low, high) - (high - low == 1)
        end = min(end, max(depth, shared + ROWS), depth + ahead)
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
