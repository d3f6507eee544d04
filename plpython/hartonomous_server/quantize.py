"""hart.quantize_model: a model in 8 bits is made of a model, or nothing at all."""

import time

from .database import rows
from .errors import INVALID_NAME, INVALID_PARAMETER_VALUE, NULL_VALUE_NOT_ALLOWED, HartError, quoted
from .ingest import check_name, give_up
from .progress import megabytes
from .report import reported
from .transaction import Transaction

# What the two models are compared on when no text is named: plain prose of several kinds, some hundred tokens.
TEXT = (
    "The lighthouse stood at the end of the stone pier, and every evening the keeper climbed its one hundred and "
    "twelve steps to light the lamp. From the gallery he could see the harbour, the fishing boats on their way home, "
    "and beyond them the open sea. One night a small girl knocked at his door. \"My father has not come back,\" she "
    "said. \"Can you see him from up there?\"\n\n"
    "A database is an organised collection of data that can be searched and changed by many people at the same time. "
    "Each change is part of a transaction: either all of its steps take effect, or none of them does. In 1970 Edgar F. "
    "Codd proposed to store data in tables, whose rows can be combined by the values in their columns."
)


@reported
def quantize_model(plpy, GD, name, method, new_name, text):
    """CALL hart.quantize_model(name, method, new_name, text)"""
    name, new_name = check_arguments(name, method, new_name, text)
    start = time.monotonic()
    transaction = Transaction(plpy)
    begun = rows(
        plpy,
        GD,
        "SELECT source_id, model_id, tiles FROM hart.begin_quantize($1, $2, $3)",
        ["text", "text", "text"],
        [name, method, new_name],
    )[0]
    source, model, tiles = begun["source_id"], begun["model_id"], begun["tiles"]
    try:
        transaction.commit()
        rows(plpy, GD, "SELECT hart.copy_vocabulary($1, $2)", ["int", "int"], [source, model])
        rows(plpy, GD, "SELECT hart.copy_charts($1, $2)", ["int", "int"], [source, model])
        rows(plpy, GD, "SELECT hart.quantize_tiles($1, $2, $3)", ["int", "regclass", "int"], [source, tiles, model])
        rows(plpy, GD, "SELECT hart.finish_ingest($1)", ["int"], [model])
        transaction.commit()
    except BaseException:
        give_up(plpy, GD, model, transaction)
        raise
    seconds = time.monotonic() - start
    plpy.notice(f"model {quoted(new_name)} is ready: {sizes(plpy, GD, source, model)} in {seconds:.1f} s")
    plpy.notice(difference(plpy, GD, name, new_name, text))


def check_arguments(name, method, new_name, text):
    """The names of the two models."""
    if name is None:
        raise HartError("model name must not be null", NULL_VALUE_NOT_ALLOWED, hint="Name the model to quantize.")
    if text == "":
        raise HartError(
            "text must not be empty", INVALID_PARAMETER_VALUE, hint="Pass a text to compare the two models on, or null."
        )
    if new_name is None:
        new_name = f"{name}-{method}"
    try:
        return name, check_name(new_name)
    except HartError as error:
        raise HartError(error.message, INVALID_NAME, hint="Give the new model a name with new_name => '…'.") from None


def sizes(plpy, GD, source, model):
    """168 of 290 tensors in 8 bits, 988 MB became 526 MB"""
    found = rows(
        plpy,
        GD,
        "SELECT pg_catalog.count(*) FILTER (WHERE t.encoding = 'q8') AS quantized, pg_catalog.count(*) AS n,"
        " pg_catalog.pg_relation_size(hart.tiles_of($1)) AS before,"
        " pg_catalog.pg_relation_size(hart.tiles_of($2)) AS after"
        " FROM hart.tensors t WHERE t.model_id = $2",
        ["int", "int"],
        [source, model],
    )[0]
    return (
        f"{found['quantized']} of {found['n']} tensors in 8 bits, "
        f"{megabytes(found['before'])} MB became {megabytes(found['after'])} MB"
    )


def difference(plpy, GD, name, new_name, text):
    """How far the copy is from its source, in a sentence."""
    found = rows(
        plpy,
        GD,
        "SELECT * FROM hart.compare_models($1, $2, $3)",
        ["text", "text", "text"],
        [name, new_name, TEXT if text is None else text],
    )[0]
    if not found["tokens"]:
        return "the text has too few tokens to compare the two models on"
    return (
        f"on a text of {found['tokens'] + 1} tokens: perplexity {found['perplexity_b']:.4f} instead of "
        f"{found['perplexity_a']:.4f}, divergence {found['divergence']:.1e} nats a token, "
        f"the same likeliest token for {100 * found['same_choices']:.1f} %"
    )
