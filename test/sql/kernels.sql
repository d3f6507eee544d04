-- Every kernel and every number of threads compute the same network.
BEGIN;
\ir include/kernels.sql
\ir include/tiny_model.sql
SELECT plan(10);
SET LOCAL jit = off;
SET LOCAL client_min_messages = warning;

SELECT count(pg_temp.ingest_tiny(lower(dtype), 'qwen3', dtype, dim => 70, head_dim => 18, layers => 1, vocab => 110)) AS models FROM unnest(ARRAY['F32', 'F16', 'BF16']) AS dtype \gset

-- What is computed, as text: float4 in its shortest form, which tells any two numbers apart
CREATE FUNCTION pg_temp.linear(model text, rows int, whole boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    ctx hart.context := hart.open_context(model);
    x real[] := (SELECT array_agg(line) FROM (SELECT array_agg((CASE WHEN whole THEN hash % 9 ELSE hash / 2147483648.0 END)::real ORDER BY j) AS line
                                              FROM generate_series(1, rows) AS i, generate_series(1, 70) AS j, hashint4(i * 1000 + j) AS hash GROUP BY i) AS lines);
    y hart.matrix := hart.linear(ctx, 'lm_head', x::hart.matrix);
BEGIN
    PERFORM hart.close_context(ctx);
    RETURN y::text;
END $$;
CREATE TEMP TABLE vectors AS
SELECT (SELECT array_agg((hashint4(i) / 4e8)::real) FROM generate_series(1, 1237) AS i)::hart.matrix AS gate, (SELECT array_agg((hashint4(i) / 4e8)::real) FROM generate_series(2001, 3237) AS i)::hart.matrix AS up;

CREATE TEMP TABLE computed AS
SELECT what, kernel, threads, pg_temp.computed(expression, kernel, threads) AS result
FROM pg_temp.kernels() AS kernel, unnest(ARRAY[1, 2, 5]) AS threads,
     (SELECT format('%s rows by %s', rows, model), format('pg_temp.linear(%L, %s, false)', model, rows) FROM spec, unnest(ARRAY[1, 3, 4, 70]) AS rows
      UNION ALL SELECT format('whole: %s rows by %s', rows, model), format('pg_temp.linear(%L, %s, true)', model, rows) FROM spec, unnest(ARRAY[1, 9]) AS rows
      UNION ALL SELECT format('logits of %s', model), format('hart.logits(%L, %L)::hart.matrix', '{5,6,7,8,9,10,11,12}', model) FROM spec
      UNION ALL SELECT format('tokens of %s', model), format('hart.generate_tokens(%L, 8, %L)', '{5,6,7}', model) FROM spec
      UNION ALL SELECT 'swiglu', '(SELECT hart.swiglu(gate, up) FROM vectors)'
      UNION ALL SELECT 'dot', 'ARRAY[ARRAY[(SELECT hart.dot(gate, up) FROM vectors)]]::real[]::hart.matrix'
      UNION ALL SELECT 'product', '(SELECT hart.matmul(hart.transpose(line), line) FROM (SELECT (hart.matrix_row(gate, 1))[:150]::hart.matrix AS line FROM vectors) AS v)') AS job (what, expression);

SELECT is((SELECT count(*) FROM computed WHERE result IS NOT NULL), 27 * 3 * (SELECT count(DISTINCT kernel) FROM computed), 'everything was computed');
SELECT is_empty('SELECT what, kernel FROM computed GROUP BY 1, 2 HAVING count(DISTINCT result) > 1', 'the number of threads changes no bit');
SELECT is_empty('SELECT what FROM computed WHERE what LIKE ''whole%'' GROUP BY 1 HAVING count(DISTINCT result) > 1', 'sums of whole multiples are exact with every kernel');
SELECT is_empty('SELECT what FROM computed WHERE what = ''product'' GROUP BY 1 HAVING count(DISTINCT result) > 1', 'so are products of two numbers');
SELECT is_empty('SELECT what FROM computed WHERE what LIKE ''tokens%'' GROUP BY 1 HAVING count(DISTINCT result) > 1', 'every kernel generates the same tokens');
CREATE TEMP TABLE far AS
SELECT c.what, c.kernel, max(CASE WHEN x = 'NaN' THEN 'Infinity' ELSE abs(x - y) END) / max(abs(y)) AS difference
FROM computed AS c JOIN computed AS p ON p.what = c.what AND p.kernel = 'portable' AND p.threads = 1, unnest(c.result::hart.matrix::real[], p.result::hart.matrix::real[]) AS pair (x, y)
WHERE c.threads = 1 AND c.what !~ 'tokens|product' GROUP BY 1, 2;
SELECT is_empty('SELECT * FROM far WHERE NOT difference < 1e-5', 'every kernel is close to the portable one');
SELECT is((SELECT count(*) FROM far), 23 * (SELECT count(DISTINCT kernel) FROM computed), 'all were compared');
SELECT is_empty('SELECT c.what FROM computed AS c JOIN computed AS f ON f.what = replace(c.what, ''bf16'', ''f32'') WHERE c.what LIKE ''whole%bf16'' AND c.kernel = f.kernel AND c.result <> f.result',
                'BF16 and F32 hold the same weights');

-- Calls from parallel workers compute the same; the setting has another name since PostgreSQL 16
SELECT count(set_config(name, 'on', true)) AS changed FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query') \gset
SELECT is((SELECT md5(hart.swiglu(gate, up)::text) FROM vectors), (SELECT md5(result) FROM computed WHERE what = 'swiglu' AND kernel = (SELECT kernel FROM pg_temp.kernels() WITH ORDINALITY AS k (kernel, n) ORDER BY n DESC LIMIT 1) AND threads = 2),
          'a parallel plan computes the same');
SELECT is((SELECT md5(hart.logits('{5,6,7,8,9,10,11,12}', 'bf16')::hart.matrix::text)),
          (SELECT md5(result) FROM computed WHERE what = 'logits of bf16' AND kernel = (SELECT kernel FROM pg_temp.kernels() WITH ORDINALITY AS k (kernel, n) ORDER BY n DESC LIMIT 1) AND threads = 2),
          'the network in a parallel plan too');

SELECT * FROM finish();
ROLLBACK;
