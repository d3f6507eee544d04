-- A quantized copy of a model: a model of its own whose matrices are stored in 8 bits, with a scale for every 64 weights (src_c/q8.h).
-- It comes in as an ingested one does: entered first, its tiles written, made ready at the end; what is left of one that failed goes as after an ingest.

CREATE FUNCTION hart.quantized_encoding(method text, shape integer[], encoding text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN method = 'q8' AND cardinality(shape) = 2 AND shape[2] > 0 AND shape[2] % 64 = 0 THEN 'q8' ELSE encoding END;
COMMENT ON FUNCTION hart.quantized_encoding(text, integer[], text) IS
    'how a quantized model stores a tensor: matrices whose rows are a multiple of 64 long in the method''s encoding, the others as they were';

CREATE FUNCTION hart.check_readable(model_id integer, name text, caller regrole) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT coalesce(has_table_privilege(caller, hart.tiles_of(model_id), 'SELECT'), false) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('permission denied for model "%s"', name),
            HINT = format('Its owner can GRANT SELECT ON hart.tiles_%s to you.', model_id);
    END IF;
END $$;
COMMENT ON FUNCTION hart.check_readable(integer, text, regrole) IS 'error unless a role may read a model''s tiles';

CREATE FUNCTION hart.begin_quantize(caller regrole, source text, method text, name text, OUT source_id integer, OUT model_id integer, OUT tiles text) RETURNS record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET default_tablespace = '' AS $$
DECLARE
    original hart.model_registry;
BEGIN
    IF method IS DISTINCT FROM 'q8' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('unknown quantization method %s', coalesce(quote_literal(method), 'null')),
            HINT = 'The one method there is is q8.';
    END IF;
    SELECT * INTO original FROM hart.model_registry r WHERE r.name = source AND r.state = 'ready';
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('model "%s" does not exist', source),
            HINT = 'SELECT name FROM hart.models lists the models.';
    END IF;
    source_id := original.model_id;
    PERFORM hart.check_readable(source_id, source, caller);
    IF original.quantization IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('model "%s" is quantized already', source),
            HINT = format('Quantize the model it was made of, "%s".', original.quantized_from);
    END IF;
    PERFORM hart.drop_dead_ingests();
    model_id := hart.reserve_model(name);
    tiles := format('hart.tiles_%s', model_id);
    BEGIN
        INSERT INTO hart.model_registry (model_id, name, state, architecture, dim, hidden_dim, n_layers, n_heads, n_kv_heads, head_dim, vocab_size,
                                         max_positions, rms_norm_eps, rope_inv_freq, tied_embeddings, eos_token_ids, parameters, source_bytes, path,
                                         quantization, quantized_from, backend_pid, tensors_total, bytes_total)
        VALUES (model_id, name, 'ingesting', original.architecture, original.dim, original.hidden_dim, original.n_layers, original.n_heads, original.n_kv_heads, original.head_dim,
                original.vocab_size, original.max_positions, original.rms_norm_eps, original.rope_inv_freq, original.tied_embeddings, original.eos_token_ids, original.parameters,
                original.source_bytes, original.path, method, source, pg_backend_pid(), original.tensors_total, original.bytes_total)
        ON CONFLICT ON CONSTRAINT model_registry_name_key DO NOTHING;
        IF NOT FOUND THEN
            RAISE EXCEPTION USING ERRCODE = 'object_in_use', MESSAGE = format('model "%s" is being ingested by another session', name),
                HINT = 'Watch hart.ingest_progress, or give the new one another name.';
        END IF;
        -- 8-bit weights times their scales are float32 numbers
        INSERT INTO hart.tensors (model_id, tensor_id, name, shape, dtype, encoding, bytes, n_tiles, file, file_offset)
        SELECT begin_quantize.model_id, t.tensor_id, t.name, t.shape, s.dtype, e.encoding, s.bytes, hart.tile_count(e.encoding, s.bytes), t.file, t.file_offset
        FROM hart.tensors t,
             LATERAL (SELECT hart.quantized_encoding(method, t.shape, t.encoding)) AS e (encoding),
             LATERAL (SELECT CASE e.encoding WHEN 'q8' THEN 'F32' ELSE t.dtype END,
                             CASE e.encoding WHEN 'q8' THEN 4 * t.shape[1]::bigint * t.shape[2] ELSE t.bytes END) AS s (dtype, bytes)
        WHERE t.model_id = source_id;
        PERFORM hart.make_tile_table(caller, model_id, name);
    EXCEPTION WHEN OTHERS THEN
        PERFORM pg_advisory_unlock(hart.ingest_lock_class(), model_id);
        RAISE;
    END;
END $$;
COMMENT ON FUNCTION hart.begin_quantize(regrole, text, text, text) IS 'hart.begin_quantize for the role that called it';
REVOKE EXECUTE ON FUNCTION hart.begin_quantize(regrole, text, text, text) FROM PUBLIC;
CREATE FUNCTION hart.begin_quantize(source text, method text, name text, OUT source_id integer, OUT model_id integer, OUT tiles text) RETURNS record
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'hart_call_as_owner';
COMMENT ON FUNCTION hart.begin_quantize(text, text, text) IS 'enter a model that is about to be made of another by quantizing it, with its tensors, and make the table for its tiles';

CREATE FUNCTION hart.copy_vocabulary(caller regrole, source_id integer, model_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET session_replication_role = replica AS $$
BEGIN
    PERFORM hart.check_own_ingest(model_id, caller);
    PERFORM hart.check_readable(source_id, (SELECT r.name FROM hart.model_registry r WHERE r.model_id = source_id), caller);
    INSERT INTO hart.model_files (model_id, name, content, size, sha256, is_checkpoint)
    SELECT copy_vocabulary.model_id, f.name, f.content, f.size, f.sha256, f.is_checkpoint FROM hart.model_files f WHERE f.model_id = source_id;
    PERFORM hart.lock_atoms('token', ARRAY(SELECT DISTINCT t.atom_id FROM hart.tokens t WHERE t.model_id = source_id));
    INSERT INTO hart.tokens (model_id, token_id, atom_id, special)
    SELECT copy_vocabulary.model_id, t.token_id, t.atom_id, t.special FROM hart.tokens t WHERE t.model_id = source_id;
    PERFORM hart.write_relations('merge', m.parents, m.children, m.positions, m.ranks, copy_vocabulary.model_id)
    FROM (SELECT array_agg(r.parent_id) AS parents, array_agg(r.child_id) AS children, array_agg(r.position) AS positions, array_agg(r.rank) AS ranks
          FROM hart.stored_relations_merge r WHERE r.model_id = source_id) AS m
    WHERE m.parents IS NOT NULL;
    INSERT INTO hart.tokenizers
    SELECT (jsonb_populate_record(t, jsonb_build_object('model_id', copy_vocabulary.model_id))).* FROM hart.tokenizers t WHERE t.model_id = source_id;
    INSERT INTO hart.merge_pairs (model_id, left_id, right_id, merged_id, rank)
    SELECT copy_vocabulary.model_id, p.left_id, p.right_id, p.merged_id, p.rank FROM hart.merge_pairs p WHERE p.model_id = source_id;
END $$;
COMMENT ON FUNCTION hart.copy_vocabulary(regrole, integer, integer) IS 'hart.copy_vocabulary for the role that called it';
REVOKE EXECUTE ON FUNCTION hart.copy_vocabulary(regrole, integer, integer) FROM PUBLIC;
CREATE FUNCTION hart.copy_vocabulary(source_id integer, model_id integer) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'hart_call_as_owner';
COMMENT ON FUNCTION hart.copy_vocabulary(integer, integer) IS 'give the model that this session is quantizing the files, tokens and merges of its source';

-- With the rights of the caller, who reads the one model and owns the other
CREATE FUNCTION hart.copy_charts(source_id integer, model_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    chart hart.charts;
BEGIN
    FOR chart IN SELECT * FROM hart.charts c WHERE c.model_id = source_id ORDER BY c.chart LOOP
        EXECUTE format('INSERT INTO %s (model_id, chart, token_id, atom_id, position)'
                       ' SELECT $1, p.chart, p.token_id, p.atom_id, p.position FROM hart.token_positions p WHERE p.model_id = $2 AND p.chart = $3',
                       hart.begin_chart(model_id, chart.chart))
            USING model_id, source_id, chart.chart;
        PERFORM hart.finish_chart(model_id, chart.chart, chart.scale, chart.mean, chart.basis, chart.parameters, chart.seed);
    END LOOP;
END $$;
COMMENT ON FUNCTION hart.copy_charts(integer, integer) IS 'let the tokens of the model that this session is quantizing lie where those of its source lie';

CREATE FUNCTION hart.quantize_tiles(source_id integer, tiles regclass, model_id integer) RETURNS bigint
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'hart_quantize_tiles';
COMMENT ON FUNCTION hart.quantize_tiles(integer, regclass, integer) IS
    'write the tiles of the model that this session is quantizing, of those of its source under one snapshot; returns their number';

CREATE PROCEDURE hart.quantize_model(name text, method text DEFAULT 'q8', new_name text DEFAULT NULL, text text DEFAULT NULL)
LANGUAGE plpython3u AS $$
if 'hartonomous' not in GD: plpy.execute('SELECT hart.load_python()')
from hartonomous_server import quantize
quantize.quantize_model(plpy, GD, name, method, new_name, text)
$$;
COMMENT ON PROCEDURE hart.quantize_model(text, text, text, text) IS
'make a second model of a model, with its matrices in 8 bits, called <name>-q8 unless new_name says otherwise; tells how far the two are apart on a text';

-- How far two models are apart ----------------------------------------------------------------------

CREATE FUNCTION hart.compare_rows(a hart.matrix, b hart.matrix, targets integer[],
                                  OUT logprob_a float8, OUT logprob_b float8, OUT divergence float8, OUT error float8, OUT same_choice boolean) RETURNS SETOF record
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 100 AS 'MODULE_PATHNAME', 'hart_compare_rows';
COMMENT ON FUNCTION hart.compare_rows(hart.matrix, hart.matrix, integer[]) IS
    'for each row of logits of two models: log-probability of its target token in each, Kullback-Leibler divergence of b from a in nats, |b - a| / |a|, whether the best token is the same';

CREATE FUNCTION hart.compare_models(model_a text, model_b text, text text,
                                    OUT tokens integer, OUT perplexity_a float8, OUT perplexity_b float8, OUT divergence float8, OUT max_divergence float8,
                                    OUT error float8, OUT same_choices float8) RETURNS record
LANGUAGE plpgsql STABLE PARALLEL UNSAFE COST 10000 SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ids CONSTANT integer[] := hart.tokenize(text, model_a);
    n CONSTANT integer := coalesce(cardinality(ids), 0);
    a hart.context;
    b hart.context;
    context_length integer;
    -- rows of logits are large: a few at a time
    block CONSTANT integer := 64;
    last integer;
    positions integer[];
    sequences integer[];
    part record;
    sum_a float8 := 0;
    sum_b float8 := 0;
BEGIN
    IF text IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'text must not be null', HINT = 'Pass a text to compare the models on.';
    ELSIF ids IS DISTINCT FROM hart.tokenize(text, model_b) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the models have different tokens for the text',
            HINT = 'Compare models of one vocabulary, such as a model and its quantized copy.';
    END IF;
    a := hart.open_context(model_a);
    b := hart.open_context(model_b);
    context_length := least(hart.max_positions(a), hart.max_positions(b));
    tokens := 0;
    divergence := 0;
    error := 0;
    same_choices := 0;
    -- pieces as long as the shorter context, each read by itself
    FOR start IN 1 .. n - 1 BY context_length LOOP
        FOR at IN start .. least(start + context_length, n) - 1 BY block LOOP
            last := least(at + block, start + context_length, n) - 1;
            positions := ARRAY(SELECT generate_series(at - start, last - start));
            sequences := array_fill(0, ARRAY[last - at + 1]);
            SELECT count(*)::integer AS tokens, sum(r.logprob_a) AS sum_a, sum(r.logprob_b) AS sum_b, sum(r.divergence) AS divergence,
                   max(r.divergence) AS max_divergence, sum(r.error) AS error, count(*) FILTER (WHERE r.same_choice) AS same_choices INTO part
            FROM hart.compare_rows(hart.forward_batch(a, ids[at : last], sequences, positions),
                                   hart.forward_batch(b, ids[at : last], sequences, positions), ids[at + 1 : last + 1]) AS r;
            tokens := tokens + part.tokens;
            sum_a := sum_a + part.sum_a;
            sum_b := sum_b + part.sum_b;
            divergence := divergence + part.divergence;
            max_divergence := greatest(max_divergence, part.max_divergence);
            error := error + part.error;
            same_choices := same_choices + part.same_choices;
        END LOOP;
    END LOOP;
    PERFORM hart.close_context(a), hart.close_context(b);
    perplexity_a := exp(-sum_a / nullif(tokens, 0));
    perplexity_b := exp(-sum_b / nullif(tokens, 0));
    divergence := divergence / nullif(tokens, 0);
    error := error / nullif(tokens, 0);
    same_choices := same_choices / nullif(tokens, 0);
END $$;
COMMENT ON FUNCTION hart.compare_models(text, text, text) IS
'two models of one vocabulary on a text: number of predicted tokens, perplexity of each, mean and largest Kullback-Leibler divergence of b''s predictions from a''s in nats, mean of |b - a| / |a| of the logits, share of the tokens for which the likeliest is the same';
