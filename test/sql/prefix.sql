-- Prompts that the session remembers: found where they may be, the same answer with and without, nothing left behind.
BEGIN;
\ir include/errors.sql
\ir include/tiny_model.sql
SELECT plan(55);
SET LOCAL jit = off;
SET LOCAL client_min_messages = warning;

SELECT pg_temp.ingest_tiny('m', 'qwen2', dim => 24, positions => 700) AS m, pg_temp.ingest_tiny('other', 'llama', 'F16', positions => 700) AS other \gset
SELECT hart.tiles_of(:m) AS tiles \gset
CREATE FUNCTION pg_temp.some_tokens(n int, seed int) RETURNS int[] LANGUAGE sql AS $$ SELECT array_agg(abs(hashint4(i + seed * 1000)) % 260 ORDER BY i) FROM generate_series(1, n) AS i $$;
CREATE FUNCTION pg_temp.held() RETURNS bigint LANGUAGE sql AS $$ SELECT (coalesce(sum(used_bytes), 0)::bigint / 1000) * 1000 FROM pg_backend_memory_contexts WHERE name = 'hart keys and values' $$;

-- Run a prompt as generate does: what is remembered, then the rest; remember it. Logits, and how many tokens were not run again.
CREATE FUNCTION pg_temp.run(tokens int[], model text DEFAULT 'm', keep boolean DEFAULT true, OUT restored int, OUT logits real[], OUT kept int) LANGUAGE plpgsql AS $$
DECLARE
    ctx hart.context := hart.open_context(model);
BEGIN
    restored := hart.restore_prefix(ctx, tokens);
    logits := hart.matrix_row(hart.forward(ctx, tokens[restored + 1:], restored), 1);
    IF keep THEN
        kept := hart.keep_prefix(ctx, tokens);
    END IF;
    -- what is decoded after that must not reach the store
    PERFORM hart.forward(ctx, '{7,8,9}', cardinality(tokens));
    PERFORM hart.close_context(ctx);
END $$;
-- The same from a state without memory: the setting empties the store
CREATE FUNCTION pg_temp.forget() RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    before text := current_setting('hart.prefix_cache');
BEGIN
    PERFORM set_config('hart.prefix_cache', '0', true), set_config('hart.prefix_cache', before, true);
    RETURN (SELECT prompts FROM hart.prefix_cache_stats());
END $$;
CREATE FUNCTION pg_temp.fail_after_keeping() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    ctx hart.context;
BEGIN
    ctx := hart.open_context('m');
    PERFORM hart.forward(ctx, pg_temp.some_tokens(150, 40), 0);
    PERFORM hart.keep_prefix(ctx, pg_temp.some_tokens(150, 40));
    PERFORM hart.keep_prefix(ctx, pg_temp.some_tokens(151, 40));
EXCEPTION WHEN invalid_parameter_value THEN
    RETURN SQLSTATE;
END $$;
CREATE FUNCTION pg_temp.mixed_kernels() RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    ctx hart.context := hart.open_context('m');
    kept int;
BEGIN
    PERFORM hart.forward(ctx, '{1,2,3}', 0);
    PERFORM set_config('hart.kernel', 'portable', true);
    PERFORM hart.forward(ctx, '{4}', 3);
    kept := hart.keep_prefix(ctx, '{1,2,3,4}');
    PERFORM set_config('hart.kernel', 'auto', true), hart.close_context(ctx);
    RETURN kept;
END $$;
CREATE FUNCTION pg_temp.many() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    ctx hart.context;
BEGIN
    FOR i IN 1 .. 300 LOOP
        BEGIN
            ctx := hart.open_context('m');
            PERFORM hart.restore_prefix(ctx, ARRAY[i % 7, i % 5, i % 3, 1]), hart.forward(ctx, ARRAY[i % 7, i % 5, i % 3, 1], 0), hart.keep_prefix(ctx, ARRAY[i % 7, i % 5, i % 3, 1]);
            IF i % 3 = 0 THEN
                PERFORM 1 / (i - i);
            END IF;
            PERFORM hart.close_context(ctx);
        EXCEPTION WHEN division_by_zero THEN
            NULL;
        END;
    END LOOP;
END $$;
CREATE TEMP TABLE expected AS SELECT hart.logits(pg_temp.some_tokens(300, 1), 'm') AS all, hart.logits((pg_temp.some_tokens(300, 1))[:256] || '{5,6}'::int[], 'm') AS whole_blocks, hart.logits((pg_temp.some_tokens(300, 1))[:200] || 5, 'm') AS part;
CREATE TEMP TABLE prompt AS SELECT pg_temp.some_tokens(300, 1) AS tokens;
CREATE TEMP TABLE opened (label text PRIMARY KEY, ctx hart.context);
SELECT pg_temp.forget() AS at_first \gset
SELECT pg_temp.held() AS nothing \gset

-- Found, and exact
SELECT is((restored, kept)::text, '(0,300)', 'a first prompt finds nothing and is kept') FROM prompt, pg_temp.run(tokens);
SELECT cmp_ok(pg_temp.held() - bytes, '<', 2000::bigint, 'blocks of the closed context that nobody kept are gone') FROM hart.prefix_cache_stats();
SELECT is(prompts || ' ' || positions, '1 300', 'what is remembered') FROM hart.prefix_cache_stats();
SELECT is(restored, 299, 'the same prompt again runs its last token') FROM prompt, pg_temp.run(tokens, keep => false);
SELECT is(logits, "all", 'and gives the same bits') FROM expected, prompt, pg_temp.run(tokens, keep => false);
SELECT is((restored, logits = whole_blocks)::text, '(256,t)', 'a prompt that leaves it where a block ends') FROM expected, prompt, pg_temp.run(tokens[:256] || '{5,6}'::int[], keep => false);
SELECT is((restored, logits = part)::text, '(200,t)', 'a prompt that leaves it within a block') FROM expected, prompt, pg_temp.run(tokens[:200] || 5, keep => false);
SELECT is((restored, logits = "all")::text, '(299,t)', 'neither wrote into what is remembered') FROM expected, prompt, pg_temp.run(tokens, keep => false);
SELECT is((restored, logits = hart.logits(tokens || '{7,8,9,10,11}'::int[], 'm'))::text, '(300,t)', 'what was decoded after a prompt was kept is not in it') FROM prompt, pg_temp.run(tokens || '{7,8,9,10,11}'::int[], keep => false);
SELECT is(restored, 0, 'a prompt that begins otherwise') FROM prompt, pg_temp.run(1 + tokens[1] || tokens, keep => false);
SELECT is(restored, 0, 'a prompt of one token has nothing to save') FROM prompt, pg_temp.run(tokens[:1], keep => false);
SELECT cmp_ok(hits, '>=', 6::bigint, 'hits are counted') FROM hart.prefix_cache_stats();
SELECT cmp_ok(misses, '>=', 3::bigint, 'and misses') FROM hart.prefix_cache_stats();

-- Kept once
SELECT pg_temp.held() AS before \gset
SELECT is(kept, 299, 'the beginning of a remembered prompt is remembered') FROM prompt, pg_temp.run(tokens[:299]);
SELECT is(pg_temp.held(), :before::bigint, 'without more memory');
SELECT is(kept, 310, 'a prompt that goes on') FROM prompt, pg_temp.run(tokens || pg_temp.some_tokens(10, 2));
SELECT is(prompts || ' ' || positions, '1 310', 'takes the place of its beginning') FROM hart.prefix_cache_stats();
SELECT is(pg_temp.held(), :before::bigint, 'in the same blocks but for the last');
SELECT is(kept, 290, 'a prompt that branches off') FROM prompt, pg_temp.run(tokens[:280] || pg_temp.some_tokens(10, 3));
SELECT is(prompts || ' ' || positions, '2 600', 'is one more') FROM hart.prefix_cache_stats();
SELECT is((SELECT bytes FROM hart.prefix_cache_stats()) * 3 / 4 < :before::bigint + 4000, true, 'of which the common blocks are held once');

-- Not found
SELECT is(restored, 0, 'another model') FROM prompt, pg_temp.run(tokens, 'other');
SELECT is((restored, kept)::text, '(0,300)', 'other kernels') FROM prompt, set_config('hart.kernel', 'portable', true), LATERAL (SELECT restored, kept FROM pg_temp.run(tokens)) AS r;
SELECT is(restored, 299, 'which find their own') FROM prompt, pg_temp.run(tokens);
SET LOCAL hart.kernel = 'auto';
SELECT is(pg_temp.mixed_kernels(), 0, 'what two sets of kernels computed together is not kept');
CREATE ROLE hart_test_prefix;
SELECT format('GRANT SELECT ON %s, prompt TO hart_test_prefix', :'tiles') AS command \gexec
SELECT (pg_temp.run(tokens)).restored AS mine FROM prompt \gset
SET LOCAL ROLE hart_test_prefix;
SELECT is((SELECT restored FROM prompt, pg_temp.run(tokens)), 0, 'what another role computed');
RESET ROLE;
SELECT is((SELECT restored FROM prompt, pg_temp.run(tokens, keep => false)), 299, 'is found by that role');

-- The weights change
SAVEPOINT before_update;
SELECT format('UPDATE %s SET payload = payload WHERE tensor_id = 3 AND tile_no = 0', :'tiles') AS command \gexec
SELECT is((restored, kept)::text, '(0,300)', 'after an UPDATE, even one that changes nothing') FROM prompt, pg_temp.run(tokens);
SELECT is(restored, 299, 'the new weights have prompts of their own') FROM prompt, pg_temp.run(tokens);
SELECT format('UPDATE %s SET payload = set_byte(payload, 1, 60) WHERE tensor_id = 3 AND tile_no = 0', :'tiles') AS command \gexec
SELECT is((restored, logits = hart.logits(tokens, 'm'))::text, '(0,t)', 'another UPDATE') FROM prompt, pg_temp.run(tokens);
SELECT is(logits <> "all", true, 'which changes the answer') FROM expected, prompt, pg_temp.run(tokens);
ROLLBACK TO before_update;
SELECT is((restored, logits = "all")::text, '(299,t)', 'after a rollback the old prompts are right again') FROM expected, prompt, pg_temp.run(tokens);
SAVEPOINT before_spec;
UPDATE hart.model_registry SET rms_norm_eps = 1e-3 WHERE name = 'm';
SELECT is(restored, 0, 'another description of the model') FROM prompt, pg_temp.run(tokens);
ROLLBACK TO before_spec;
SELECT is(restored, 299, 'and the old one again') FROM prompt, pg_temp.run(tokens);

-- The setting
SELECT is(pg_temp.forget(), 0, 'hart.prefix_cache = 0 forgets everything');
SELECT is(pg_temp.held(), :nothing::bigint, 'and frees it');
SET LOCAL hart.prefix_cache = 0;
SELECT is((restored, kept)::text, '(0,0)', 'then nothing is kept') FROM prompt, pg_temp.run(tokens);
SELECT is(hart.prefix_cache_stats() IS NOT NULL AND (SELECT prompts + bytes FROM hart.prefix_cache_stats()) = 0, true, 'or counted');
-- a block of this model takes 2 layers * 2 * 2 heads * 128 positions * 6 dimensions * 4 bytes = 24 kB, so 1 MB holds 42
SET LOCAL hart.prefix_cache = '1MB';
SELECT is(count(kept), 20::bigint, 'more prompts than there is room for') FROM generate_series(1, 20) AS i, pg_temp.run(pg_temp.some_tokens(300, i));
SELECT cmp_ok(bytes, '<=', 1048576::bigint, 'the memory is bounded') FROM hart.prefix_cache_stats();
SELECT cmp_ok(prompts, '>=', 10, 'and made use of') FROM hart.prefix_cache_stats();
SELECT is((SELECT restored FROM pg_temp.run(pg_temp.some_tokens(300, 20), keep => false)), 299, 'the last prompt is there');
SELECT is((SELECT restored FROM pg_temp.run(pg_temp.some_tokens(300, 1), keep => false)), 0, 'the first is not');
SELECT count(fresh.kept) AS more FROM generate_series(21, 30) AS i, pg_temp.run(pg_temp.some_tokens(300, 12), keep => false) AS used, pg_temp.run(pg_temp.some_tokens(300, i) || used.restored % 2) AS fresh \gset
SELECT is((SELECT restored FROM pg_temp.run(pg_temp.some_tokens(300, 12), keep => false)), 299, 'what is used stays, the rest goes');

-- Errors, and nothing left behind
INSERT INTO opened SELECT 'e', hart.open_context('m');
SELECT pg_temp.refused('SELECT ' || call, sqlstate, call) FROM (VALUES
    ('hart.keep_prefix(ctx, ''{1}'') FROM opened', '22023'), ('hart.keep_prefix(ctx, ''{1,NULL}'') FROM opened', '22004'), ('hart.restore_prefix(ctx, ''{1,NULL}'') FROM opened', '22004'), ('hart.restore_prefix(ctx, ''{{1},{2}}'') FROM opened', '22023')
) AS bad (call, sqlstate);
SELECT is(hart.restore_prefix(ctx, '{}') + hart.keep_prefix(ctx, '{}'), 0, 'no tokens') FROM opened;
SELECT is(hart.close_context(ctx)::text, '', 'closed') FROM opened;
SELECT pg_temp.forget() AS forgotten \gset
SELECT is(pg_temp.fail_after_keeping(), '22023', 'an error after a prompt was kept');
SELECT is((SELECT restored FROM pg_temp.run(pg_temp.some_tokens(150, 40), keep => false)), 149, 'does not take it back');
SELECT pg_temp.forget() AS forgotten \gset
SELECT is(pg_temp.held(), :nothing::bigint, 'blocks of the failed run are gone');
SELECT pg_temp.many() IS NULL AS ran \gset
SELECT pg_temp.forget() AS forgotten \gset
SELECT is(pg_temp.held() || ' ' || (SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'hart prefix'), :nothing || ' 0', 'hundreds of prompts, some of which fail, leave nothing');

-- Who replaces a layer must not get what the old one computed
SELECT kept AS kept_again FROM pg_temp.run('{1,2,3}') \gset
DO $$ BEGIN EXECUTE pg_get_functiondef('hart.feed_forward'::regproc); END $$;
SELECT is((SELECT restored FROM pg_temp.run('{1,2,3}')), 0, 'replacing a function of the transformer forgets everything');

SELECT * FROM finish();
ROLLBACK;
