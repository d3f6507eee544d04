"""Measure hart.weights and hart.relations: single neurons, a whole tensor read, a whole tensor rewritten.

bench/run.py calls measure_weights with a session that has bench/measure.sql; times are milliseconds by the server's clock.
"""

from statistics import median

TENSOR = "model.layers.1.mlp.gate_proj.weight"
DOWN = "model.layers.1.mlp.down_proj.weight"
ROUNDS = 5

FUNCTIONS = """
CREATE FUNCTION pg_temp.timed(statement text) RETURNS float8
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    started timestamptz := clock_timestamp();
BEGIN
    EXECUTE statement;
    RETURN pg_temp.since(started);
END $$;
"""


def statements():
    """What is measured: name → statement, %s being the number of the round."""
    return {
        "neuron": f"SELECT sum(value) FROM hart.weights WHERE model = 'bench' AND tensor = '{DOWN}' AND row = 17 + %s",
        "edges": "SELECT count(*) FROM hart.relations WHERE parent_id = hart.neuron_atom('bench', 'layers.1.mlp', 5 + %s)",
        "edit": f"UPDATE hart.weights SET value = %s WHERE model = 'bench' AND tensor = '{DOWN}' AND row = 17 AND col = 42",
        "read": f"SELECT count(*), avg(value) FROM hart.weights WHERE model = 'bench' AND tensor = '{TENSOR}' AND row >= 0 - %s",
        "rewrite": f"UPDATE hart.weights SET value = -value WHERE model = 'bench' AND tensor = '{TENSOR}' AND row >= 0 - %s",
    }


def measure_weights(session):
    """Medians, and the number of weights of the tensor that is read and rewritten."""
    session.run(FUNCTIONS)
    weights = session.value(f"(SELECT shape[1] * shape[2] FROM hart.tensors WHERE name = '{TENSOR}')")
    times = {name: [] for name in statements()}
    for number in range(ROUNDS):
        for name, statement in statements().items():
            quoted = (statement % number).replace("'", "''")
            times[name].append(session.value(f"pg_temp.timed('{quoted}')"))
    return {"weights": weights, **{name: median(values) for name, values in times.items()}}


def weights_lines(figures):
    """The report, line by line."""
    per_second = {name: figures["weights"] / figures[name] / 1e3 for name in ("read", "rewrite")}
    return [
        f"one neuron by row of hart.weights       {figures['neuron']:8.2f} ms",
        f"edges out of one neuron                 {figures['edges']:8.2f} ms",
        f"edit of one weight                      {figures['edit']:8.2f} ms",
        f"a tensor of {figures['weights']} weights, read      {figures['read']:8.0f} ms, {per_second['read']:.1f} million rows/s",
        f"the same, rewritten                     {figures['rewrite']:8.0f} ms, {per_second['rewrite']:.1f} million rows/s",
    ]
