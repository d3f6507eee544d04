-- The transformer against a twin in plain SQL, in float8, for each family.
BEGIN;
\ir include/kernels.sql
\ir include/tiny_model.sql
SELECT plan(19);
SET LOCAL jit = off;
SET LOCAL client_min_messages = warning;

SELECT count(pg_temp.ingest_tiny(family, family, dtype, tied, dim)) AS models
FROM (VALUES ('llama', 'F32', false, 20), ('qwen2', 'BF16', true, 24), ('qwen3', 'F16', false, 20)) AS wanted (family, dtype, tied, dim) \gset
CREATE INDEX ON weight (model, tensor, row, col);
ANALYZE weight;

-- The twin ----------------------------------------------------------------------------------------

CREATE FUNCTION pg_temp.twin_embed(model_name text, tokens int[]) RETURNS float8[] LANGUAGE sql AS $$
    SELECT array_agg(line ORDER BY i)
    FROM (SELECT i, array_agg(value ORDER BY col) AS line FROM unnest(tokens) WITH ORDINALITY AS t (token, i)
          JOIN weight ON model = model_name AND tensor = 'model.embed_tokens.weight' AND row = token + 1 GROUP BY i) AS lines
$$;
CREATE FUNCTION pg_temp.twin_linear(model_name text, module text, x float8[]) RETURNS float8[] LANGUAGE sql AS $$
    SELECT array_agg(line ORDER BY i)
    FROM (SELECT i, array_agg(y ORDER BY row) AS line
          FROM (SELECT i, w.row, sum(x[i][w.col] * w.value) + coalesce(min(b.value), 0) AS y
                FROM generate_subscripts(x, 1) AS i
                JOIN weight AS w ON w.model = model_name AND w.tensor = module || '.weight'
                LEFT JOIN weight AS b ON b.model = model_name AND b.tensor = module || '.bias' AND b.col = w.row
                GROUP BY i, w.row) AS sums
          GROUP BY i) AS lines
$$;
-- each stretch of columns as wide as the weight over its root mean square
CREATE FUNCTION pg_temp.twin_norm(model_name text, module text, x float8[]) RETURNS float8[] LANGUAGE sql AS $$
    SELECT array_agg(line ORDER BY i)
    FROM (SELECT i, array_agg(y ORDER BY col) AS line
          FROM (SELECT i, c.col, x[i][c.col] / sqrt(avg(x[i][c.col] ^ 2) OVER (PARTITION BY i, (c.col - 1) / width) + eps) * w.value AS y
                FROM (SELECT max(col) AS width, max(eps) AS eps FROM weight JOIN spec USING (model) WHERE model = model_name AND tensor = module || '.weight') AS size,
                     generate_subscripts(x, 1) AS i, generate_subscripts(x, 2) AS c (col)
                JOIN weight AS w ON w.model = model_name AND w.tensor = module || '.weight' AND w.col = (c.col - 1) % (SELECT max(col) FROM weight WHERE model = model_name AND tensor = module || '.weight') + 1) AS normed
          GROUP BY i) AS lines
$$;
CREATE FUNCTION pg_temp.twin_rope(model_name text, x float8[], pos int) RETURNS float8[] LANGUAGE sql AS $$
    SELECT array_agg(line ORDER BY i)
    FROM (SELECT i, array_agg(x[i][col] * cos(angle) + CASE WHEN first_half THEN -x[i][col + half] ELSE x[i][col - half] END * sin(angle) ORDER BY col) AS line
          FROM (SELECT i, col, head_dim / 2 AS half, (col - 1) % head_dim < head_dim / 2 AS first_half,
                       (pos + i - 1) * theta ^ (-2.0 * ((col - 1) % (head_dim / 2)) / head_dim) AS angle
                FROM spec, generate_subscripts(x, 1) AS i, generate_subscripts(x, 2) AS col WHERE model = model_name) AS angles
          GROUP BY i) AS lines
$$;
-- row i of q is at the position of row (n - m + i) of k and v, which hold all n positions so far
CREATE FUNCTION pg_temp.twin_attend(model_name text, q float8[], k float8[], v float8[]) RETURNS float8[] LANGUAGE sql AS $$
    WITH head AS MATERIALIZED (SELECT head, head / (heads / kv_heads) AS kv_head, head_dim FROM spec, generate_series(0, heads - 1) AS head WHERE model = model_name),
         score AS (SELECT i, head, kv_head, head_dim, j, sum(q[i][head * head_dim + d] * k[j][kv_head * head_dim + d]) / sqrt(head_dim) AS score
                   FROM head, generate_subscripts(q, 1) AS i, generate_series(1, array_length(k, 1) - array_length(q, 1) + i) AS j, generate_series(1, head_dim) AS d
                   GROUP BY i, head, kv_head, head_dim, j),
         share AS (SELECT *, exp(score) / sum(exp(score)) OVER (PARTITION BY i, head) AS share FROM score),
         mixed AS (SELECT i, head, d, sum(share * v[j][kv_head * head_dim + d]) AS y FROM share, generate_series(1, head_dim) AS d GROUP BY i, head, d)
    SELECT array_agg(line ORDER BY i) FROM (SELECT i, array_agg(y ORDER BY head, d) AS line FROM mixed GROUP BY i) AS lines
$$;
CREATE FUNCTION pg_temp.twin_swiglu(gate float8[], up float8[]) RETURNS float8[] LANGUAGE sql AS $$
    SELECT array_agg(line ORDER BY i)
    FROM (SELECT i, array_agg(gate[i][col] / (1 + exp(-gate[i][col])) * up[i][col] ORDER BY col) AS line
          FROM generate_subscripts(gate, 1) AS i, generate_subscripts(gate, 2) AS col GROUP BY i) AS lines
$$;
CREATE FUNCTION pg_temp.twin_add(a float8[], b float8[]) RETURNS float8[] LANGUAGE sql AS $$
    SELECT array_agg(line ORDER BY i)
    FROM (SELECT i, array_agg(a[i][col] + b[i][col] ORDER BY col) AS line FROM generate_subscripts(a, 1) AS i, generate_subscripts(a, 2) AS col GROUP BY i) AS lines
$$;
CREATE FUNCTION pg_temp.twin_attention(model text, layer int, x float8[]) RETURNS float8[] LANGUAGE plpgsql AS $$
DECLARE
    module text := format('model.layers.%s.self_attn.', layer);
    q float8[] := pg_temp.twin_linear(model, module || 'q_proj', x);
    k float8[] := pg_temp.twin_linear(model, module || 'k_proj', x);
BEGIN
    IF model = 'qwen3' THEN
        q := pg_temp.twin_norm(model, module || 'q_norm', q);
        k := pg_temp.twin_norm(model, module || 'k_norm', k);
    END IF;
    RETURN pg_temp.twin_linear(model, module || 'o_proj',
        pg_temp.twin_attend(model, pg_temp.twin_rope(model, q, 0), pg_temp.twin_rope(model, k, 0), pg_temp.twin_linear(model, module || 'v_proj', x)));
END $$;
CREATE FUNCTION pg_temp.twin_feed_forward(model text, layer int, x float8[]) RETURNS float8[] LANGUAGE sql AS $$
    SELECT pg_temp.twin_linear(model, module || 'down_proj', pg_temp.twin_swiglu(pg_temp.twin_linear(model, module || 'gate_proj', x), pg_temp.twin_linear(model, module || 'up_proj', x)))
    FROM format('model.layers.%s.mlp.', layer) AS module
$$;
CREATE FUNCTION pg_temp.twin_hidden(model text, tokens int[]) RETURNS float8[] LANGUAGE plpgsql AS $$
DECLARE
    x float8[] := pg_temp.twin_embed(model, tokens);
    name text;
BEGIN
    FOR layer IN 0 .. (SELECT layers - 1 FROM spec WHERE spec.model = twin_hidden.model) LOOP
        name := format('model.layers.%s.', layer);
        x := pg_temp.twin_add(x, pg_temp.twin_attention(model, layer, pg_temp.twin_norm(model, name || 'input_layernorm', x)));
        x := pg_temp.twin_add(x, pg_temp.twin_feed_forward(model, layer, pg_temp.twin_norm(model, name || 'post_attention_layernorm', x)));
    END LOOP;
    RETURN x;
END $$;
CREATE FUNCTION pg_temp.twin_logits(model text, tokens int[]) RETURNS float8[] LANGUAGE sql AS $$
    SELECT pg_temp.twin_linear(model, CASE WHEN tied THEN 'model.embed_tokens' ELSE 'lm_head' END,
               pg_temp.twin_norm(model, 'model.norm', (pg_temp.twin_hidden(model, tokens))[cardinality(tokens):cardinality(tokens)]))
    FROM spec WHERE spec.model = twin_logits.model
$$;

-- Largest difference relative to the largest number; infinite when the shapes differ or something is NaN
CREATE FUNCTION pg_temp.difference(a hart.matrix, b float8[]) RETURNS float8 LANGUAGE sql AS $$
    SELECT CASE WHEN hart.n_rows(a) = array_length(b, 1) AND hart.n_cols(a) = array_length(b, 2)
                THEN (SELECT max(CASE WHEN x = 'NaN' THEN 'Infinity' ELSE abs(x - y) END) / max(abs(y)) FROM unnest(a::real[], b) AS pair (x, y))
                ELSE 'Infinity' END
$$;
CREATE FUNCTION pg_temp.numbers(rows int, cols int, seed int) RETURNS float8[] LANGUAGE sql AS $$
    SELECT array_agg(line ORDER BY i)
    FROM (SELECT i, array_agg((hashint4(seed * 1000003 + i * 1009 + j) / 2147483648.0)::real::float8 ORDER BY j) AS line
          FROM generate_series(1, rows) AS i, generate_series(1, cols) AS j GROUP BY i) AS lines
$$;

-- Parts -------------------------------------------------------------------------------------------

CREATE TEMP TABLE part (model text, part text, rows int, difference float8);
CREATE FUNCTION pg_temp.compare_parts(model text, rows int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    s spec := (SELECT spec FROM spec WHERE spec.model = compare_parts.model);
    ctx hart.context := hart.open_context(model);
    x float8[] := pg_temp.numbers(rows, s.dim, 1);
    wide float8[] := pg_temp.numbers(rows, s.heads * s.head_dim, 2);
    gate float8[] := pg_temp.numbers(rows, s.hidden, 3);
    up float8[] := pg_temp.numbers(rows, s.hidden, 4);
    tokens int[] := (SELECT array_agg(abs(hashint4(i)) % s.vocab) FROM generate_series(1, rows) AS i);
    module text;
BEGIN
    INSERT INTO part SELECT model, 'embed_tokens', rows, pg_temp.difference(hart.embed_tokens(ctx, tokens), pg_temp.twin_embed(model, tokens));
    FOREACH module IN ARRAY ARRAY['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj', 'mlp.gate_proj', 'mlp.up_proj'] LOOP
        INSERT INTO part SELECT model, module, rows,
            pg_temp.difference(hart.linear(ctx, 1, module, x::real[]::hart.matrix), pg_temp.twin_linear(model, 'model.layers.1.' || module, x));
    END LOOP;
    INSERT INTO part VALUES
        (model, 'self_attn.o_proj', rows, pg_temp.difference(hart.linear(ctx, 0, 'self_attn.o_proj', wide::real[]::hart.matrix), pg_temp.twin_linear(model, 'model.layers.0.self_attn.o_proj', wide))),
        (model, 'mlp.down_proj', rows, pg_temp.difference(hart.linear(ctx, 0, 'mlp.down_proj', gate::real[]::hart.matrix), pg_temp.twin_linear(model, 'model.layers.0.mlp.down_proj', gate))),
        (model, 'lm_head', rows, pg_temp.difference(hart.linear(ctx, 'lm_head', x::real[]::hart.matrix),
                                                    pg_temp.twin_linear(model, CASE WHEN s.tied THEN 'model.embed_tokens' ELSE 'lm_head' END, x))),
        (model, 'model.norm', rows, pg_temp.difference(hart.rms_norm(ctx, 'model.norm', x::real[]::hart.matrix), pg_temp.twin_norm(model, 'model.norm', x))),
        (model, 'input_layernorm', rows, pg_temp.difference(hart.rms_norm(ctx, 1, 'input_layernorm', x::real[]::hart.matrix), pg_temp.twin_norm(model, 'model.layers.1.input_layernorm', x))),
        (model, 'q_norm', rows, pg_temp.difference(hart.head_norm(ctx, 1, 'self_attn.q_norm', wide::real[]::hart.matrix),
                                                   CASE WHEN model = 'qwen3' THEN pg_temp.twin_norm(model, 'model.layers.1.self_attn.q_norm', wide) ELSE wide END)),
        (model, 'rope at 0', rows, pg_temp.difference(hart.rope(ctx, wide::real[]::hart.matrix, 0), pg_temp.twin_rope(model, wide, 0))),
        (model, 'rope at 117', rows, pg_temp.difference(hart.rope(ctx, wide::real[]::hart.matrix, 117), pg_temp.twin_rope(model, wide, 117))),
        (model, 'swiglu', rows, pg_temp.difference(hart.swiglu(gate::real[]::hart.matrix, up::real[]::hart.matrix), pg_temp.twin_swiglu(gate, up))),
        (model, 'feed_forward', rows, pg_temp.difference(hart.feed_forward(ctx, 1, x::real[]::hart.matrix), pg_temp.twin_feed_forward(model, 1, x))),
        (model, 'attention', rows, pg_temp.difference(hart.attention(ctx, 1, x::real[]::hart.matrix, array_fill(0, ARRAY[rows]), ARRAY(SELECT generate_series(0, rows - 1))), pg_temp.twin_attention(model, 1, x)));
    PERFORM hart.close_context(ctx);
END $$;
-- by the best set whose products are float32 throughout
SELECT kernel AS float32_kernel FROM pg_temp.kernels() WITH ORDINALITY AS k (kernel, n) WHERE kernel <> 'amx' ORDER BY n DESC LIMIT 1 \gset
SET LOCAL hart.kernel = :'float32_kernel';
SELECT count(pg_temp.compare_parts(model, rows)) AS compared FROM spec, unnest(ARRAY[1, 3, 9]) AS rows \gset

SELECT is(count(*), 153::bigint, 'every part was compared') FROM part;
SELECT is_empty('SELECT * FROM part WHERE part = ''embed_tokens'' AND difference <> 0', 'embeddings are the very numbers');
SELECT is_empty('SELECT * FROM part WHERE part = ''q_norm'' AND model <> ''qwen3'' AND difference <> 0', 'families without head norms leave heads alone');
-- (the angle of a far position has few digits left in float4)
SELECT is_empty(format('SELECT * FROM part WHERE model = %L AND NOT coalesce(difference < CASE part WHEN ''rope at 117'' THEN 2e-5 ELSE 2e-6 END, false)', model), 'parts of ' || model) FROM spec;
-- and by the best set of this processor
SET LOCAL hart.kernel = 'auto';
SET LOCAL hart.activations = 'float32';
DELETE FROM part;
SELECT count(pg_temp.compare_parts(model, rows)) AS compared FROM spec, unnest(ARRAY[1, 3, 9]) AS rows \gset
SELECT is_empty('SELECT * FROM part WHERE NOT coalesce(difference < CASE part WHEN ''rope at 117'' THEN 2e-5 ELSE 2e-6 END, false)', 'parts by the best kernels of this processor');
-- and where these take two bf16 numbers for an activation, which may be off by 2^-17 of it
RESET hart.activations;
DELETE FROM part;
SELECT count(pg_temp.compare_parts(model, rows)) AS compared FROM spec, unnest(ARRAY[1, 3, 9]) AS rows \gset
SELECT is_empty('SELECT * FROM part WHERE NOT coalesce(difference < 2e-5, false)', 'the same with activations as they are by default');

-- The cache: many rows at once, then one by one, beyond a block of positions
CREATE TEMP TABLE attended (model text, difference float8);
CREATE FUNCTION pg_temp.compare_cache(model text, m int, then_one_by_one int) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
    s spec := (SELECT spec FROM spec WHERE spec.model = compare_cache.model);
    n int := m + then_one_by_one;
    q float8[] := pg_temp.numbers(n, s.heads * s.head_dim, 5);
    k float8[] := pg_temp.numbers(n, s.kv_heads * s.head_dim, 6);
    v float8[] := pg_temp.numbers(n, s.kv_heads * s.head_dim, 7);
    expected float8[] := pg_temp.twin_attend(model, q, k, v);
    ctx hart.context := hart.open_context(model);
    worst float8 := pg_temp.difference(hart.attend(ctx, 1, q[1:m]::real[]::hart.matrix, k[1:m]::real[]::hart.matrix, v[1:m]::real[]::hart.matrix, 0), expected[1:m]);
BEGIN
    FOR i IN m + 1 .. n LOOP
        worst := greatest(worst, pg_temp.difference(hart.attend(ctx, 1, q[i:i]::real[]::hart.matrix, k[i:i]::real[]::hart.matrix, v[i:i]::real[]::hart.matrix, i - 1), expected[i:i]));
    END LOOP;
    PERFORM hart.close_context(ctx);
    RETURN worst;
END $$;
SELECT cmp_ok(pg_temp.compare_cache('llama', 1, 5), '<', 5e-6::float8, 'attention one position after the other');
SELECT cmp_ok(pg_temp.compare_cache('qwen2', 5, 3), '<', 5e-6::float8, 'attention of some positions, then one after the other');
SELECT cmp_ok(pg_temp.compare_cache('qwen3', 126, 4), '<', 5e-6::float8, 'attention across blocks of the cache');

-- The whole network -------------------------------------------------------------------------------

CREATE TEMP TABLE answer AS
SELECT model, prompt, pg_temp.difference(hart.logits(prompt, model)::hart.matrix, pg_temp.twin_logits(model, prompt)) AS difference
FROM spec, unnest(ARRAY['{7}', '{5,250,3,99}', '{11,12,13,14,15,16,17,18,19,20,21,22}']) AS p (text), LATERAL (SELECT text::int[] AS prompt) AS cast_prompt;
SELECT is_empty(format('SELECT * FROM answer WHERE model = %L AND NOT coalesce(difference < 1e-5, false)', model), 'logits of ' || model) FROM spec;
SELECT is(count(*), 9::bigint, 'all logits were compared') FROM answer;

CREATE FUNCTION pg_temp.twin_generate(model text, tokens int[], max_tokens int) RETURNS int[] LANGUAGE plpgsql AS $$
DECLARE
    n int := cardinality(tokens);
    best int;
BEGIN
    FOR i IN 1 .. max_tokens LOOP
        SELECT at - 1 INTO best FROM unnest(pg_temp.twin_logits(model, tokens)) WITH ORDINALITY AS logit (value, at) ORDER BY value DESC, at LIMIT 1;
        tokens := tokens || best;
        EXIT WHEN best = 2;
    END LOOP;
    RETURN tokens[n + 1:];
END $$;
SELECT is(hart.generate_tokens('{40,41,42}', 6, model), pg_temp.twin_generate(model, '{40,41,42}', 6), 'tokens of ' || model) FROM spec;

-- What was run in pieces is what is run at once
CREATE FUNCTION pg_temp.in_pieces(model text, tokens int[], sizes int[]) RETURNS hart.matrix LANGUAGE plpgsql AS $$
DECLARE
    ctx hart.context := hart.open_context(model);
    pos int := 0;
    size int;
    logits hart.matrix;
BEGIN
    FOREACH size IN ARRAY sizes LOOP
        logits := hart.forward(ctx, tokens[pos + 1:pos + size], pos);
        pos := pos + size;
    END LOOP;
    PERFORM hart.close_context(ctx);
    RETURN logits;
END $$;
SELECT is_empty('SELECT model, sizes FROM spec, unnest(ARRAY[''{1,1,1,1,1,1,1,1,1,1}'', ''{3,7}'', ''{9,1}'', ''{4,3,2,1}'']) AS sizes
                 WHERE NOT pg_temp.difference(pg_temp.in_pieces(model, ''{9,8,7,6,5,4,3,10,11,12}'', sizes::int[]), ARRAY[hart.logits(''{9,8,7,6,5,4,3,10,11,12}'', model)]::float8[]) < 1e-5',
                'a prompt may be run in pieces');

SELECT * FROM finish();
ROLLBACK;
