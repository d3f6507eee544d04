"""Atoms and texts where more than one session, role, database or server is concerned; vocabularies; the curve by numpy."""
import json
import random
import threading

import numpy as np
import psycopg
import pytest

import models
from server import BINDIR, Session, run

TABLES = {
    "atoms": "SELECT id, raw_value, geom::text FROM hart.stored_atoms",
    "relations": "SELECT parent_id, child_id, relation_type::text, position FROM hart.stored_relations WHERE relation_type = 'composition'",
}


def contents(session):
    """Everything that is stored, as sets."""
    return {name: set(session.all(query)) for name, query in TABLES.items()}


def make_text(seed, words=400, vocabulary=150):
    """A text with words of its own, some of them said twice, and some everybody has."""
    rng = random.Random(seed)
    own = [f"w{seed}x{n}é" for n in range(vocabulary)] + ["and", "the", "of", "日本", "👨‍👩‍👧"]
    return " ".join(rng.choice(own) for _ in range(words))


@pytest.fixture
def another_db(db):
    """A second database with the extension."""
    name = db.name + "_b"
    with Session.open(db.admin) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        admin.execute(f"CREATE DATABASE {name}")
    dsn = psycopg.conninfo.make_conninfo(db.dsn, dbname=name)
    with Session.open(dsn) as session:
        session.execute("SET client_min_messages = warning; CREATE EXTENSION hartonomous CASCADE")
        yield session
    with Session.open(db.admin) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def at_once(dsn, jobs):
    """Run lists of texts through hart.decompose, each list in a session of its own, all from the same moment on."""
    barrier, results, errors = threading.Barrier(len(jobs)), {}, []

    def work(number, texts):
        try:
            with Session.open(dsn) as session:
                barrier.wait(30)
                results[number] = [session.one("SELECT hart.decompose(%s::text)", text) for text in texts]
        except Exception as error:  # noqa: BLE001 - the test shows it
            errors.append(error)

    threads = [threading.Thread(target=work, args=job) for job in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not errors, errors
    return results


def test_eight_sessions_one_text(db, conn):
    """The same new text from eight sessions: one atom, one tree, no error."""
    for round_ in range(3):
        text = make_text(f"same{round_}")
        results = at_once(db.dsn, [[text]] * 8)
        assert {id_ for ids in results.values() for id_ in ids} == {results[0][0]}
        tree = "SELECT level, position, parent_id, atom_id FROM hart.decomposition(%s{})"
        assert conn.all(tree.format("::text"), text) == conn.all(tree.format("::bigint"), results[0][0])
        assert conn.one("SELECT hart.recompose(%s)", results[0][0]) == text


def test_sessions_with_texts_in_common(db, conn):
    """Different texts of the same new words, in different orders: nobody waits for ever."""
    texts = [make_text("common", 300)]
    rng = random.Random(1)
    for _ in range(7):
        words = texts[0].split(" ")
        rng.shuffle(words)
        texts.append(" ".join(words))
    jobs = [texts[n:] + texts[:n] for n in range(8)]
    results = at_once(db.dsn, jobs)
    for n in range(8):
        assert results[n] == results[0][n:] + results[0][:n]
    assert [conn.one("SELECT hart.recompose(%s)", id_) for id_ in results[0]] == texts


def test_repeatable_read(db, conn):
    """Who cannot see what another session stored is told to try again, and then finds it."""
    with db.connect() as other:
        conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        conn.one("SELECT count(*) FROM hart.stored_atoms_byte")
        theirs = other.one("SELECT hart.decompose('repeatable read, theirs'::text)")
        with pytest.raises(psycopg.errors.SerializationFailure):
            conn.one("SELECT hart.decompose('repeatable read, theirs'::text)")
        conn.rollback()
        conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        assert conn.one("SELECT hart.decompose('repeatable read, theirs'::text)") == theirs
        own = conn.one("SELECT hart.decompose('nobody else stores this one'::text)")
        assert conn.one("SELECT hart.recompose(%s)", own) == "nobody else stores this one"
        conn.rollback()
        with pytest.raises(psycopg.errors.UndefinedObject):
            conn.one("SELECT hart.recompose(%s)", own)


def test_order_does_not_matter(db, another_db):
    """The same texts in opposite orders in two databases: the same atoms, places and relations."""
    texts = [make_text(f"order{n}", 60, 40) for n in range(6)] + ["a", "a b", "b a", "Hello World", "Hello", "W", "\u0301"]
    name = db.name + "_a"
    with Session.open(db.admin) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        admin.execute(f"CREATE DATABASE {name}")
    try:
        with Session.open(psycopg.conninfo.make_conninfo(db.dsn, dbname=name)) as session:
            session.execute("SET client_min_messages = warning; CREATE EXTENSION hartonomous CASCADE")
            forward = [session.one("SELECT hart.decompose(%s::text)", text) for text in texts]
            backward = [another_db.one("SELECT hart.decompose(%s::text)", text) for text in reversed(texts)]
            assert forward == backward[::-1]
            assert contents(session) == contents(another_db)
    finally:
        with Session.open(db.admin) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_ten_megabytes(conn):
    """10 MB, with words of 5,000 characters, come back byte for byte; the second time adds nothing."""
    rng = random.Random(5)
    words = ["".join(rng.choices("abcdefghij\u00fc\u65e5", k=5000)) for _ in range(40)]
    text, size = [], 0
    while size < 10_000_000:
        text += [rng.choice(words), rng.choice([" ", "\n\n", "… ", "\u0000"])]
        size += len(text[-2].encode()) + 1
    data = "".join(text).encode()
    count = "SELECT (SELECT count(*) FROM hart.stored_atoms) + (SELECT count(*) FROM hart.stored_relations)"
    id_ = conn.one("SELECT hart.decompose(%s::bytea)", data)
    rows = conn.one(count)
    assert conn.one("SELECT hart.recompose_bytes(%s)", id_) == data
    assert conn.one("SELECT hart.decompose(%s::bytea)", data) == id_
    assert conn.one(count) == rows
    parts = conn.all("SELECT a.raw_value FROM hart.relations r JOIN hart.atoms a ON a.id = r.child_id WHERE r.parent_id = %s ORDER BY r.position", id_)
    assert b"".join(part for part, in parts) == data


def test_joins_by_index(conn):
    """Joins with the views reach atoms and relations by index: they are no filtered copies."""
    conn.execute("BEGIN")
    conn.execute("SET LOCAL enable_seqscan = off")
    plan = "\n".join(line for line, in conn.all(
        "EXPLAIN SELECT a.raw_value FROM hart.relations r JOIN hart.stored_atoms a ON a.id = r.child_id WHERE r.parent_id = 5 AND r.relation_type = 'composition'"))
    conn.rollback()
    assert "stored_relations_merge" not in plan and "Seq Scan" not in plan, plan


def test_privileges(db, conn):
    """Texts are for those who were granted them; tokens for those who may use a model."""
    db.model("llama_f16")
    tiles = conn.one("SELECT tiles::text FROM hart.models WHERE name = 'llama_f16'")
    token, atom = conn.all("SELECT token_id, id FROM hart.token_atoms JOIN hart.models USING (model_id) WHERE name = 'llama_f16' AND raw_value = 'the'")[0]
    text = conn.one("SELECT hart.decompose('a secret'::text)")
    conn.execute("BEGIN")
    conn.execute("CREATE ROLE hart_test_nobody; CREATE ROLE hart_test_writer; CREATE ROLE hart_test_reader; CREATE ROLE hart_test_user")
    conn.execute("GRANT INSERT ON hart.stored_atoms TO hart_test_writer")
    conn.execute("GRANT SELECT ON hart.stored_atoms, hart.stored_relations, hart.atoms, hart.relations TO hart_test_reader")
    conn.execute(f"GRANT SELECT ON {tiles} TO hart_test_user")

    def outcome(role, statement, *args):
        conn.execute("SAVEPOINT s")
        conn.execute(f"SET LOCAL ROLE {role}")
        try:
            return conn.one(statement, *args)
        except psycopg.Error as error:
            return error.sqlstate
        finally:
            conn.execute("ROLLBACK TO s")

    store, read, tree = "SELECT hart.decompose('a new one'::text)", "SELECT hart.recompose(%s)", "SELECT count(*) FROM hart.decomposition(%s::bigint)"
    assert outcome("hart_test_writer", store) == conn.one("SELECT hart.atom_id('text', 'a new one')")
    assert outcome("hart_test_reader", read, text) == "a secret"
    assert outcome("hart_test_reader", tree, text) == 1 + 3 + 8 + 8
    assert outcome("hart_test_reader", "SELECT count(*) FROM hart.relations WHERE parent_id = %s", text) == 3
    for role in ("hart_test_nobody", "hart_test_reader", "hart_test_user"):
        assert outcome(role, store) == "42501", role
        assert outcome(role, "SELECT hart.decompose('a secret'::text)") == "42501", role
    for role in ("hart_test_nobody", "hart_test_writer", "hart_test_user"):
        for query in (read, tree, "SELECT count(*) FROM hart.atoms WHERE id = %s", "SELECT count(*) FROM hart.stored_atoms WHERE id = %s",
                      "SELECT count(*) FROM hart.stored_atoms_text WHERE id = %s", "SELECT count(*) FROM hart.stored_relations_composition WHERE parent_id = %s"):
            assert outcome(role, query, text) == "42501", (role, query)
        # what a text is made of tells nobody anything that it does not say itself
        assert outcome(role, "SELECT count(*) FROM hart.decomposition('a secret'::text)") == 20
    assert outcome("hart_test_user", read, atom) == "the"
    assert outcome("hart_test_user", "SELECT atom_id FROM hart.tokens WHERE token_id = %s", token) == atom
    assert outcome("hart_test_nobody", read, atom) == "42704"
    assert outcome("hart_test_nobody", "SELECT count(*) FROM hart.tokens") == 0
    assert outcome("hart_test_nobody", "SELECT count(*) FROM hart.token_atoms") == 0
    for role in ("hart_test_nobody", "hart_test_writer", "hart_test_user"):
        assert outcome(role, "SELECT hart.write_relations('composition', '{1}', '{1}', '{0}')") == "42501"
        assert outcome(role, "SELECT hart.store_atoms('text', '{x}', '{1}')") == "42501"
        assert outcome(role, "SELECT hart.add_tokens(1, '{1}', '{x}', '{f}')") == "55000"
    conn.rollback()


def test_vocabulary_of_a_model(db, conn, folders, refused):
    """Every token has its atom, every merge its relations; they go with the model."""
    name = "qwen3_mixed"
    conn.execute("CALL hart.ingest_model(%s, 'tokens')", [str(folders(name))])
    vocabulary = json.loads((folders(name) / "tokenizer.json").read_text())
    size = models.BY_NAME[name].vocab
    expected = {number: token.encode() for token, number in vocabulary["model"]["vocab"].items() if number < size}
    found = {token: (bytes(content), special) for token, content, special in conn.all(
        "SELECT token_id, raw_value, special FROM hart.token_atoms JOIN hart.models USING (model_id) WHERE name = 'tokens'")}
    assert {token: content for token, (content, _) in found.items()} == expected
    assert {token for token, (_, special) in found.items() if special} == {0, 1, 2}
    merges = conn.all("""SELECT m.rank, p.raw_value, l.raw_value, r.raw_value FROM hart.relations m JOIN hart.relations n USING (model, parent_id, rank)
                         JOIN hart.stored_atoms p ON p.id = m.parent_id JOIN hart.stored_atoms l ON l.id = m.child_id JOIN hart.stored_atoms r ON r.id = n.child_id
                         WHERE m.relation_type = 'merge' AND m.position = 0 AND n.relation_type = 'merge' AND n.position = 1 AND model = 'tokens' ORDER BY rank""")
    pairs = [merge.split(" ") for merge in vocabulary["model"]["merges"]]
    assert merges == [(rank, (a + b).encode(), a.encode(), b.encode()) for rank, (a, b) in enumerate(pairs)]
    assert len(merges) > 10
    # the characters of a token, and a merge, cannot be deleted away from it
    atom = conn.one("SELECT atom_id FROM hart.tokens JOIN hart.models USING (model_id) WHERE name = 'tokens' AND token_id = 50")
    refused(conn, "23503", "DELETE FROM hart.atoms WHERE id = %s", atom)
    conn.execute("CALL hart.drop_model('tokens')")
    assert conn.all("SELECT 1 FROM hart.stored_relations_merge m WHERE NOT EXISTS (SELECT FROM hart.model_registry r WHERE r.model_id = m.model_id)") == []
    assert conn.all("SELECT 1 FROM hart.tokens t WHERE NOT EXISTS (SELECT FROM hart.model_registry r WHERE r.model_id = t.model_id)") == []


def test_dump_and_restore(server, server_db, folder):
    """Texts are in a dump, bytes are not, and the copy goes on where the original was."""
    texts = [make_text("dump", 50, 30), "Hello World", "\x01"]
    with server_db.connect() as session:
        ids = [session.one("SELECT hart.decompose(%s::text)", text) for text in texts]
        before = contents(session)
    e = server.environment
    where = ["-h", e["PGHOST"], "-p", e["PGPORT"], "-U", e["PGUSER"]]
    for form in ("custom", "plain"):
        dump, name = folder / f"dump_{form}", f"atoms_{form}"
        run(BINDIR / "pg_dump", *where, "-d", server_db.name, "-F", form, "-f", dump)
        with Session.open(server_db.admin) as admin:
            admin.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        if form == "plain":
            run(BINDIR / "psql", *where, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", name, "-f", dump)
        else:
            run(BINDIR / "pg_restore", *where, "--exit-on-error", "-d", name, dump)
        with Session.open(server.dsn(name)) as session:
            assert contents(session) == before
            assert [session.one("SELECT hart.decompose(%s::text)", text) for text in texts] == ids
            assert contents(session) == before
            assert session.one("SELECT hart.recompose(hart.decompose('Hello again, World'::text))") == "Hello again, World"
        with Session.open(server_db.admin) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def hilbert_index(cells, bits):
    """Skilling's transform on whole arrays: cells is (n, 4), the result n indexes."""
    x = cells.astype(np.uint64).T.copy()
    for bit in range(bits - 1, 0, -1):
        low = np.uint64((1 << bit) - 1)
        for i in range(4):
            is_set = (x[i] >> np.uint64(bit)) & np.uint64(1) == 1
            swap = np.where(is_set, np.uint64(0), (x[0] ^ x[i]) & low)
            x[0] ^= np.where(is_set, low, swap)
            x[i] ^= swap
    x = np.bitwise_xor.accumulate(x, axis=0)
    flip = np.zeros_like(x[0])
    for bit in range(bits - 1, 0, -1):
        flip ^= np.where((x[3] >> np.uint64(bit)) & np.uint64(1) == 1, np.uint64((1 << bit) - 1), np.uint64(0))
    index = np.zeros_like(x[0])
    for bit in range(bits - 1, -1, -1):
        for i in range(4):
            index = index << np.uint64(1) | (((x[i] ^ flip) >> np.uint64(bit)) & np.uint64(1))
    return index


@pytest.mark.parametrize("bits", [1, 2, 5, 12, 15])
def test_hilbert_by_numpy(conn, bits):
    """hart.hilbert_encode_4d agrees with numpy, and the index leads back to the cell."""
    cells = np.random.default_rng(bits).integers(0, 1 << bits, (3000, 4))
    points = (cells + 0.5) / (1 << (bits - 1)) - 1
    rows = conn.all("""SELECT index, hart.hilbert_decode_4d_array(index, %s) FROM unnest(%s::float8[], %s::float8[], %s::float8[], %s::float8[]) WITH ORDINALITY AS p (x, y, z, w, n),
                       LATERAL hart.hilbert_encode_4d(x, y, z, w, %s) AS index ORDER BY n""", bits, *(list(map(float, axis)) for axis in points.T), bits)
    assert [index for index, _ in rows] == hilbert_index(cells, bits).tolist()
    assert np.array_equal(np.array([centre for _, centre in rows]), points)
