"""Folders and files that are wrong: every one is refused with a reason, and nothing of it stays."""
import os

import pytest


def test_the_good_ones_are_good(conn, good, sharded):
    for path in (good, sharded):
        conn.execute("CALL hart.ingest_model(%s)", [str(path)])
        assert conn.one("SELECT hart.generate('x', 3, %s)", path.name) is not None


def test_missing_path(not_ingested, folder):
    not_ingested("58P01", folder / "nothing")
    not_ingested("58P01", "no/such/relative/path")


def test_path_of_a_file(not_ingested, good):
    not_ingested("58030 42809", good / "config.json")


@pytest.mark.parametrize("path", ["", "/", "x" * 5000, "/dev/null", "/proc/self/mem", "a\nb"])
def test_odd_paths(not_ingested, path):
    not_ingested("22023 58P01 58030 42501 42602 54000", path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_file_missing(not_ingested, good, name):
    (good / name).unlink()
    assert name in str(not_ingested("58P01", good))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder that the server cannot read")
@pytest.mark.parametrize("name", ["", "config.json", "tokenizer.json", "model.safetensors"])
def test_unreadable(not_ingested, good, name):
    (good / name).chmod(0)
    not_ingested("42501 58030", good)
    (good / name).chmod(0o755)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_folder_in_place_of_a_file(not_ingested, good, name):
    (good / name).unlink()
    (good / name).mkdir()
    not_ingested("58030 42809 58P01 22P04", good)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_pipe_in_place_of_a_file(not_ingested, good, name):
    """Opening a pipe would wait for ever for somebody who writes."""
    (good / name).unlink()
    os.mkfifo(good / name, 0o666)
    not_ingested("58030 42809 58P01 22P04", good)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_endless_file(not_ingested, good, name):
    (good / name).unlink()
    (good / name).symlink_to("/dev/zero")
    not_ingested("58030 42809 58P01 22P04 54000", good)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe{\x00", b"{}\x00", b'{"a": NaN}', b"[" * 200000, b"\x80\x04"])
def test_not_json(not_ingested, good, name, content):
    (good / name).write_bytes(content)
    not_ingested("22P04 22023", good)


def test_name_taken(conn, not_ingested, good, refused, nothing_left):
    conn.execute("CALL hart.ingest_model(%s, 'taken')", [str(good)])
    refused(conn, "42710", "CALL hart.ingest_model(%s, 'taken')", str(good))
    assert conn.one("SELECT hart.generate('x', 3, 'taken')") is not None
    nothing_left(conn)
    conn.execute("CALL hart.drop_model('taken')")


def test_rolled_back(conn, good, nothing_left):
    """Inside a transaction block it is part of the transaction."""
    conn.execute("BEGIN")
    conn.execute("CALL hart.ingest_model(%s, 'bad')", [str(good)])
    assert conn.one("SELECT hart.generate('x', 3, 'bad')") is not None
    conn.execute("ROLLBACK")
    nothing_left(conn)
    assert conn.all("SELECT 1 FROM hart.models WHERE name = 'bad'") == []


def test_export_to_bad_places(conn, refused, good, folder):
    conn.execute("CALL hart.ingest_model(%s, 'out')", [str(good)])
    try:
        (folder / "file").write_text("mine")
        (folder / "full").mkdir()
        (folder / "full" / "config.json").write_text("mine")
        (folder / "full").chmod(0o777)
        (folder / "closed").mkdir(mode=0o755)
        refused(conn, "58030 42809 58P02 42710", "CALL hart.export_model('out', %s)", str(folder / "file"))
        refused(conn, "58P02 42710 58030", "CALL hart.export_model('out', %s)", str(folder / "full"))
        refused(conn, "58P01 58030", "CALL hart.export_model('out', %s)", str(folder / "no" / "such" / "parent"))
        refused(conn, "22023 42602 58P01 58P02", "CALL hart.export_model('out', '')")
        if os.geteuid() == 0:
            refused(conn, "42501 58030", "CALL hart.export_model('out', %s)", str(folder / "closed" / "new"))
        assert (folder / "file").read_text() == (folder / "full" / "config.json").read_text() == "mine"
        assert [p.name for p in (folder / "full").iterdir()] == ["config.json"]
    finally:
        conn.execute("CALL hart.drop_model('out')")


@pytest.mark.parametrize("name", ["../up", "/tmp/hart_elsewhere", "a/b", "..", ""])
def test_export_of_names_that_lead_elsewhere(conn, refused, good, folder, name):
    """An export writes into its folder only, whatever the catalog says."""
    conn.execute("CALL hart.ingest_model(%s, 'out')", [str(good)])
    conn.execute("BEGIN")
    conn.execute("UPDATE hart.model_files SET name = %s WHERE name = 'tokenizer_config.json' AND model_id = (SELECT model_id FROM hart.models WHERE name = 'out')", [name])
    refused(conn, "XX001 58P02 42602", "CALL hart.export_model('out', %s)", str(folder / "out"))
    assert sorted(p.name for p in folder.iterdir()) == ["bad"]
