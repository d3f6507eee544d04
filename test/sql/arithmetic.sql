-- A row's numbers depend on its own text alone: the same bits in one piece or in many, by itself or in a batch, for each set of kernels.
BEGIN;
\ir include/kernels.sql
\ir include/tiny_model.sql
SELECT plan(10);
SET LOCAL jit = off;
SET LOCAL client_min_messages = warning;

-- two are wider than the columns that are summed at a time, and rows of their weights are cut by the ends of tiles; one of them has rows of whole blocks of 12-bit weights
SELECT pg_temp.ingest_tiny('llama', 'llama', 'F32', positions => 300) AS llama, pg_temp.ingest_tiny('qwen2', 'qwen2', 'BF16', true, 24, positions => 300) AS qwen2,
       pg_temp.ingest_tiny('wide', 'qwen3', 'F16', true, 1100, layers => 1, vocab => 100, positions => 300) AS wide,
       pg_temp.ingest_tiny('packed', 'llama', 'BF16', true, 1152, head_dim => 32, layers => 1, vocab => 100, positions => 300) AS packed \gset
SELECT is(count(*), 7::bigint, 'rows of whole blocks are packed') FROM hart.tensors WHERE model_id = :packed AND encoding = 'bf12' AND shape[2] % 128 = 0;
CREATE FUNCTION pg_temp.some_tokens(n int, seed int) RETURNS int[] LANGUAGE sql AS $$ SELECT array_agg(abs(hashint4(i + seed * 1000)) % 100 ORDER BY i) FROM generate_series(1, n) AS i $$;

-- Logits of a prompt that is run in pieces which end at these places
CREATE FUNCTION pg_temp.in_pieces(model text, tokens int[], ends int[]) RETURNS real[] LANGUAGE plpgsql AS $$
DECLARE
    ctx hart.context := hart.open_context(model);
    at int := 0;
    place int;
    logits hart.matrix;
BEGIN
    FOREACH place IN ARRAY ends || cardinality(tokens) LOOP
        logits := hart.forward(ctx, tokens[at + 1:place], at);
        at := place;
    END LOOP;
    PERFORM hart.close_context(ctx);
    RETURN hart.matrix_row(logits, 1);
END $$;
-- The same where each token of the prompt is one of a batch of m, the others being of other texts
CREATE FUNCTION pg_temp.in_batches(model text, tokens int[], m int) RETURNS real[] LANGUAGE plpgsql AS $$
DECLARE
    ctx hart.context := hart.open_context(model);
    sequences int[] := ARRAY(SELECT generate_series(1, m));
    logits hart.matrix;
BEGIN
    FOR pos IN 0 .. cardinality(tokens) - 1 LOOP
        logits := hart.forward_batch(ctx, ARRAY(SELECT CASE WHEN s = m / 2 + 1 THEN tokens[pos + 1] ELSE (s * 7 + pos) % 100 END FROM unnest(sequences) AS s),
                                     sequences, array_fill(pos, ARRAY[m]));
    END LOOP;
    PERFORM hart.close_context(ctx);
    RETURN hart.matrix_row(logits, m / 2 + 1);
END $$;

CREATE TEMP TABLE kernel AS SELECT kernel FROM pg_temp.kernels() AS kernel;
CREATE TEMP TABLE whole AS
SELECT model, kernel, n, pg_temp.computed(format('hart.logits(pg_temp.some_tokens(%s, 1), %L)', n, model), kernel, 2) AS logits
FROM unnest(ARRAY['llama', 'qwen2', 'wide', 'packed']) AS model, kernel, unnest(ARRAY[12, 30, 150]) AS n;

-- [text, in pieces]
CREATE TEMP TABLE piecewise (model text, kernel text, n int, ends text);
INSERT INTO piecewise SELECT model, kernel, n, ARRAY[place]::text FROM whole, generate_series(1, n - 1) AS place WHERE n = 30 OR n = 150 AND place IN (1, 127, 128, 129, 149);
INSERT INTO piecewise SELECT model, kernel, n, (SELECT array_agg(place) FROM generate_series(size, n - 1, size) AS place)::text FROM whole, unnest(ARRAY[1, 2, 3, 5, 7, 19, 20]) AS size WHERE n = 30;
SELECT is_empty(format($$
    SELECT kernel, n, ends FROM piecewise JOIN whole USING (model, kernel, n)
    WHERE model = %L AND pg_temp.computed(format('pg_temp.in_pieces(%%L, pg_temp.some_tokens(%%s, 1), %%L)', model, n, ends), kernel, 1) <> logits $$, model),
    format('%s: a prompt in pieces, with each set of kernels', model))
FROM unnest(ARRAY['llama', 'qwen2', 'wide', 'packed']) AS model;
SELECT is(count(DISTINCT (n, ends)), 39::bigint, 'prompts were cut everywhere') FROM piecewise;

SELECT is_empty($$
    SELECT kernel, model, m FROM whole, unnest(ARRAY[1, 2, 4, 5, 7, 16, 20, 33]) AS m
    WHERE n = 12 AND pg_temp.computed(format('pg_temp.in_batches(%L, pg_temp.some_tokens(%s, 1), %s)', model, n, m), kernel, 2) <> logits $$,
    'a text in a batch of others, with each set of kernels');
-- more rows than go through the weights together: the last of them are many, a few, or one
CREATE FUNCTION pg_temp.in_a_crowd(model text, tokens int[], others int) RETURNS real[] LANGUAGE plpgsql AS $$
DECLARE
    ctx hart.context := hart.open_context(model);
    n CONSTANT int := cardinality(tokens);
    -- other texts of up to 150 tokens, each a sequence, then this one
    logits hart.matrix := hart.forward_batch(ctx, ARRAY(SELECT i % 100 FROM generate_series(0, others - 1) AS i) || tokens,
                                             ARRAY(SELECT i / 150 FROM generate_series(0, others - 1) AS i) || array_fill(others, ARRAY[n]),
                                             ARRAY(SELECT i % 150 FROM generate_series(0, others - 1) AS i) || ARRAY(SELECT generate_series(0, n - 1)));
BEGIN
    PERFORM hart.close_context(ctx);
    RETURN hart.matrix_row(logits, hart.n_rows(logits));
END $$;
SELECT is_empty($$
    SELECT kernel, model, crowd FROM whole, unnest(ARRAY[513, 524, 600]) AS crowd
    WHERE n = 30 AND pg_temp.computed(format('pg_temp.in_a_crowd(%L, pg_temp.some_tokens(%s, 1), %s)', model, n, crowd - n), kernel, 2) <> logits $$,
    'a text among hundreds of rows, with each set of kernels');

-- the set with AMX is that with AVX-512 but for bf16 weights, which two of these models have
SELECT is_empty('SELECT model, logits FROM whole WHERE n = 12 AND (kernel <> ''amx'' OR model IN (''qwen2'', ''packed'')) GROUP BY 1, 2 HAVING count(*) > 1',
                'sets of kernels differ by rounding, so that each was really tried');
SELECT cmp_ok(count(*), '>=', 1::bigint, 'there is a set of kernels') FROM kernel;

SELECT * FROM finish();
ROLLBACK;
