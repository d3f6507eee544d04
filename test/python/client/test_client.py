"""The class Client: each verb says what SQL says."""
import contextlib
import pathlib
import shutil

import psycopg
import pytest
from hartonomous import Client, Model

DEMO = pathlib.Path(__file__).resolve().parents[3] / "demo" / "model"


@pytest.fixture
def demo(scratch, client):
    """The demo model, ingested by the client."""
    source = scratch / "demo"
    if not source.exists():
        shutil.copytree(DEMO, source)
    with contextlib.suppress(psycopg.errors.DuplicateObject):
        client.ingest(f"{source}/")
    return source


def test_ingest_takes_the_name_of_the_folder(client, demo):
    (model,) = [m for m in client.models() if m.name == "demo"]
    assert isinstance(model, Model)
    assert (model.state, model.architecture) == ("ready", "qwen2")
    assert model.bytes_in == (demo / "model.safetensors").stat().st_size
    assert 0 < model.bytes_stored < model.bytes_in      # packed


def test_generate(client, demo, conn):
    answer = client.generate("The database", max_tokens=12, model="demo")
    assert answer.text == conn.one("SELECT hart.generate('The database', 12, 'demo')")
    assert 1 <= len(answer.tokens) <= 12
    assert answer.tokens_per_second == len(answer.tokens) / answer.seconds > 0


def test_tokenize(client, demo, conn):
    tokens = client.tokenize("a table, a row", "demo")
    assert [token.id for token in tokens] == conn.one("SELECT hart.tokenize('a table, a row', 'demo')")
    assert "".join(token.piece for token in tokens) == "a table, a row"


def test_export_and_drop(client, demo, folder):
    client.ingest(str(demo), "copy")
    client.export("copy", str(folder / "out"))
    client.drop("copy")
    assert "copy" not in [model.name for model in client.models()]
    for file in demo.iterdir():
        assert (folder / "out" / file.name).read_bytes() == file.read_bytes()


def test_errors_are_those_of_the_server(client):
    with pytest.raises(psycopg.errors.UndefinedObject) as caught:
        client.drop("nothing of that name")
    assert caught.value.diag.message_hint
    with pytest.raises(psycopg.errors.UndefinedFile):
        client.ingest("/nothing/of/that/name")
    assert client.models() is not None      # the same connection goes on


def test_notices_reach_the_caller(db):
    said = []
    with Client(db.dsn, on_notice=lambda d: said.append((d.severity, d.message_primary, d.message_hint))) as client:
        client._connection.execute("DO $$ BEGIN RAISE WARNING 'mind the step' USING HINT = 'Look down.'; END $$")
    assert said == [("WARNING", "mind the step", "Look down.")]


def test_progress_and_interruption(client, db, demo, nothing_left):
    """An ingestion that is held up reports where it is; interrupted, it leaves nothing."""
    seen = []

    def interrupt(progress):
        seen.append(progress)
        raise KeyboardInterrupt

    with db.connect() as blocker:
        # attaching the tiles needs this lock, so the call waits near its end until it is cancelled
        blocker.execute("BEGIN; LOCK TABLE hart.tiles IN SHARE UPDATE EXCLUSIVE MODE")
        with pytest.raises(KeyboardInterrupt):
            client.ingest(str(demo), "interrupted", interrupt)
        blocker.execute("ROLLBACK")
    assert seen[0].name == "interrupted"
    assert 0 <= seen[0].bytes_done <= seen[0].bytes_total
    assert seen[0].tensors_total > 0
    with db.connect() as session:
        nothing_left(session)
