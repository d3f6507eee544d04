-- Memory of keys and values: counted, bounded by hart.kv_cache_limit, given back.
BEGIN;
\ir include/errors.sql
\ir include/tiny_model.sql
SELECT plan(25);
SET LOCAL jit = off;
SET LOCAL client_min_messages = warning;

SELECT pg_temp.ingest_tiny('m', 'qwen2', dim => 24, positions => 700) AS m \gset
SELECT hart.kv_cache_bytes(1, 'm') AS block \gset
CREATE FUNCTION pg_temp.held() RETURNS bigint LANGUAGE sql AS 'SELECT bytes FROM hart.kv_cache_stats()';
CREATE FUNCTION pg_temp.logits(ctx hart.context, n int, sequence int DEFAULT 0, pos int DEFAULT 0) RETURNS real[] LANGUAGE sql AS $$
    SELECT hart.matrix_row(hart.forward(ctx, (SELECT array_agg(abs(hashint4(i)) % 260 ORDER BY i) FROM generate_series(pos + 1, pos + n) AS i), pos, sequence), 1) $$;

-- What a run will take
SELECT is(hart.kv_cache_bytes(1, 'm'), (SELECT 128::bigint * 2 * 4 * n_kv_heads * head_dim * n_layers FROM hart.model_registry WHERE name = 'm'), 'a position takes a block in each layer');
SELECT is(hart.kv_cache_bytes(n, 'm'), :block::bigint * blocks, format('%s positions', n)) FROM (VALUES (0, 0), (-5, 0), (128, 1), (129, 2), (700, 6)) AS v (n, blocks);
SELECT cmp_ok(hart.kv_cache_bytes(2147483647, 'm'), '>', 2147483647::bigint, 'any number of positions has a size');
SELECT is(hart.kv_cache_bytes(NULL, 'm'), NULL, 'NULL positions have none');
SELECT pg_temp.refused('SELECT hart.kv_cache_bytes(1, ''none'')', '42704', 'of a model that does not exist');

-- What a session has
SELECT is(pg_temp.held(), 0::bigint, 'nothing is held before a run');
CREATE TEMP TABLE run AS SELECT hart.open_context('m') AS ctx;
SELECT is((SELECT pg_temp.logits((SELECT ctx FROM run), 300)) IS NOT NULL, true, 'a run');
SELECT is(pg_temp.held(), 3 * :block::bigint, 'takes the blocks that its positions need');
SELECT hart.fork_sequence((SELECT ctx FROM run), 0, 1, 300);
SELECT is(pg_temp.held(), 3 * :block::bigint, 'what a fork shares counts once');
SELECT is(hart.keep_prefix((SELECT ctx FROM run), (SELECT array_agg(1) FROM generate_series(1, 256))), 256, 'so does what is remembered');
SELECT is((SELECT format('%s %s', bytes, remembered_bytes) FROM hart.kv_cache_stats()), format('%s %s', 3 * :block::bigint, 2 * :block), 'and it is told apart');
SELECT pg_temp.logits((SELECT ctx FROM run), 1, 1, 300) IS NOT NULL AS goes_on \gset
SELECT is(pg_temp.held(), 4 * :block::bigint, 'a fork that goes on has a block of its own');

-- The limit
SET LOCAL hart.kv_cache_limit = '1MB';
SELECT is((SELECT limit_bytes FROM hart.kv_cache_stats()), 1048576::bigint, 'the limit is shown');
CREATE FUNCTION pg_temp.fill(ctx hart.context) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    FOR sequence IN 2 .. 1000 LOOP
        BEGIN
            PERFORM pg_temp.logits(ctx, 1, sequence);
        EXCEPTION WHEN configuration_limit_exceeded THEN
            RETURN sequence;
        END;
    END LOOP;
END $$;
SELECT is(pg_temp.fill((SELECT ctx FROM run)), (1048576 / :block - 4 + 2)::int, 'as many sequences run as there is room for');
SELECT cmp_ok(pg_temp.held(), '<=', 1048576::bigint, 'the limit is kept');
SELECT is((SELECT remembered_bytes FROM hart.kv_cache_stats()), 0::bigint, 'and remembered prompts made way');
SELECT pg_temp.refused('SELECT pg_temp.logits(ctx, 1, 1000) FROM run', '53400', 'then it is an error');
SELECT matches((pg_temp.error_of('SELECT pg_temp.logits(ctx, 1, 1000) FROM run')).detail, '^1000 positions of model "m" take [0-9.]+ MB\.$', 'which says what positions take');
SELECT is((SELECT pg_temp.logits((SELECT ctx FROM run), 1, 1, 301)) IS NOT NULL, true, 'sequences go on within their blocks');
SELECT hart.drop_sequence((SELECT ctx FROM run), 2);
SELECT is((SELECT pg_temp.logits((SELECT ctx FROM run), 1, 1000)) IS NOT NULL, true, 'what is let go makes room');
SELECT hart.close_context((SELECT ctx FROM run));
SELECT is(pg_temp.held(), 0::bigint, 'nothing is held after a run');

SELECT * FROM finish();
ROLLBACK;
