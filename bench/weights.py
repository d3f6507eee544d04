"""Measure hart.weights and hart.relations: single neurons, a whole tensor read, a whole tensor rewritten; and the exact search for neighbours.

Called by run.py; times are milliseconds by the server's clock.
"""

TENSOR = "model.layers.1.mlp.gate_proj.weight"
DOWN = "model.layers.1.mlp.down_proj.weight"
NEAREST = "the 10 nearest of all embeddings, exact"
MODEL = "(SELECT model_id FROM hart.models WHERE name = 'bench')"
ROUNDS = 5

# What is measured; %s is the number of the round. What reads all of a tensor comes first, and once more than it counts: a changed page is looked
# at again until it is vacuumed.
READING = {
    NEAREST: f"SELECT count(*) FROM hart.nearest_rows({MODEL}, hart.embedding_row({MODEL}, 300 + %s), 10)",
}
STATEMENTS = {
    "one neuron by row of hart.weights": f"SELECT sum(value) FROM hart.weights WHERE model = 'bench' AND tensor = '{DOWN}' AND row = 17 + %s",
    "edges out of one neuron": "SELECT count(*) FROM hart.relations WHERE parent_id = hart.neuron_atom('bench', 'layers.1.mlp', 5 + %s)",
    "edit of one weight": f"UPDATE hart.weights SET value = %s WHERE model = 'bench' AND tensor = '{DOWN}' AND row = 17 AND col = 42",
    "a tensor of {weights} weights, read": f"SELECT count(*), avg(value) FROM hart.weights WHERE model = 'bench' AND tensor = '{TENSOR}' AND row >= 0 - %s",
    "the same, rewritten": f"UPDATE hart.weights SET value = -value WHERE model = 'bench' AND tensor = '{TENSOR}' AND row >= 0 - %s",
}


def measure_weights(samples, engine):
    """Milliseconds of each statement, and the number of weights of the tensor that is read and rewritten. Changes weights."""
    with engine.new_session() as session:
        found = f"SELECT t.shape[1] * t.shape[2] FROM hart.tensors AS t JOIN hart.model_registry AS r USING (model_id) WHERE r.name = 'bench' AND t.name = '{TENSOR}'"
        weights = session.value(f"({found})")

        def timed(statement, number):
            quoted = (statement % number).replace("'", "''")
            return session.value(f"pg_temp.timed('{quoted}')")

        for name, statement in READING.items():
            times = [timed(statement, number) for number in range(ROUNDS + 1)]
            samples.add("call", engine.name, times[1:], call=name)
        for number in range(ROUNDS):
            for name, statement in STATEMENTS.items():
                samples.add("call", engine.name, [timed(statement, number)], call=name.format(weights=weights))
