"""Messages and tools of a chat: what they must look like, and the order of keys that a template prints."""

import json

from .errors import INVALID_PARAMETER_VALUE, NULL_VALUE_NOT_ALLOWED, HartError, quoted

EXAMPLE = """Pass an array such as [{"role": "user", "content": "Hello"}]."""
TOOLS_HINT = "Pass an array of objects, one for each function that the model may call."

# Names under which a message's reasoning is passed; templates read the first, those of gpt-oss the second.
REASONING = ("reasoning_content", "thinking", "reasoning")

# jsonb forgets the order of keys. In this one definitions of functions are usually written, and were in training.
TOOL_KEYS = (
    "type",
    "function",
    "name",
    "items",
    "enum",
    "nullable",
    "description",
    "parameters",
    "properties",
    "required",
)


def refused(problem, hint=EXAMPLE, sqlstate=INVALID_PARAMETER_VALUE, detail=None):
    return HartError(problem, sqlstate, hint=hint, detail=detail)


def parse(text, what, hint):
    """The value of a JSON text."""

    def no_constant(name):
        raise ValueError(f"{name} is not a JSON number")

    try:
        return json.loads(text, parse_constant=no_constant)
    except RecursionError:
        raise refused(f"{what} are nested too deeply", hint) from None
    except ValueError as problem:
        raise refused(f"{what} are not valid JSON", hint, "22P02", f"{problem}.") from None


def chat_messages(text):
    """The messages as a template takes them: checked, keys without a value left out, reasoning under all its names."""
    if text is None:
        raise refused("messages must not be null", sqlstate=NULL_VALUE_NOT_ALLOWED)
    messages = parse(text, "messages", EXAMPLE)
    if not isinstance(messages, list):
        raise refused(f"messages are not an array, but {kind(messages)}")
    if not messages:
        raise refused("there are no messages")
    for number, message in enumerate(messages, 1):
        check_message(number, message)
    return [with_reasoning({k: v for k, v in message.items() if v is not None}) for message in messages]


def check_message(number, message):
    """A message has a role and, unless the assistant calls tools or thinks, a content."""
    if not isinstance(message, dict):
        raise refused(f"message {number} is not an object, but {kind(message)}")
    role, content = message.get("role"), message.get("content")
    if role is None:
        raise refused(f"message {number} has no role", "Roles are usually system, user, assistant and tool.")
    if not isinstance(role, str) or not role:
        raise refused(
            f"role of message {number} must be a text, not {kind(role)}",
            "Roles are usually system, user, assistant and tool.",
        )
    if content is None:
        if role != "assistant":
            raise refused(f"message {number} has no content")
    elif isinstance(content, list):
        for part in content:
            if not isinstance(part, dict) or not isinstance(part.get("type"), str):
                raise refused(
                    f"content of message {number} has a part without a type",
                    'Pass a text, or parts such as {"type": "text", "text": "Hello"}.',
                )
    elif not isinstance(content, str):
        raise refused(f"content of message {number} must be a text or an array of parts, not {kind(content)}")


def with_reasoning(message):
    """As transformers does: whichever name the reasoning came under, templates find it under theirs."""
    reasoning = next((message[key] for key in REASONING if key in message), None)
    return message if reasoning is None else {"thinking": reasoning, **message, "reasoning_content": reasoning}


def chat_tools(text, ordered):
    """The tools, or None; unless the text kept the order of keys, in the order they are usually written in."""
    if text is None:
        return None
    tools = parse(text, "tools", TOOLS_HINT)
    if tools is None:
        return None
    if not isinstance(tools, list):
        raise refused(f"tools are not an array, but {kind(tools)}", TOOLS_HINT)
    for number, tool in enumerate(tools, 1):
        if not isinstance(tool, dict):
            raise refused(f"tool {number} is not an object, but {kind(tool)}", TOOLS_HINT)
    return tools if ordered else [in_order(tool) for tool in tools]


def in_order(value):
    """Keys that definitions of functions have, first and in their usual order; parameters in that of `required`, then the others."""
    if isinstance(value, list):
        return [in_order(item) for item in value]
    if not isinstance(value, dict):
        return value
    ordered = {key: in_order(value[key]) for key in first(TOOL_KEYS, value)}
    if isinstance(value.get("properties"), dict):
        parameters, required = value["properties"], value.get("required")
        names = first(required if isinstance(required, list) else (), parameters)
        ordered["properties"] = {name: in_order(parameters[name]) for name in names}
    return ordered


def first(wanted, keys):
    """The keys, those that are wanted first."""
    found = [key for key in wanted if isinstance(key, str) and key in keys]
    return found + [key for key in keys if key not in found]


def kind(value):
    """What a JSON value is, in words."""
    if value is None:
        return "null"
    if isinstance(value, (bool, int, float)):
        return quoted(json.dumps(value))
    return {str: "a text", list: "an array", dict: "an object"}[type(value)] if value != "" else "an empty text"
