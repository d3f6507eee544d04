-- hart.activations: rounded to one bf16 number or to the sum of two where the processor multiplies bf16 and the weights are that, and nowhere else; in one order of sums too.
BEGIN;
\ir include/kernels.sql
\ir include/tiny_model.sql
SELECT plan(10);
SET LOCAL jit = off;
SET LOCAL client_min_messages = warning;

SELECT pg_temp.ingest_tiny('rounded', 'qwen2', 'BF16', true, 24, positions => 300) AS bf16, pg_temp.ingest_tiny('plain', 'llama', 'F32', positions => 300) AS f32,
       pg_temp.ingest_tiny('packed', 'llama', 'BF16', true, 1152, head_dim => 32, layers => 1, vocab => 100, positions => 300) AS blocks \gset
CREATE FUNCTION pg_temp.some_tokens(n int) RETURNS int[] LANGUAGE sql AS $$ SELECT array_agg(abs(hashint4(i)) % 100 ORDER BY i) FROM generate_series(1, n) AS i $$;
CREATE FUNCTION pg_temp.logits_with(model text, kernel text, activations text, n int) RETURNS real[] LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('hart.kernel', kernel, true), set_config('hart.activations', activations, true);
    RETURN hart.logits(pg_temp.some_tokens(n), model);
END $$;
-- Logits of a prompt that is run in pieces of so many tokens
CREATE FUNCTION pg_temp.in_pieces(model text, kernel text, activations text, n int, size int) RETURNS real[] LANGUAGE plpgsql AS $$
DECLARE
    ctx hart.context;
    tokens int[] := pg_temp.some_tokens(n);
    logits hart.matrix;
BEGIN
    PERFORM set_config('hart.kernel', kernel, true), set_config('hart.activations', activations, true);
    ctx := hart.open_context(model);
    FOR at IN 0 .. n - 1 BY size LOOP
        logits := hart.forward(ctx, tokens[at + 1 : at + size], at);
    END LOOP;
    PERFORM hart.close_context(ctx);
    RETURN hart.matrix_row(logits, 1);
END $$;

CREATE TEMP TABLE computed AS
SELECT kernel, model, activations, pg_temp.logits_with(model, kernel, activations, 40) AS logits
FROM pg_temp.kernels() AS kernel, unnest(ARRAY['rounded', 'plain', 'packed']) AS model, unnest(ARRAY['float32', 'bf16x2', 'bf16']) AS activations;
CREATE TEMP TABLE pair AS
SELECT kernel, model, b.activations, f.logits AS exact, b.logits AS rounded, hart.l2_distance(f.logits, b.logits) / hart.norm(f.logits) AS error
FROM computed AS f JOIN computed AS b USING (kernel, model) WHERE f.activations = 'float32' AND b.activations <> 'float32';

SELECT is_empty('SELECT kernel FROM pair WHERE model = ''plain'' AND exact <> rounded', 'activations are not rounded for weights of another dtype');
SELECT is_empty('SELECT kernel FROM pair WHERE kernel IN (''portable'', ''avx2'') AND exact <> rounded', 'nor by kernels without such instructions');
SELECT is_empty('SELECT kernel FROM pair WHERE kernel = ''amx'' AND model = ''rounded'' AND exact = rounded', 'with AMX they are rounded');
SELECT is_empty('SELECT kernel, error FROM pair WHERE activations = ''bf16'' AND NOT error < 0.02', 'which changes the logits by less than 2 %');
SELECT is_empty('SELECT kernel, error FROM pair WHERE activations = ''bf16x2'' AND NOT error < 1e-4', 'and by less than 1e-4 where they are the sum of two');
SELECT is_empty('SELECT kernel FROM pair WHERE activations = ''bf16x2'' AND kernel <> ''amx'' AND exact <> rounded', 'which only AMX takes');
SELECT is_empty($$ SELECT c.kernel FROM computed AS c JOIN computed AS p USING (model, activations)
                   WHERE activations = 'float32' AND p.kernel = 'portable' AND NOT hart.l2_distance(c.logits, p.logits) < 1e-5 * hart.norm(p.logits) $$, 'unrounded ones are float32 with every kernel');
SELECT is_empty($$ SELECT kernel, activations, size FROM computed AS c, unnest(ARRAY[1, 3, 8, 12, 13, 16, 17, 32, 33, 39]) AS size
                   WHERE model <> 'plain' AND pg_temp.in_pieces(model, kernel, activations, 40, size) <> logits $$, 'a prompt in pieces gives the same bits');

-- What was remembered with one setting is not used with the other
SET LOCAL hart.kernel = 'auto';
CREATE FUNCTION pg_temp.run_and_keep(activations text) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    ctx hart.context;
    restored int;
BEGIN
    PERFORM set_config('hart.activations', activations, true);
    ctx := hart.open_context('rounded');
    restored := hart.restore_prefix(ctx, pg_temp.some_tokens(40));
    PERFORM hart.forward(ctx, (pg_temp.some_tokens(40))[restored + 1 :], restored);
    PERFORM hart.keep_prefix(ctx, pg_temp.some_tokens(40));
    PERFORM hart.close_context(ctx);
    RETURN restored;
END $$;
SELECT is(ARRAY[pg_temp.run_and_keep('float32'), pg_temp.run_and_keep('float32')], '{0,39}', 'a prompt is remembered');
SELECT is(pg_temp.run_and_keep('bf16'), CASE WHEN exact = rounded THEN 39 ELSE 0 END, 'but not with rounded activations, where they are rounded')
FROM pair WHERE model = 'rounded' AND activations = 'bf16' ORDER BY array_position(ARRAY['amx', 'avx512', 'avx2', 'portable'], kernel) LIMIT 1;

SELECT * FROM finish();
ROLLBACK;
