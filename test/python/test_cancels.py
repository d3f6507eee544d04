"""Cancels at many moments of each phase: the session goes on, and nothing stays pinned, open or in memory."""
import psycopg
import pytest

import models
from answers import GOLDENS, assert_logits, logits
from background import private_megabytes

MODEL = "llama_wide"
MILLISECONDS = [1, 2, 3, 4, 5, 7, 9, 12, 15, 20, 25, 30, 40, 60]
PHASES = {
    "opening": "SELECT hart.close_context(hart.open_context('{0}')) FROM generate_series(1, 100000)",
    "prefill": "SELECT hart.forward(hart.open_context('{0}'), array_fill(5, ARRAY[400]), 0) IS NULL FROM generate_series(1, 100000)",
    "decoding": "SELECT hart.generate_tokens(ARRAY[5, n], 100, '{0}') FROM generate_series(6, 100) AS n",
    "streaming": "SELECT hart.generate_tokens(ARRAY[5, n], 100, '{0}') FROM generate_series(6, 100) AS n",
    "sampling": "SELECT hart.generate_tokens(ARRAY[5, n], 100, '{0}', temperature => 1, top_p => 0.9, seed => n) FROM generate_series(6, 100) AS n",
    # thousands of prompts that begin differently, so that some are left that are not remembered yet
    "remembering": "SELECT hart.generate_tokens(ARRAY[6 + n % 90, 6 + n / 90 % 90] || array_fill(7, ARRAY[298]), 1, '{0}') FROM generate_series(0, 8099) AS n",
    "beam search": "SELECT hart.beam_search_tokens(ARRAY[5, n], 50, 4, model => '{0}') FROM generate_series(6, 100) AS n",
    "scores": "SELECT count(*) FROM generate_series(6, 100000) AS n, hart.score_tokens(array_fill(7, ARRAY[300]), '{0}')",
    "neighbour graph": "SELECT hart.neighbor_graph(model_id, ARRAY(SELECT generate_series(0, 99)), '{{}}', 5) IS NULL FROM hart.models, generate_series(1, 100000) WHERE name = '{0}'",
}


@pytest.mark.parametrize("phase", PHASES)
def test_cancels(db, phase):
    name = db.model(MODEL)
    case = GOLDENS[MODEL]["cases"][-1]
    ids = models.prompt_ids(models.BY_NAME[MODEL], case["length"])
    with db.connect() as session, db.connect() as watcher:
        watcher.execute("CREATE EXTENSION IF NOT EXISTS pg_buffercache")
        tiles = watcher.one("SELECT hart.tiles_of(model_id)::text FROM hart.models WHERE name = %s", name)
        if phase == "streaming":
            session.execute("SET hart.pin_percent = 0")
        assert_logits(logits(session, name, ids), case)
        before = None
        for number, milliseconds in enumerate(MILLISECONDS * 2):
            session.execute(f"SET statement_timeout = {milliseconds}")
            with pytest.raises(psycopg.errors.QueryCanceled):
                session.execute(PHASES[phase].format(name))
            session.execute("RESET statement_timeout")
            if number == len(MILLISECONDS):
                before = private_megabytes(session.pid)
        assert watcher.one("SELECT sum(pinning_backends) FROM pg_buffercache WHERE relfilenode = pg_relation_filenode(%s)", tiles) in (0, None)
        assert session.one("SELECT count(*) FROM pg_backend_memory_contexts WHERE name IN ('hart context', 'hart embedding', 'hart tiles')") == 0
        assert session.one("SELECT bytes - remembered_bytes FROM hart.kv_cache_stats()") == 0
        assert private_megabytes(session.pid) - before < 16
        assert_logits(logits(session, name, ids), case)
        assert session.warnings == []
