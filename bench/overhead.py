"""What a token costs beside arithmetic and memory: a model with as many layers and calls as the measured one, but hardly any weights."""

from hartonomous import NAME, Hartonomous, quoted
from make_model import Shape, write_model

THIN = "bench_thin"
TOKENS = 64


def thin_model(folder, layers):
    model = folder / f"thin-{layers}"
    if not (model / "config.json").exists():
        write_model(model, shape=Shape(dim=64, hidden=64, heads=1, kv_heads=1, head_dim=64, vocabulary=512, layers=layers))
    return model


def measure_overhead(samples, server, folder, layers, repeats=5):
    """Milliseconds a token of the thin model: in hart.forward, which is the layers in PL/pgSQL, and in the loop of hart.generate."""
    with server.session(script="SET client_min_messages = warning") as session:
        session.run(f"CALL hart.ingest_model({quoted(str(thin_model(folder, layers)))}, '{THIN}')")
    engine = Hartonomous(NAME, server, THIN)
    for _ in range(repeats):
        samples.add("thin_forward", NAME, engine.decode(1, 64, TOKENS), threads=1)
        call = quoted(f"SELECT hart.generate_tokens(ARRAY[11], {TOKENS}, min_tokens => {TOKENS})")
        samples.add("thin_generate", NAME, [engine.call(1, f"pg_temp.timed({call})") / TOKENS], threads=1)
    engine.stop()
