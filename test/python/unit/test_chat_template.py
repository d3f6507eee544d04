"""Chat templates without a server: where they are found, what they may do, how they fail."""

import json
import time

import pytest
from hartonomous_server import chat_messages, chat_template, errors

from standin import GD, Plpy

CONFIG, JINJA, LEGACY, SPECIAL = (
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "special_tokens_map.json",
)


def settings(**files):
    """(template, special tokens) of files given by the constants' names."""
    names = {"config": CONFIG, "jinja": JINJA, "legacy": LEGACY, "special": SPECIAL}
    return chat_template.read_settings(
        {names[k]: (v if isinstance(v, str) else json.dumps(v)).encode() for k, v in files.items()}
    )


def rendered(source, check_interrupts=lambda: None, **variables):
    return chat_template.render(source, check_interrupts, **variables)


def test_where_the_template_is():
    assert settings(config={})[0] is None and settings()[0] is None
    assert settings(config={"chat_template": "a"})[0] == "a"
    assert settings(config={"chat_template": "a"}, jinja="b", legacy={"chat_template": "c"})[0] == "b"
    assert settings(config={"chat_template": "a"}, legacy={"chat_template": "c"})[0] == "a"
    assert settings(config={}, legacy={"chat_template": "c"})[0] == "c"


def test_named_templates(refused):
    named, _ = settings(config={"chat_template": [{"name": n, "template": n} for n in ("default", "tool_use", "rag")]})
    assert [chat_template.chosen(named, tools) for tools in (None, [], [{}])] == ["default", "tool_use", "tool_use"]
    assert chat_template.chosen({"default": "d"}, [{}]) == "d"
    with refused("22P04", "rag"):
        chat_template.chosen({"rag": "r"}, None)
    with refused("22023", "no chat template"):
        chat_template.chosen(None, None)


@pytest.mark.parametrize("template", [7, ["x"], [{"name": "default"}], [{"name": "default", "template": 1}], {"a": 1}])
def test_templates_that_are_none(refused, template):
    with refused("22P04"):
        settings(config={"chat_template": template})


def test_template_that_is_not_utf8(refused):
    with refused("22P04", "UTF-8"):
        chat_template.read_settings({JINJA: b"\xff"})


def test_special_tokens():
    config = {
        "bos_token": "<s>",
        "eos_token": {"__type": "AddedToken", "content": "</s>"},
        "pad_token": None,
        "add_bos_token": True,
        "image_token": "<img>",
        "extra_special_tokens": {"audio_token": "<audio>"},
    }
    expected = {"bos_token": "<s>", "eos_token": "</s>", "image_token": "<img>", "audio_token": "<audio>"}
    assert settings(config=config)[1] == expected
    special = {"bos_token": {"content": "<b>"}, "pad_token": "<p>"}
    assert settings(config=config, special=special)[1] == expected | {"bos_token": "<b>", "pad_token": "<p>"}
    assert settings(config=config | {"added_tokens_decoder": {}}, special=special)[1] == expected


def test_settings_of_transformers():
    assert rendered("{% if true %}\n  x\n  {% endif %}\ny\n") == "  x\ny"
    assert rendered("{{ x | tojson }}", x={"b": "<é&'>", "a": None}) == '{"b": "<é&\'>", "a": null}'
    assert rendered("{{ x | tojson(indent=1, sort_keys=true) }}", x={"b": 1, "a": 2}) == '{\n "a": 2,\n "b": 1\n}'
    assert rendered("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}") == "01"
    assert rendered("{% generation %}a{{ x }}{% endgeneration %}b", x="<") == "a<b"
    assert rendered("{{ strftime_now('%Y') }}") == time.strftime("%Y")
    assert rendered("{% set d = dict(a=1) %}{{ d.a }}{{ dict.fromkeys('b') }}") == "1{'b': None}"
    assert rendered("{{ missing }}{{ missing is defined }}") == "False"


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ x.append(1) }}",
        "{% set ns = namespace(_x=1) %}",
        "{{ raise_exception.__globals__['sys'] }}",
        "{{ '{0.__class__.__mro__.x}'.format(1) }}",
    ],
)
def test_no_way_out_of_the_sandbox(refused, source):
    with refused("42501", "sandbox"):
        rendered(source, x=[])


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 99999999999 }}",
        "{{ 99999999999 * [1] }}",
        "{{ 9 ** 999999 }}",
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x='aaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{{ spin() }}{% endfor %}",
    ],
)
def test_no_bombs(refused, source):
    with refused("54000", "memory"):
        rendered(source, spin=lambda: time.sleep(0.06))


def test_endless_loops_are_interrupted():
    class Cancelled(Exception):
        pass

    calls = []

    def check_interrupts():
        calls.append(1)
        if len(calls) == 3:
            raise Cancelled

    before = time.monotonic()
    with pytest.raises(Cancelled):
        rendered("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", check_interrupts)
    assert len(calls) == 3 and time.monotonic() - before < 60


@pytest.mark.parametrize(
    "source, sqlstate, words",
    [
        ("{{ raise_exception('no such role') }}", "22023", "no such role"),
        ("{% for %}", "22P04", "Line 1"),
        ("{{ x.y.z }}", "22023", "no attribute"),
        ("{{ x + 'a' }}", "22023", "TypeError"),
        ("{{ 1 / 0 }}", "22023", "ZeroDivisionError"),
        ("{% for i in range(1000000) %}{% endfor %}", "22023", "Range too big"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "22023", "recursion"),
        ("{% include 'file' %}", "22023", "no loader"),
    ],
)
def test_errors_of_templates(refused, source, sqlstate, words):
    with refused(sqlstate, words):
        rendered(source, x={})


def test_text_that_postgresql_cannot_hold():
    assert rendered("{{ x }}", x="a\0\ud800b") == "a\ufffd?b"


def test_messages():
    text = json.dumps([{"role": "user", "content": "x", "name": None}, {"role": "assistant", "thinking": "t"}])
    assert chat_messages.chat_messages(text) == [
        {"role": "user", "content": "x"},
        {"role": "assistant", "thinking": "t", "reasoning_content": "t"},
    ]


def test_order_of_tools():
    function = {"description": "d", "parameters": {"required": ["type", "a"], "properties": {}, "type": "object"}}
    function["parameters"]["properties"] = {"a": {"description": "x", "type": "t"}, "b": {}, "type": {"type": "t"}}
    tools = json.dumps([{"function": function | {"name": "f"}, "type": "function"}])
    assert json.dumps(chat_messages.chat_tools(tools, False)) == json.dumps(
        [
            {
                "type": "function",
                "function": {
                    "name": "f",
                    "description": "d",
                    "parameters": {
                        "type": "object",
                        "properties": {"type": {"type": "t"}, "a": {"type": "t", "description": "x"}, "b": {}},
                        "required": ["type", "a"],
                    },
                },
            }
        ]
    )
    assert json.dumps(chat_messages.chat_tools(tools, True)) == tools
    assert chat_messages.chat_tools(None, False) is None and chat_messages.chat_tools("null", False) is None


@pytest.mark.parametrize("text", ["[NaN]", "", "nothing", "[1" + "0" * 5000 + "]"])
def test_not_json(text):
    with pytest.raises(errors.HartError) as caught:
        chat_messages.chat_messages(text)
    assert caught.value.sqlstate in ("22P02", "22023") and caught.value.hint


def test_settings_are_cached_by_content():
    plpy, memory, sums = Plpy(), GD(), [b"1"]
    plpy.answers["array_agg(f.sha256"] = lambda model, names: [{"model_id": 7, "sums": sums}]
    plpy.answers["SELECT name, content"] = lambda model_id, names: [{"name": JINJA, "content": b"x" + sums[0]}]
    chat = '[{"role": "user", "content": "x"}]'
    assert [chat_template.apply(plpy, memory, chat, None, True, None) for _ in range(3)] == ["x1"] * 3
    assert plpy.count("SELECT name, content") == 1
    sums[0] = b"2"
    assert chat_template.apply(plpy, memory, chat, None, True, None) == "x2"
