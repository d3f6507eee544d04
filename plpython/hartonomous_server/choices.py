"""The likeliest of many texts, as functions of SQL. The search is in choice_search.py, the tree in choice_tree.py."""

import hashlib
from collections import OrderedDict

from .choice_search import HELD, Search
from .choice_tree import Tree, tokenized
from .database import rows, scalar
from .errors import INVALID_PARAMETER_VALUE, NULL_VALUE_NOT_ALLOWED, PROGRAM_LIMIT_EXCEEDED, HartError
from .handles import Handles
from .report import reported
from .tokens import check_ids, stored_tokenizer
from .vocabulary import kept

TREES = 4  # kept in a session

# hart.choice_tokens = -1: tokens times parameters, which takes as long on every model; but no fewer tokens than this
WORK, BOUND = 10**11, 512


@reported
def open_choices(plpy, GD, prompt, choices, model, max_positions, every):
    """hart.open_choices"""
    check_choices(choices)
    tree = session_tree(plpy, GD, prompt, choices, model)
    if len(prompt) + tree.longest - 1 > max_positions:
        raise HartError(
            f"prompt of {len(prompt)} tokens and choice of {tree.longest} exceed the context length of {max_positions}",
            PROGRAM_LIMIT_EXCEEDED,
            hint="Shorten the prompt or the longest choice.",
        )
    bound, held = limits(plpy, GD, model, len(prompt), tree.longest)
    return searches(GD).open(plpy, GD, Search(tree, len(prompt), every, None if every else bound, held))


@reported
def next_choices(plpy, GD, handle, logits):
    """hart.next_choices"""
    search = searches(GD).find(handle)
    search.take(logits)
    step = search.next()
    if not search.running and not search.certain():
        plpy.notice(
            f"the likeliest of {len(search.tree.index)} choices is not certain after {search.bound} tokens",
            hint="Set hart.choice_tokens higher, or to 0 for a certain answer.",
        )
    return step


@reported
def found_choices(plpy, GD, handle):
    """hart.found_choices"""
    search = searches(GD).find(handle)
    searches(GD).close(handle)
    tokens = search.tree.sequences()
    found = [(index + 1, logprob, tokens(index)) for logprob, index in search.found]
    return sorted(found, key=lambda row: (-row[1], row[0]))


def session_tree(plpy, GD, prompt, choices, model):
    """The tree of the choices, from the session's cache when they and the tokenizer are still the same."""
    tokenizer, vocab_size = stored_tokenizer(plpy, GD, model)
    check_ids(prompt, vocab_size)
    version = "SELECT pg_catalog.format('%s %s', ctid, xmin) AS value FROM hart.tokenizers WHERE model_id = $1"
    at_start = not scalar(plpy, GD, "SELECT hart.detokenize($1, $2) AS value", ["int[]", "text"], [prompt, model])
    digest = hashlib.blake2b("\0".join(choices).encode()).digest()
    cache = GD.setdefault("hartonomous_choices", OrderedDict())
    key = (tokenizer, scalar(plpy, GD, version, ["int"], tokenizer[:1]), at_start, digest)
    return kept(cache, key, TREES, lambda: Tree(*tokenized(plpy, GD, choices, model, at_start)))


def searches(GD):
    """The searches of this session."""
    if "hartonomous_searches" not in GD:
        GD["hartonomous_searches"] = Handles("search", "Open it with hart.open_choices in this transaction.")
    return GD["hartonomous_searches"]


def limits(plpy, GD, model, n_prompt, longest):
    """How many tokens may be run for a certain answer, None without a limit; how many nodes keep keys and values."""
    sql = """
        SELECT m.parameters, pg_catalog.current_setting('hart.choice_tokens')::int AS bound, s.limit_bytes / 2 AS bytes,
               -- beginnings are shared, but for the block that the prompt ends in
               hart.kv_cache_bytes($2 + $3, $1) - hart.kv_cache_bytes($2, $1) + hart.kv_cache_bytes(1, $1) AS node_bytes
        FROM hart.kv_cache_stats() AS s, hart.model_registry AS m WHERE m.model_id = hart.resolve_model($1)"""
    found = rows(plpy, GD, sql, ["text", "int", "int"], [model, n_prompt, longest])[0]
    bound = found["bound"] if found["bound"] >= 0 else max(BOUND, WORK // found["parameters"])
    return bound or None, min(HELD, found["bytes"] // found["node_bytes"])


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
