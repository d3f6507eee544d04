"""A process that measures one engine when it is asked to: requests come in as lines of JSON, times go out.

The engines stay loaded between the rounds, so that what is timed is their work and not their start.
"""

import base64
import json
import os
import sys
import time

import numpy as np


def some_tokens(n, vocab_size):
    """Token ids spread over the vocabulary; pg_temp.some_tokens of measure.sql makes the same."""
    return [(i * 7919 + 11) % vocab_size for i in range(1, n + 1)]


def milliseconds(work):
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def encoded(logits):
    """A row of logits as it travels."""
    return base64.b64encode(np.asarray(logits, "<f4").tobytes()).decode()


def answers_only():
    """A file for the answers, in place of standard output: libraries print there too, and that goes to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def serve(engine):
    """Call the method of the engine that each request names, until there are no more."""
    answers = answers_only()
    for line in sys.stdin:
        request = json.loads(line)
        result = getattr(engine, request.pop("measure"))(**request)
        print(json.dumps(result), file=answers, flush=True)
