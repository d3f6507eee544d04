"""Threads, kernels and memory: the same answers with any of them, and no more memory than is due."""
import shutil

import pytest
from psycopg import Error

import models
from answers import GOLDENS, assert_logits, generate_ids, logits
from background import Background, PeakMemory, private_megabytes, wait_for

NAMES = ["llama_odd", "llama_wide", "llama_broad", "qwen2_untied", "qwen3_mixed"]


def assert_golden(session, name):
    m = models.BY_NAME[name]
    for case in GOLDENS[name]["cases"][-2:]:
        ids = models.prompt_ids(m, case["length"])
        assert_logits(logits(session, name, ids), case)
        assert generate_ids(session, name, ids, 6) == case["greedy"][:6]


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("name", NAMES)
def test_threads(db, conn, name, threads):
    conn.execute(f"SET hart.threads = {threads}")
    assert_golden(conn, db.model(name))


@pytest.mark.parametrize("kernel", ["portable", "avx2", "avx512", "amx", "auto"])
@pytest.mark.parametrize("name", NAMES)
def test_kernels(db, conn, name, kernel):
    conn.execute("SELECT hart.library_version()")   # before it is loaded any setting goes
    try:
        conn.execute(f"SET hart.kernel = {kernel}")
    except Error as error:
        assert error.sqlstate == "22023" and kernel in ("avx2", "avx512", "amx") and error.diag.message_hint
        pytest.skip(f"this CPU has no {kernel}")
    assert_golden(conn, db.model(name))


@pytest.mark.parametrize("name", NAMES)
def test_thread_count_changes_no_bit(db, conn, name):
    """How the work is shared does not change what is computed."""
    ids = models.prompt_ids(models.BY_NAME[db.model(name)], 17)
    answers = []
    for threads in (1, 2, 3):
        conn.execute(f"SET hart.threads = {threads}")
        answers.append(logits(conn, name, ids))
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_on_a_large_model(db, conn, threads):
    conn.execute(f"SET hart.threads = {threads}")
    name = db.model("qwen_shape")
    case = GOLDENS[name]["cases"][1]
    ids = models.prompt_ids(models.BY_NAME[name], case["length"])
    assert_logits(logits(conn, name, ids), case)


@pytest.mark.parametrize("percent", [0, 1, 90])
def test_pinned_or_streamed(db, conn, percent):
    conn.execute(f"SET hart.pin_percent = {percent}")
    for name in ("llama_wide", "qwen3_mixed"):
        assert_golden(conn, db.model(name))


def test_memory_of_an_export(db, folder):
    """332 MB in all, 272 MB of them one tensor: neither is ever in memory as a whole."""
    name = db.model("qwen_shape")
    with db.connect() as session, PeakMemory(session.pid) as memory:
        session.execute("CALL hart.export_model(%s, %s)", [name, str(folder / "out")])
    shutil.rmtree(folder / "out")
    assert memory.peak < 250


def test_memory_of_a_run(db):
    """The weights are read where they lie: a session has no copy of them."""
    name = db.model("qwen_shape")
    with db.connect() as session, PeakMemory(session.pid) as memory:
        ids = models.prompt_ids(models.BY_NAME[name], 130)
        assert generate_ids(session, name, ids, 8) == GOLDENS[name]["cases"][2]["greedy"]
        logits(session, name, ids)
    assert memory.peak < 200


def test_memory_does_not_grow(db):
    """A thousand runs in one session, some of which fail, take no more memory than some."""
    name = db.model("llama_f32")
    with db.connect() as session:
        def runs(n):
            session.execute(f"""DO $$ BEGIN
                FOR i IN 1 .. {n} LOOP
                    PERFORM hart.generate('the', 2, 'llama_f32');
                    BEGIN PERFORM hart.logits(ARRAY[5, 6, 7, -1], 'llama_f32'); EXCEPTION WHEN invalid_parameter_value THEN NULL; END;
                END LOOP; END $$""")
        runs(100)
        before = private_megabytes(session.pid)
        for _ in range(3):
            runs(100)
        assert name and private_megabytes(session.pid) - before < 8


def test_two_sessions_share_the_weights(db):
    """Both run at once, and neither has a copy."""
    name = db.model("qwen_shape")
    case = GOLDENS[name]["cases"][1]
    ids = models.prompt_ids(models.BY_NAME[name], case["length"])
    works = [Background(db.dsn, "SELECT hart.generate_tokens(%s::int[], 8, %s)", ids, name) for _ in range(2)]
    peaks = [0.0, 0.0]

    def measure():
        for n, work in enumerate(works):
            peaks[n] = max(peaks[n], private_megabytes(work.session.pid))
        return not any(work.thread.is_alive() for work in works)
    wait_for("end of both", measure)
    for work in works:
        assert work.result == [(case["greedy"],)], work.error
        work.close()
    assert max(peaks) < 200
