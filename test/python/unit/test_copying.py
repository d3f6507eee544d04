"""Ingesting and exporting against a stand-in for the database: order of steps, chunks, commits, failures."""

import hashlib

import pytest
from hartonomous_server import export, ingest
from hartonomous_server.checkpoint import SINGLE
from hartonomous_server.progress import Progress
from hartonomous_server.tile_encoding import PLAIN, TILE_BYTES

from standin import GD, Plpy

TILE = TILE_BYTES[PLAIN]
STEPS = ("begin_ingest", "add_model_file", "write_tiles", "finish_ingest", "abort_ingest", "COMMIT", "ROLLBACK")


def database(atomic=False, allowed=True, encoding="UTF8"):
    plpy = Plpy(atomic)
    plpy.answers.update(
        {
            "pg_has_role": lambda role: [{"name": "me", "allowed": allowed}],
            "getdatabaseencoding": lambda: [{"value": encoding}],
            "current_setting": lambda: [{"value": ""}],
            "begin_ingest": lambda name, spec: [{"model_id": 3, "tiles": "hart.tiles_3"}],
            "begin_chart": lambda model_id: [{"leaf": "hart.token_positions_3_0"}],
        }
    )
    return plpy


def failing(plpy, part, sqlstate="53100"):
    error = type("DiskFull", (plpy.SPIError,), {"sqlstate": sqlstate})("no space left")
    error.spidata = (0, "a detail", "a hint", None, 0, None, None, None, None, None)
    plpy.failing[part] = error


def test_all_bytes_in_order(model_folder):
    folder = model_folder(vocab_size=3000)
    plpy = database()
    ingest.ingest_model(plpy, GD(), str(folder), None)
    written = [args for sql, args in plpy.statements if "write_tiles" in sql]
    assert all(args[0] == "hart.tiles_3" and args[1] == 3 for args in written)
    raw = (folder / SINGLE).read_bytes()
    assert raw.endswith(b"".join(args[4] for args in written))
    (file,) = [args for sql, args in plpy.statements if "add_model_file" in sql and args[5]]
    assert file[1] == SINGLE and raw.startswith(file[2]) and file[3] == len(raw)
    assert file[4] == hashlib.sha256(raw).digest()
    assert plpy.order(*STEPS)[0] == "begin_ingest" and plpy.order(*STEPS)[-2:] == ["finish_ingest", "COMMIT"]
    assert "ready" in plpy.said[-1] and '"model"' in plpy.said[-1]


def test_chunks_are_whole_tiles(model_folder, monkeypatch):
    monkeypatch.setattr(ingest, "TILES_AT_ONCE", 2)
    plpy = database()
    ingest.ingest_model(plpy, GD(), str(model_folder(vocab_size=1300)), None)
    chunks = [(args[3], len(args[4])) for sql, args in plpy.statements if "write_tiles" in sql and args[2] == 1]
    assert chunks == [(0, 2 * TILE), (2, 2 * TILE), (4, 1300 * 32 - 4 * TILE)]


def test_commits_as_it_goes(model_folder, monkeypatch):
    monkeypatch.setattr(ingest, "COMMIT_BYTES", 100)
    plpy = database()
    ingest.ingest_model(plpy, GD(), str(model_folder()), "x")
    assert plpy.count("COMMIT") > 5
    assert plpy.count("note_progress") == plpy.count("COMMIT") - 2


def test_inside_a_transaction_block(model_folder, monkeypatch):
    monkeypatch.setattr(ingest, "COMMIT_BYTES", 100)
    plpy = database(atomic=True)
    ingest.ingest_model(plpy, GD(), str(model_folder()), "x")
    assert plpy.order(*STEPS)[-1] == "finish_ingest" and plpy.count("COMMIT") == 0


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("step", ["write_tiles", "add_model_file", "finish_ingest", "note_progress"])
def test_failure_leaves_nothing(model_folder, monkeypatch, step, atomic):
    monkeypatch.setattr(ingest, "COMMIT_BYTES", 100)
    plpy = database(atomic)
    failing(plpy, step)
    with pytest.raises(plpy.Error, match="no space left") as caught:
        ingest.ingest_model(plpy, GD(), str(model_folder()), "x")
    assert (caught.value.sqlstate, caught.value.detail, caught.value.hint) == ("53100", "a detail", "a hint")
    end = ["ROLLBACK", "abort_ingest", "COMMIT"]
    assert plpy.order(*STEPS)[-3:] == end if not atomic else plpy.order(*STEPS)[-1] == "abort_ingest"


def test_failure_of_the_cleanup_is_not_the_error(model_folder):
    plpy = database()
    failing(plpy, "write_tiles", "57014")
    failing(plpy, "abort_ingest", "XX000")
    with pytest.raises(plpy.Error) as caught:
        ingest.ingest_model(plpy, GD(), str(model_folder()), "x")
    assert caught.value.sqlstate == "57014" and "could not remove" in plpy.said[-1]


@pytest.mark.parametrize("cancels, left", [(1, False), (2, False), (3, True)])
def test_cancelled_again_while_tidying_up(model_folder, cancels, left):
    plpy = database()
    failing(plpy, "write_tiles", "57014")
    attempts = []

    def cancelled(model_id):
        attempts.append(model_id)
        if len(attempts) <= cancels:
            raise plpy.failing["write_tiles"]
        return []

    plpy.answers["abort_ingest"] = cancelled
    with pytest.raises(plpy.Error) as caught:
        ingest.ingest_model(plpy, GD(), str(model_folder()), "x")
    assert caught.value.sqlstate == "57014"
    assert len(attempts) == min(cancels + 1, 3)
    assert any("could not remove" in line for line in plpy.said) == left


def test_file_that_changes_meanwhile(model_folder):
    folder = model_folder()
    plpy = database()

    def change(name, spec):
        (folder / SINGLE).write_bytes((folder / SINGLE).read_bytes())
        return [{"model_id": 3, "tiles": "hart.tiles_3"}]

    plpy.answers["begin_ingest"] = change
    with pytest.raises(plpy.Error, match="changed") as caught:
        ingest.ingest_model(plpy, GD(), str(folder), "x")
    assert caught.value.sqlstate == "58030" and plpy.count("abort_ingest") == 1


def test_role_comes_before_the_file_system():
    plpy = database(allowed=False)
    for call, role in ((ingest.ingest_model, "pg_read_server_files"), (export.export_model, "pg_write_server_files")):
        with pytest.raises(plpy.Error) as caught:
            call(plpy, GD(), "/no/such/path", "/no/such/path")
        assert caught.value.sqlstate == "42501" and role in caught.value.hint


def test_encoding(model_folder):
    plpy = database(encoding="LATIN1")
    with pytest.raises(plpy.Error, match="LATIN1") as caught:
        ingest.ingest_model(plpy, GD(), str(model_folder()), None)
    assert caught.value.sqlstate == "0A000"


@pytest.mark.parametrize("name", ["", " ", "a ", "a\nb", "x" * 64, "é" * 32])
def test_names(model_folder, name):
    plpy = database()
    with pytest.raises(plpy.Error) as caught:
        ingest.ingest_model(plpy, GD(), str(model_folder()), name)
    assert caught.value.sqlstate == "42602" and plpy.count("begin_ingest") == 0


@pytest.mark.parametrize("path, sqlstate", [(None, "22004"), ("", "22023"), ("/", "42602"), ("/no/such/path", "58P01")])
def test_paths(path, sqlstate):
    plpy = database()
    with pytest.raises(plpy.Error) as caught:
        ingest.ingest_model(plpy, GD(), path, None)
    assert caught.value.sqlstate == sqlstate and caught.value.hint


def test_relative_to_the_setting(model_folder):
    folder = model_folder()
    plpy = database()
    plpy.answers["current_setting"] = lambda: [{"value": str(folder.parent)}]
    ingest.ingest_model(plpy, GD(), "./model/", None)
    (begun,) = [args for sql, args in plpy.statements if "begin_ingest" in sql]
    assert begun[0] == "model" and f'"path": "{folder}"' in begun[1]


# Export -------------------------------------------------------------------------------------------


@pytest.fixture
def stored():
    """A database that holds a model of two files and three tensors, one of them empty."""
    header, first, last = b"header", b"x" * (2 * TILE + 5), b"last"
    files = [
        {"name": "config.json", "content": b"{}", "is_checkpoint": False},
        {"name": SINGLE, "content": header, "is_checkpoint": True},
    ]
    whole = {"config.json": b"{}", SINGLE: header + first + last}
    for file in files:
        content = whole[file["name"]]
        file.update(size=len(content), sha256=hashlib.sha256(content).digest())
    plpy = database()
    plpy.answers.update(
        {
            "resolve_model": lambda name: [{"value": 3}],
            "FROM hart.model_files": lambda model_id: files,
            "FROM hart.tensors WHERE": lambda model_id: [
                {"tensor_id": n, "name": f"t{n}", "file": SINGLE, "bytes": size}
                for n, size in ((1, len(first)), (2, 0), (3, 4))
            ],
            "tiles_of": lambda model_id: [{"name": "hart.tiles_3", "hidden": False}],
        }
    )
    plpy.data = [(1, first[:TILE]), (1, first[TILE:]), (3, last)]
    plpy.cursor = lambda plan, args: iter(
        [{"tensor_id": tensor, "data": data, "whole": data is not None} for tensor, data in plpy.data]
    )
    plpy.whole = whole
    return plpy


def test_written(stored, tmp_path):
    export.export_model(stored, GD(), "m", str(tmp_path / "new"))
    assert {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()} == stored.whole
    assert len(stored.said) == 1


def test_edited_weights_are_told(stored, tmp_path):
    stored.data[2] = (3, b"LAST")
    export.export_model(stored, GD(), "m", str(tmp_path))
    assert (tmp_path / SINGLE).read_bytes().endswith(b"LAST")
    assert "changed" in stored.said[0] and SINGLE in stored.said[0]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.pop(0),
        lambda data: data.pop(),
        lambda data: data.insert(1, data[0]),
        lambda data: data.reverse(),
        lambda data: data.__setitem__(1, (data[1][0], None)),
    ],
)
def test_missing_tiles(stored, tmp_path, spoil):
    spoil(stored.data)
    with pytest.raises(stored.Error, match="incomplete") as caught:
        export.export_model(stored, GD(), "m", str(tmp_path / "new"))
    assert caught.value.sqlstate == "XX001" and list(tmp_path.iterdir()) == []


def test_hidden_tiles(stored, tmp_path):
    stored.answers["tiles_of"] = lambda model_id: [{"name": "hart.tiles_3", "hidden": True}]
    with pytest.raises(stored.Error, match="row-level security") as caught:
        export.export_model(stored, GD(), "m", str(tmp_path / "new"))
    assert caught.value.sqlstate == "42501" and list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(stored, tmp_path):
    (tmp_path / "config.json").write_text("mine")
    with pytest.raises(stored.Error, match="already exists") as caught:
        export.export_model(stored, GD(), "m", str(tmp_path))
    assert caught.value.sqlstate == "58P02"
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_text() == "mine"


def test_file_that_appears_meanwhile(stored, tmp_path, monkeypatch):
    monkeypatch.setattr(export.Target, "sync", lambda *_: (tmp_path / SINGLE).write_text("mine"))
    with pytest.raises(stored.Error) as caught:
        export.export_model(stored, GD(), "m", str(tmp_path))
    assert caught.value.sqlstate == "58P02"
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(SINGLE, "mine")]


def test_bad_targets(stored, tmp_path):
    (tmp_path / "file").write_text("")
    for path, sqlstate in (
        (tmp_path / "file", "58030"),
        (tmp_path / "no" / "parent", "58P01"),
        ("", "22023"),
        (None, "22004"),
    ):
        with pytest.raises(stored.Error) as caught:
            export.export_model(stored, GD(), "m", path if path is None else str(path))
        assert caught.value.sqlstate == sqlstate and caught.value.hint
    with pytest.raises(stored.Error) as caught:
        export.export_model(stored, GD(), None, str(tmp_path))
    assert caught.value.sqlstate == "22004"


# Progress -----------------------------------------------------------------------------------------


def test_progress_lines():
    now, said = [0.0], []
    progress = Progress(290, 988_000_000, said.append, clock=lambda: now[0])
    for step in range(1, 6):
        now[0] = step
        progress.add(12, 69_000_000)
    assert said == [
        "tensor 12 of 290, 138 of 988 MB, 69.0 MB/s, 12 s left",
        "tensor 12 of 290, 276 of 988 MB, 69.0 MB/s, 10 s left",
    ]
    assert progress.summary() == "290 tensors, 345 MB in 5.0 s, 69.0 MB/s"
