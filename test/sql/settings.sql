-- The settings hart.kernel, hart.activations, hart.threads, hart.choice_tokens, hart.kv_cache_limit, hart.pin_percent, hart.prefix_cache, hart.tile_encoding, hart.model, hart.model_directory and hart.geometry_python.
BEGIN;
\ir include/errors.sql
\ir include/kernels.sql
SELECT plan(63);

-- The library defines its settings when it is loaded
SELECT is(hart.library_version(), (SELECT extversion FROM pg_extension WHERE extname = 'hartonomous'), 'library and catalog are of the same version');
SELECT is((SELECT array_agg(name ORDER BY name) FROM pg_settings WHERE name LIKE 'hart.%'),
          '{hart.activations,hart.choice_tokens,hart.geometry_python,hart.kernel,hart.kv_cache_limit,hart.model,hart.model_directory,hart.pin_percent,hart.prefix_cache,hart.threads,hart.tile_encoding}', 'settings there are');
SELECT is_empty('SELECT name FROM pg_settings WHERE name LIKE ''hart.%'' AND coalesce(short_desc, '''') !~ ''^[A-Z].*\.$''', 'each has a description');
SELECT is((SELECT array_agg(name ORDER BY name) FROM pg_settings WHERE name LIKE 'hart.%' AND context = 'user'), '{hart.activations,hart.choice_tokens,hart.kernel,hart.kv_cache_limit,hart.model,hart.prefix_cache,hart.threads,hart.tile_encoding}', 'everybody may set these');
SELECT is((SELECT array_agg(name ORDER BY name) FROM pg_settings WHERE name LIKE 'hart.%' AND context = 'superuser'), '{hart.geometry_python,hart.model_directory,hart.pin_percent}', 'a superuser may set these');
SELECT is((SELECT code FROM pg_temp.error_of('SET hart.no_such_setting = 1')), '42602', 'other names are refused');

-- hart.kernel
SELECT is((SELECT boot_val FROM pg_settings WHERE name = 'hart.kernel'), 'auto', 'the best kernels are the default');
SELECT is((SELECT enumvals FROM pg_settings WHERE name = 'hart.kernel'), '{auto,portable,avx2,avx512,amx}', 'kernels are named');
SELECT ok('portable' IN (SELECT pg_temp.kernels()), 'the portable kernels are there on every machine');
SELECT is((SELECT code FROM pg_temp.error_of(format('SET hart.kernel = %L', value))), '22023', format('hart.kernel refuses %s', value))
FROM unnest(ARRAY['sse', '', 'AVX-512', '1']) AS value;
SELECT is(current_setting('hart.kernel'), 'auto', 'a refused value changes nothing');
SELECT is_empty('SELECT kernel FROM pg_temp.kernels() AS kernel WHERE pg_temp.computed(''hart.dot(''''{1,2,3}''''::real[], ''''{4,5,6}'''')'', kernel, 1) <> ''32''', 'each kernel computes');
SET LOCAL hart.kernel = 'portable';
CREATE FUNCTION pg_temp.local_kernel() RETURNS text LANGUAGE sql SET hart.kernel = 'auto' AS $$ SELECT current_setting('hart.kernel') $$;
SELECT is(pg_temp.local_kernel() || ' ' || current_setting('hart.kernel'), 'auto portable', 'a function can have its own');
SAVEPOINT before;
SET LOCAL hart.kernel = 'auto';
ROLLBACK TO before;
SELECT is(current_setting('hart.kernel'), 'portable', 'a rollback takes it back');

-- hart.activations
SELECT is((SELECT format('%s %s', boot_val, enumvals) FROM pg_settings WHERE name = 'hart.activations'), 'bf16x2 {float32,bf16x2,bf16}', 'activations keep 17 bits by default');
SELECT is((SELECT code FROM pg_temp.error_of(format('SET hart.activations = %L', value))), '22023', format('hart.activations refuses %s', value))
FROM unnest(ARRAY['f16', '']) AS value;

-- hart.threads
SELECT is((SELECT format('%s %s %s', boot_val, min_val, max_val) FROM pg_settings WHERE name = 'hart.threads'), '0 0 64', 'as many threads as cores are the default');
SELECT is((SELECT code FROM pg_temp.error_of(format('SET hart.threads = %L', value))), '22023', format('hart.threads refuses %s', value))
FROM unnest(ARRAY['-1', '65', '2147483648', 'two', '']) AS value;
CREATE TEMP TABLE factor AS SELECT (SELECT array_agg(row) FROM (SELECT array_agg((i * j % 7)::real) AS row FROM generate_series(1, 300) AS i, generate_series(1, 40) AS j GROUP BY j) AS rows)::hart.matrix AS a;
CREATE FUNCTION pg_temp.total(threads int) RETURNS float8 LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('hart.threads', threads::text, true);
    RETURN (SELECT hart.norm(hart.matmul(hart.transpose(a), a)) FROM factor);
END $$;
SELECT is((SELECT count(DISTINCT pg_temp.total(n)) FROM unnest(ARRAY[0, 1, 2, 3, 8, 64, 1, 0]) AS n), 1::bigint, 'threads come and go without changing a result');

-- hart.pin_percent
SELECT is((SELECT format('%s %s %s', boot_val, min_val, max_val) FROM pg_settings WHERE name = 'hart.pin_percent'), '75 0 90', 'three quarters of shared_buffers are the default');
SELECT is((SELECT code FROM pg_temp.error_of(format('SET hart.pin_percent = %L', value))), '22023', format('hart.pin_percent refuses %s', value))
FROM unnest(ARRAY['-1', '91', 'all']) AS value;

-- hart.prefix_cache
SELECT is((SELECT format('%s%s %s', boot_val, unit, min_val) FROM pg_settings WHERE name = 'hart.prefix_cache'), '64MB 0', '64 MB of prompts are remembered by default');
SELECT is((SELECT code FROM pg_temp.error_of(format('SET hart.prefix_cache = %L', value))), '22023', format('hart.prefix_cache refuses %s', value))
FROM unnest(ARRAY['-1', '1e15', 'all']) AS value;

-- hart.kv_cache_limit
SELECT is((SELECT format('%s%s %s', boot_val, unit, min_val) FROM pg_settings WHERE name = 'hart.kv_cache_limit'), '1024MB 1', 'a session has up to 1 GB of keys and values by default');
SELECT is((SELECT code FROM pg_temp.error_of(format('SET hart.kv_cache_limit = %L', value))), '22023', format('hart.kv_cache_limit refuses %s', value))
FROM unnest(ARRAY['0', '-1', '1e15', 'all']) AS value;

-- hart.choice_tokens
SELECT is((SELECT format('%s %s %s', boot_val, min_val, max_val) FROM pg_settings WHERE name = 'hart.choice_tokens'), '-1 -1 2147483647', 'a search among choices is bounded by the size of the model');
SELECT is((SELECT code FROM pg_temp.error_of(format('SET hart.choice_tokens = %L', value))), '22023', format('hart.choice_tokens refuses %s', value))
FROM unnest(ARRAY['-2', '2147483648', 'all', '']) AS value;

-- hart.tile_encoding
SELECT is((SELECT format('%s %s', boot_val, enumvals) FROM pg_settings WHERE name = 'hart.tile_encoding'), 'auto {auto,plain}', 'weights are packed by default');
SELECT is((SELECT code FROM pg_temp.error_of(format('SET hart.tile_encoding = %L', value))), '22023', format('hart.tile_encoding refuses %s', value))
FROM unnest(ARRAY['bf12', '']) AS value;

-- hart.model
SELECT is((SELECT boot_val FROM pg_settings WHERE name = 'hart.model'), NULL, 'no model is the default one');
SELECT is(set_config('hart.model', 'naïve "quoted" name', true), 'naïve "quoted" name', 'any name can be the default one');

-- Ordinary roles
CREATE ROLE hart_test_settings;
SET LOCAL ROLE hart_test_settings;
SELECT is((SELECT code FROM pg_temp.error_of(format('SET LOCAL %s', assignment))), sqlstate, format('an ordinary role: SET %s', assignment))
FROM (VALUES ('hart.threads = 1', NULL), ('hart.kernel = portable', NULL), ('hart.activations = bf16', NULL), ('hart.model = ''some''' , NULL), ('hart.prefix_cache = ''1GB''', NULL), ('hart.choice_tokens = 0', NULL),
             ('hart.pin_percent = 10', '42501'), ('hart.model_directory = ''/etc''', '42501'), ('hart.geometry_python = ''/bin/true''', '42501')) AS attempt (assignment, sqlstate);
RESET ROLE;

-- Paths of models
SET LOCAL hart.model_directory = '/no/such/place';
SELECT pg_temp.refused('CALL hart.ingest_model(''model'')', '58P01', 'relative paths start at hart.model_directory');
SELECT matches(message, '/no/such/place/model', 'the error names the whole path') FROM pg_temp.error_of('CALL hart.ingest_model(''model'')');
SELECT matches(message, '"/no/other/model"', 'an absolute path stays') FROM pg_temp.error_of('CALL hart.ingest_model(''/no/other/model'')');
SET LOCAL hart.model_directory = '';
SELECT matches(message, '"' || current_setting('data_directory') || '/no-such-model"', 'without it they start at the data directory') FROM pg_temp.error_of('CALL hart.ingest_model(''no-such-model'')');

SELECT * FROM finish();
ROLLBACK;
