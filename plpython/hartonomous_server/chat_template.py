"""Chats as the text that a model was trained on, by the Jinja template that came with it."""

from collections import OrderedDict
from contextlib import contextmanager
from functools import lru_cache

import jinja2

from .chat_messages import chat_messages, chat_tools
from .database import rows
from .errors import (
    BAD_FILE_FORMAT,
    INSUFFICIENT_PRIVILEGE,
    INVALID_PARAMETER_VALUE,
    NULL_VALUE_NOT_ALLOWED,
    HartError,
    listed,
)
from .jsonfile import parse_object
from .report import reported
from .template_sandbox import new_environment, watched
from .tokens import session_tokenizer

CONFIG, JINJA, LEGACY, SPECIAL = (
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "special_tokens_map.json",
)
# What a template is asked to lay out, to see how it ends an answer.
QUESTION, ANSWER = "How many?", "forty-two"
# Chat settings of models kept in a session.
CACHED = 16
DAMAGED = "Correct the model's tokenizer_config.json and ingest it again."
OBJECTION = (
    "Check roles, their order and the content of the messages: the template was written for its model's own chats."
)


@reported
def apply(plpy, GD, messages, tools, add_generation_prompt, model, ordered=False):
    """hart.apply_chat_template; `ordered` tells that tools came as a text, with their keys in the user's order."""
    if add_generation_prompt is None:
        raise HartError(
            "add_generation_prompt must not be null", NULL_VALUE_NOT_ALLOWED, hint="Pass true to have the model answer."
        )
    chat, functions = chat_messages(messages), chat_tools(tools, ordered)
    template, special_tokens = session_settings(plpy, GD, model)
    source = chosen(template, functions)

    def check_interrupts():
        rows(plpy, GD, "SELECT 1")

    return render(
        source,
        check_interrupts,
        **special_tokens,
        messages=chat,
        tools=functions,
        documents=None,
        add_generation_prompt=add_generation_prompt,
    )


@reported
def end_tokens(plpy, GD, model):
    """hart.chat_end_tokens: the eos_token of tokenizer_config.json and what the template writes after an answer.

    Both end an answer where the model's own end of text may not.
    """
    template, special_tokens = session_settings(plpy, GD, model)
    tokenizer, vocab_size = session_tokenizer(plpy, GD, model)

    def check_interrupts():
        rows(plpy, GD, "SELECT 1")

    found = [
        tokenizer.token_to_id(special_tokens["eos_token"]) if "eos_token" in special_tokens else None,
        token_after_answer(template, special_tokens, tokenizer, check_interrupts),
    ]
    return sorted({token for token in found if token is not None and token < vocab_size})


def token_after_answer(template, special_tokens, tokenizer, check_interrupts):
    """The special token that the template writes behind what the assistant says; None when it writes another text, or
    refuses a question and an answer."""
    chat = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
    try:
        text = render(
            chosen(template, None),
            check_interrupts,
            **special_tokens,
            messages=chat,
            tools=None,
            documents=None,
            add_generation_prompt=False,
        )
    except HartError as problem:
        if problem.sqlstate != INVALID_PARAMETER_VALUE:
            raise
        return None
    _, answer, rest = text.rpartition(ANSWER)
    tokens = tokenizer.encode(rest.lstrip(), add_special_tokens=False).ids if answer else []
    added = tokenizer.get_added_tokens_decoder()
    return tokens[0] if tokens and tokens[0] in added and added[tokens[0]].special else None


def session_settings(plpy, GD, model):
    """The template (a text, a dict of named ones, or None) and the special tokens, from the session's cache while the files are the same."""
    names = [CONFIG, JINJA, LEGACY, SPECIAL]
    found = rows(
        plpy,
        GD,
        "SELECT m.model_id, array_agg(f.sha256 ORDER BY f.name) AS sums"
        " FROM (SELECT hart.resolve_model($1) AS model_id) m LEFT JOIN hart.model_files f"
        " ON f.model_id = m.model_id AND f.name = ANY ($2) GROUP BY m.model_id",
        ["text", "text[]"],
        [model, names],
    )[0]
    key = found["model_id"], tuple(None if sum is None else bytes(sum) for sum in found["sums"])
    cache = GD.setdefault("hartonomous_chat_settings", OrderedDict())
    if key not in cache:
        files = rows(
            plpy,
            GD,
            "SELECT name, content FROM hart.model_files WHERE model_id = $1 AND name = ANY ($2)",
            ["int", "text[]"],
            [found["model_id"], names],
        )
        cache[key] = read_settings({file["name"]: bytes(file["content"]) for file in files})
        while len(cache) > CACHED:
            cache.popitem(last=False)
    cache.move_to_end(key)
    return cache[key]


def read_settings(files):
    """(template, special tokens) of a model's files."""
    config = parse_object(files[CONFIG], CONFIG) if CONFIG in files else {}
    return find_template(config, files), find_special_tokens(config, files)


def find_template(config, files):
    """A file of its own comes before tokenizer_config.json, as in transformers; chat_template.json is what processors once wrote."""
    if JINJA in files:
        try:
            return files[JINJA].decode("utf-8")
        except UnicodeDecodeError as problem:
            raise bad_template(f"{JINJA} is not UTF-8: {problem.reason} at byte {problem.start}.") from None
    template = config.get("chat_template")
    if template is None and LEGACY in files:
        template = parse_object(files[LEGACY], LEGACY).get("chat_template")
    if isinstance(template, list):
        try:
            template = {item["name"]: item["template"] for item in template}
        except (TypeError, KeyError):
            raise bad_template("chat_template lists something that has no name and template.") from None
    texts = template.values() if isinstance(template, dict) else [template]
    if template is not None and not all(isinstance(text, str) for text in texts):
        raise bad_template("chat_template is neither a text nor a list of named texts.")
    return template


def find_special_tokens(config, files):
    """bos_token, eos_token and their like, as texts. The old special_tokens_map.json counts only where transformers reads it."""
    found = dict(config)
    if SPECIAL in files and "added_tokens_decoder" not in config:
        found.update(parse_object(files[SPECIAL], SPECIAL))
    if isinstance(found.get("extra_special_tokens"), dict):
        found.update(found["extra_special_tokens"])
    tokens = {}
    for key, value in found.items():
        if isinstance(value, dict):
            value = value.get("content")
        if key.endswith("_token") and isinstance(value, str):
            tokens[key] = value
    return tokens


def chosen(template, tools):
    """The template for a chat with or without tools."""
    if template is None:
        raise HartError(
            "the model has no chat template",
            INVALID_PARAMETER_VALUE,
            detail=f"It came without {JINJA}, and its {CONFIG} without chat_template.",
            hint="Use hart.generate with a prompt of plain text, or a model trained for chats.",
        )
    if isinstance(template, str):
        return template
    name = "tool_use" if tools is not None and "tool_use" in template else "default"
    if name not in template:
        raise bad_template(f"chat_template has no template named default, only {listed(sorted(template))}.")
    return template[name]


def bad_template(detail):
    return HartError("the model's chat template is not valid", BAD_FILE_FORMAT, detail=detail, hint=DAMAGED)


@lru_cache(CACHED)
def compiled(source):
    return new_environment().from_string(source)


def render(source, check_interrupts, **variables):
    """The text of a chat."""
    with template_errors():
        template = compiled(source)
        with watched(check_interrupts):
            text = template.render(variables)
    # PostgreSQL's text holds neither a NUL nor half a surrogate pair.
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


@contextmanager
def template_errors():
    """Whatever goes wrong in a template is a clean error that tells what the template said."""
    try:
        yield
    except jinja2.TemplateSyntaxError as problem:
        raise bad_template(f"Line {problem.lineno}: {problem.message}") from None
    except jinja2.exceptions.SecurityError as problem:
        raise HartError(
            "the model's chat template tries to leave its sandbox",
            INSUFFICIENT_PRIVILEGE,
            detail=str(problem),
            hint="Look at the template, and at where the model came from, before you use it any more.",
        ) from None
    except jinja2.TemplateError as problem:
        raise objection(str(problem)) from None
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RuntimeError) as problem:
        raise objection(f"{type(problem).__name__}: {problem}") from None


def objection(detail):
    return HartError(
        "the model's chat template refuses these messages", INVALID_PARAMETER_VALUE, detail=detail, hint=OBJECTION
    )
