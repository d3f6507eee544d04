"""Chats: the text of a model's own template equal to transformers', answers that end where a message ends."""
import contextlib
import hashlib
import json
import re
import shutil

import psycopg
import pytest
from psycopg.types.json import Jsonb

import chats
import models

GOLDENS = json.loads((models.pathlib.Path(__file__).parent / "goldens" / "chat.json").read_text())


def key(*parts):
    return " ".join(str(part).lower() for part in parts)


@contextlib.contextmanager
def ingested(db, folder):
    """The model of a folder, under the folder's name; gone afterwards."""
    with db.connect() as session:
        session.execute("CALL hart.ingest_model(%s)", [str(folder)])
        try:
            yield folder.name
        finally:
            session.rollback()
            session.execute("CALL hart.drop_model(%s)", [folder.name])


@pytest.fixture(scope="module", params=chats.TEMPLATES)
def template(request, db, scratch):
    chats.write_chat_model(scratch / f"chat_{request.param}", request.param)
    with ingested(db, scratch / f"chat_{request.param}"):
        yield request.param


@pytest.fixture(scope="module")
def headers(db, scratch):
    """A chat model whose end tokens are other than its end-of-text token."""
    chats.write_chat_model(scratch / "headers", "headers")
    with ingested(db, scratch / "headers") as name:
        yield name


def applied(session, model, chat, tools, prompt, type="text"):
    return session.one(f"SELECT hart.apply_chat_template(%s::{type}, %s::{type}, %s, %s)", json.dumps(chats.CHATS[chat]),
                       json.dumps([chats.WEATHER]) if tools else None, prompt, model)


def test_equal_to_transformers(conn, template):
    cases = [case for name, *case in chats.CASES if name == template]
    assert cases
    for case in cases:
        text, ids = GOLDENS["own"][key(template, *case)]
        model = f"chat_{template}"
        assert applied(conn, model, *case) == text, case
        assert conn.one("SELECT hart.tokenize(%s, %s, false)", text, model) == ids, case
        # jsonb forgets the order of keys: that of definitions of tools is restored, that within messages is not.
        if case[0] in ("one", "system", "turns"):
            assert applied(conn, model, *case, type="jsonb") == text, case


def test_qwen(db, conn, data, folder):
    # Laying out and tokenizing a chat needs the whole tokenizer, but no more of the vocabulary in the model.
    m = models.Model("qwen_chat", dim=8, hidden=8, layers=1, heads=1, kv_heads=1, head_dim=8, vocab=1000, dtypes="BF16", tied=True)
    models.write_model(folder / m.name, m, m.name)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(data / "qwen2.5-tokenizer" / name, folder / m.name / name)
    with ingested(db, folder / m.name):
        for case in chats.QWEN_CASES:
            text = applied(conn, m.name, *case)
            ids = conn.one("SELECT hart.tokenize(%s, %s, false)", text, m.name)
            assert [hashlib.sha256(v.encode()).hexdigest()[:32] for v in (text, json.dumps(ids))] == GOLDENS["qwen"][key(*case)], case
        assert conn.one("SELECT hart.chat_end_tokens(%s)", m.name) == []       # <|im_end|> is beyond this vocabulary


def test_goldens_are_those_of_transformers_here(data):
    pytest.importorskip("transformers")
    import make_chat_goldens as made
    qwen = made.transformers.AutoTokenizer.from_pretrained(data / "qwen2.5-tokenizer")
    for case in chats.QWEN_CASES:
        assert made.sums(*made.applied(qwen, *case)) == GOLDENS["qwen"][key(*case)], case
    for name in chats.TEMPLATES:
        tokenizer = made.own_tokenizer(name)
        for case in [case for template, *case in chats.CASES if template == name]:
            assert list(made.applied(tokenizer, *case)) == GOLDENS["own"][key(name, *case)], case


@pytest.mark.parametrize("name", ["chat_template.jinja", "chat_template.json"])
def test_template_in_a_file_of_its_own(db, conn, folder, name):
    """A .jinja file comes before tokenizer_config.json, chat_template.json after it; both are exported."""
    chats.write_chat_model(folder / "own_file", "headers")
    path = folder / "own_file" / name
    other = "{{ bos_token }}other {{ messages[0].content }}"
    path.write_text(other if name.endswith("jinja") else json.dumps({"chat_template": other}))
    if name.endswith("json"):
        config = chats.tokenizer_config("headers")
        del config["chat_template"]
        (folder / "own_file" / "tokenizer_config.json").write_text(json.dumps(config))
    with ingested(db, folder / "own_file"):
        assert applied(conn, "own_file", "one", False, True) == "<s>other Hello"
        conn.execute("CALL hart.export_model('own_file', %s)", [str(folder / "out")])
        assert (folder / "out" / name).read_bytes() == path.read_bytes()


def test_an_answer_is_what_generate_makes_of_the_template(conn, headers):
    text, ids = GOLDENS["own"][key("headers", "one", False, True)]
    messages = json.dumps(chats.CHATS["one"])
    # the template writes <s>: the tokenizer must not put another before it
    assert ids[0] == models.BOS and ids[1] != models.BOS
    expected = conn.one("SELECT hart.detokenize(hart.generate_tokens(%s::int[], 9, 'headers'), 'headers')", ids)
    assert expected
    assert conn.one("SELECT hart.chat(%s::jsonb, 9, 'headers')", messages) == expected
    assert conn.one("SELECT hart.chat('Hello', NULL, 9, 'headers')") == expected
    assert conn.one("SELECT hart.chat('Hello', max_tokens => 9, model => 'headers')") == expected
    # as psycopg passes a str, a Jsonb, and a prepared statement's parameters
    assert conn.execute("SELECT hart.chat(%s, max_tokens => 9, model => 'headers')", ["Hello"]).fetchone()[0] == expected
    assert conn.execute("SELECT hart.chat(%s, 9, 'headers')", [Jsonb(chats.CHATS["one"])]).fetchone()[0] == expected
    for _ in range(3):
        assert conn.execute("SELECT hart.chat(%s, max_tokens => %s, model => %s)", ["Hello", 9, "headers"], prepare=True).fetchone()[0] == expected
    system = conn.one("SELECT hart.chat('Hello', 'Be brief.', 9, 'headers')")
    both = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    assert system == conn.one("SELECT hart.chat(%s::jsonb, 9, 'headers')", json.dumps(both)) != expected
    tools = conn.one("SELECT hart.chat(%s::jsonb, 9, 'headers', tools => %s)", messages, json.dumps([chats.WEATHER]))
    assert tools != expected


def test_options_are_those_of_generate(conn, headers):
    ids = GOLDENS["own"][key("headers", "one", False, True)][1]
    drawn = conn.one("SELECT hart.detokenize(hart.generate_tokens(%s::int[], 12, 'headers', temperature => 1.5, seed => 7), 'headers')", ids)
    assert conn.one("SELECT hart.chat('Hello', NULL, 12, 'headers', temperature => 1.5, seed => 7)") == drawn
    greedy = conn.one("SELECT hart.chat('Hello', NULL, 12, 'headers')")
    assert greedy != drawn
    assert conn.one("SELECT hart.chat('Hello', NULL, 12, 'headers', stop => ARRAY[%s])", greedy[4:6]) == greedy[:greedy.index(greedy[4:6])]


def test_constrained(conn, headers):
    assert conn.one("SELECT hart.chat('Hello', model => 'headers', choices => ARRAY['yes', 'no'])") in ("yes", "no")
    assert re.fullmatch("[a-c]{3}", conn.one("SELECT hart.chat('Hello', model => 'headers', regex => '[a-c]{3}')"))


def test_ends_with_the_message(db, conn, folder):
    """The end token of tokenizer_config.json ends an answer, though the model's own end of text is another."""
    m = chats.write_chat_model(folder / "ending", "headers", config={"eos_token_id": 0})
    assert m.vocab == 137
    with ingested(db, folder / "ending"):
        ids = GOLDENS["own"][key("headers", "one", False, True)][1]
        new = conn.one("SELECT hart.generate_tokens(%s::int[], 12, 'ending')", ids)
        end = new[6]
    config = chats.tokenizer_config("headers")
    tokens = {v: k for k, v in models.tokenizer_json(m)["model"]["vocab"].items()}
    (folder / "ending" / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": tokens[end]}))
    with ingested(db, folder / "ending"):
        assert conn.one("SELECT hart.chat_end_tokens('ending')") == sorted([end, models.EOS])     # the template writes </s>
        assert conn.one("SELECT eos_token_ids FROM hart.model_registry WHERE name = 'ending'") == [0]
        assert conn.one("SELECT hart.chat('Hello', NULL, 12, 'ending')") == conn.one(
            "SELECT hart.detokenize(%s::int[], 'ending')", new[:new.index(end)])


def test_ends_where_the_template_ends_a_message(db, conn, folder):
    """The special token that a template writes after an answer ends it, though nothing else names it."""
    chats.write_chat_model(folder / "unnamed_end", "lines", config={"eos_token_id": 0})
    config = chats.tokenizer_config("lines") | {"eos_token": "<unk>"}
    template = "{%% for m in messages %%}{{ m.role }}: {{ m.content }} %s\n{%% endfor %%}{%% if add_generation_prompt %%}assistant:{%% endif %%}"
    for end, expected in (("</s>", [0, models.EOS]), ("the end", [0]), ("{{ raise_exception('no') if m.role == 'assistant' }}</s>", [0])):
        (folder / "unnamed_end" / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": template % end}))
        with ingested(db, folder / "unnamed_end"):
            assert conn.one("SELECT hart.chat_end_tokens('unnamed_end')") == expected


@pytest.mark.parametrize("messages, sqlstate, hint", [
    (None, "22004", "array"), ("[]", "22023", "array"), ("{}", "22023", "array"), ('"Hello"', "22023", "array"), ("null", "22023", "array"),
    ("[1]", "22023", "array"), ('["Hello"]', "22023", "array"), ('[{"content": "Hello"}]', "22023", "Roles"), ('[{"role": 1, "content": "x"}]', "22023", "Roles"),
    ('[{"role": "", "content": "x"}]', "22023", "Roles"), ('[{"role": "user"}]', "22023", "array"), ('[{"role": "user", "content": null}]', "22023", "array"),
    ('[{"role": "user", "content": 7}]', "22023", "array"), ('[{"role": "user", "content": {"text": "x"}}]', "22023", "array"),
    ('[{"role": "user", "content": ["x"]}]', "22023", "parts"), ('[{"role": "user", "content": [{"text": "x"}]}]', "22023", "parts")])
def test_not_messages(conn, refused, headers, messages, sqlstate, hint):
    for statement in ("hart.chat(%s::jsonb, 1, 'headers')", "hart.apply_chat_template(%s::jsonb, model => 'headers')",
                      "hart.apply_chat_template(%s::text, model => 'headers')"):
        assert hint in refused(conn, sqlstate, f"SELECT {statement}", messages).diag.message_hint


def test_bad_arguments(db, conn, refused, headers):
    def bad(sqlstate, call, *args):
        return refused(conn, sqlstate, f"SELECT {call}", *args)
    bad("22P02", "hart.apply_chat_template('[{', model => 'headers')")
    bad("22023", "hart.apply_chat_template(%s, model => 'headers')", "[" * 200000)
    bad("22023", "hart.apply_chat_template(%s::jsonb, '{}', model => 'headers')", '[{"role": "user", "content": "x"}]')
    bad("22023", "hart.apply_chat_template(%s::jsonb, '[1]', model => 'headers')", '[{"role": "user", "content": "x"}]')
    bad("22004", "hart.apply_chat_template(%s::jsonb, NULL, NULL, model => 'headers')", '[{"role": "user", "content": "x"}]')
    bad("22004", "hart.chat(NULL, model => 'headers')")
    bad("22023", "hart.chat('x', NULL, 0, 'headers')")
    bad("22023", "hart.chat('x', NULL, 1, 'headers', temperature => -1)")
    bad("42704", "hart.chat('x', model => 'nobody')")
    assert "no chat template" in str(bad("22023", "hart.chat('x', model => %s)", db.model("llama_f32")))


def test_the_templates_own_error(db, conn, refused, folder):
    chats.write_chat_model(folder / "strict", "turns")
    with ingested(db, folder / "strict"):
        two = json.dumps([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}])
        error = refused(conn, "22023", "SELECT hart.chat(%s::jsonb, 1, 'strict')", two)
        assert "must alternate" in error.diag.message_detail


def test_an_endless_template_is_cancelled(db, conn, folder):
    m = chats.write_chat_model(folder / "endless", "lines")
    assert m
    (folder / "endless" / "chat_template.jinja").write_text("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")
    with ingested(db, folder / "endless"):
        conn.execute("SET statement_timeout = '400ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            conn.execute("SELECT hart.chat('x', model => 'endless')")
        conn.execute("RESET statement_timeout")
        assert conn.one("SELECT 1") == 1


def test_read_only_and_privileges(db, conn, refused, headers):
    with db.connect() as session:
        session.execute("SET default_transaction_read_only = on")
        assert isinstance(session.one("SELECT hart.chat('Hello', NULL, 3, 'headers')"), str)
    conn.execute("DROP ROLE IF EXISTS chat_reader; CREATE ROLE chat_reader; GRANT USAGE ON SCHEMA hart TO chat_reader; SET ROLE chat_reader")
    try:
        refused(conn, "42501", "SELECT hart.chat('Hello', NULL, 3, 'headers')")
        refused(conn, "42501", "SELECT hart.apply_chat_template('[{\"role\": \"user\", \"content\": \"x\"}]', model => 'headers')")
        conn.execute("RESET ROLE")
        tiles = conn.one("SELECT tiles::text FROM hart.models WHERE name = 'headers'")
        conn.execute(f"GRANT SELECT ON {tiles} TO chat_reader; SET ROLE chat_reader")
        assert isinstance(conn.one("SELECT hart.chat('Hello', NULL, 3, 'headers')"), str)
    finally:
        conn.execute("RESET ROLE; DROP OWNED BY chat_reader; DROP ROLE chat_reader")
