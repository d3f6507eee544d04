-- What functions promise the planner, and whose rights they run with.
BEGIN;
SELECT plan(21);

CREATE TEMP VIEW function AS
SELECT p.oid, p.oid::regprocedure::text AS name, proname, lanname, provolatile, proparallel, proisstrict, prosecdef, proconfig, proargtypes::oid[], prorettype, prokind, procost, prosrc
FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
JOIN pg_depend AS d ON d.objid = p.oid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e' JOIN pg_extension AS e ON e.oid = d.refobjid
WHERE extname = 'hartonomous';

SELECT cmp_ok(count(*), '>', 70::bigint, 'the extension has functions') FROM function;

-- A context is state of one process
SELECT is_empty('SELECT name FROM function WHERE (''hart.context''::regtype = ANY (proargtypes) OR prorettype = ''hart.context''::regtype) AND proname NOT IN (''context_in'', ''context_out'') AND provolatile <> ''v''',
                'what uses a context is volatile');
SELECT is_empty('SELECT name FROM function WHERE (''hart.context''::regtype = ANY (proargtypes) OR prorettype = ''hart.context''::regtype) AND proname NOT IN (''context_in'', ''context_out'') AND proparallel = ''s''',
                'and stays out of parallel workers');
SELECT is_empty('SELECT name FROM function WHERE prosrc ~ ''open_context'' AND proparallel = ''s''', 'what opens a context does so too');

SELECT is_empty('SELECT name FROM function WHERE (prosrc ~ ''hart\.(de)?tokenize'' OR proname IN (''tokenize'', ''detokenize'', ''detokenize_continuation'', ''token_texts'', ''begin_pieces'', ''next_piece'')) AND proparallel <> ''u''',
                'what runs the tokenizer is unsafe: it may be in PL/Python, which queries in subtransactions');

-- Asking a model changes nothing: it is allowed wherever a SELECT is
SELECT is((SELECT array_agg(proname::text ORDER BY proname) FROM function WHERE proname IN ('logits', 'tokenize', 'detokenize', 'tensor_matrix', 'decompose_tensor', 'resolve_model') AND provolatile = 's'),
          ARRAY['decompose_tensor', 'detokenize', 'logits', 'resolve_model', 'tensor_matrix', 'tokenize'], 'what asks a model is stable');
-- Generating may draw at random, and must not run while a query is planned
SELECT set_eq('SELECT proname::text, provolatile::text || proparallel::text FROM function WHERE proname ~ ''^(generate|generation_steps|next_token|begin_generation|random_seed)''',
              $$VALUES ('generate', 'vu'), ('generate_tokens', 'vu'), ('generate_text', 'vu'), ('generate_many', 'vu'), ('generation_steps', 'vu'), ('next_token', 'vu'), ('next_token', 'su'), ('begin_generation', 'vu'),
                       ('generate_stream', 'su'), ('random_seed', 'vs')$$, 'generating is volatile; but only what is not can be put in the place of its call, and generate_stream is no more than a call of generation_steps');
SELECT set_eq('SELECT proname::text FROM function WHERE proname IN (''sample'', ''candidates'', ''generation_options'', ''check_stops'', ''check_logit_bias'') AND provolatile = ''i'' AND proparallel = ''s''',
              ARRAY['sample', 'candidates', 'generation_options', 'check_stops', 'check_logit_bias'], 'sampling depends on its arguments alone, the seed being one');
SELECT is_empty('SELECT name FROM function WHERE proname IN (''logits'', ''generate'', ''generate_tokens'', ''generate_text'', ''generate_many'', ''generate_stream'', ''generation_steps'') AND procost < 10000', 'the planner knows that it is dear');

-- Maths depends on its arguments alone
SELECT is_empty('SELECT name FROM function WHERE proname IN (''dot'', ''norm'', ''cosine'', ''l2_distance'', ''add'', ''scale'', ''matmul'', ''transpose'', ''argmax'', ''top_k'', ''softmax'', ''softmax_sql'', ''swiglu'', ''hilbert_encode_4d'',
                 ''hilbert_decode_4d'', ''n_rows'', ''n_cols'', ''matrix_row'', ''matrix_rows'', ''last_row'') AND NOT (provolatile = ''i'' AND proparallel = ''s'') AND NOT ''hart.context''::regtype = ANY (proargtypes)', 'maths is immutable and parallel safe');
SELECT is_empty('SELECT name FROM function WHERE provolatile = ''i'' AND prosrc ~* ''\m(current_setting|hart\.model_registry|hart\.tensors|hart\.tiles|hart\.resolve_model)\M''', 'immutable functions read no tables and no settings');

-- C functions get no NULL they do not expect
SELECT set_eq('SELECT name::text FROM function WHERE lanname = ''c'' AND NOT proisstrict AND cardinality(proargtypes) > 0',
          ARRAY['hart.begin_pieces(integer[],text)', 'hart.detokenize(integer[],text)', 'hart.detokenize_continuation(integer[],integer[],text)', 'hart.next_piece(hart.text_piece,integer,text[],boolean)',
                'hart.token_texts(integer[],text)', 'hart.tokenize(text,text,boolean)', 'hart.tokenize_plain(text[],text)', 'hart.add_merge_pairs(integer,integer[],integer[],integer[],integer[])', 'hart.add_tokenizer(integer,text[],boolean,integer[],integer[],integer[],text[],integer[],text[],integer[],bytea[],integer[])', 'hart.add_merges(integer,integer[],integer[],integer[],integer[])', 'hart.add_model_file(integer,text,bytea,bigint,bytea,boolean)', 'hart.add_tokens(integer,integer[],bytea[],boolean[])',
                'hart.abort_ingest(integer)', 'hart.begin_chart(integer,integer)', 'hart.begin_ingest(text,jsonb)', 'hart.begin_quantize(text,text,text)', 'hart.copy_vocabulary(integer,integer)', 'hart.drop_neighbourhood_charts(integer)', 'hart.finish_chart(integer,integer,double precision,double precision[],double precision[],jsonb,bigint)',
                'hart.finish_ingest(integer)', 'hart.note_progress(integer,integer,bigint,text)', 'hart.set_encoding(integer,integer,text)',
                'hart.candidates(hart.matrix,hart.generation_options,integer[],integer[],integer[],bytea)', 'hart.generation_steps(text,hart.generation_options,text)', 'hart.open_context(text)',
                'hart.sample(hart.matrix,hart.generation_options,integer[],integer[],integer[],bytea,bigint,integer,integer)'], 'C functions are strict, but for those that look at each argument, or hand it on');

-- Functions that run with the owner's rights
SELECT is_empty('SELECT name FROM function WHERE prosecdef AND NOT coalesce(proconfig::text ~ ''search_path=pg_catalog, pg_temp'', false)', 'functions with the owner''s rights have a search path of their own');
SELECT is_empty('SELECT name FROM function WHERE prosecdef AND lanname NOT IN (''sql'', ''plpgsql'')', 'and are in SQL or PL/pgSQL');
SELECT is((SELECT array_agg(proname::text ORDER BY proname) FROM function WHERE prosecdef),
          ARRAY['abort_ingest', 'add_merge_pairs', 'add_merges', 'add_model_file', 'add_tokenizer', 'add_tokens', 'begin_chart', 'begin_ingest', 'begin_quantize', 'copy_vocabulary', 'drop_dead_ingests', 'drop_neighbourhood_charts', 'finish_chart', 'finish_ingest', 'forget_model', 'note_progress', 'set_encoding', 'store_text'], 'they are those that write the catalog');
-- a function that judges a role is told it by the one that hart_call_as_owner stands behind, and by nobody else
SELECT set_eq('SELECT proname::text FROM function WHERE prosecdef AND NOT (coalesce(''regrole''::regtype = proargtypes[0], false))', ARRAY['drop_dead_ingests', 'forget_model'], 'all but those that do the same for everybody judge a role');
SELECT is_empty('SELECT name FROM function WHERE prosecdef AND ''regrole''::regtype = proargtypes[0] AND has_function_privilege(''pg_read_all_data'', oid, ''EXECUTE'')', 'which nobody else can name');
SELECT is_empty('SELECT f.name FROM function AS f WHERE prosecdef AND ''regrole''::regtype = f.proargtypes[0] AND NOT EXISTS (SELECT FROM function AS c WHERE c.prosrc = ''hart_call_as_owner''
                 AND c.proname = f.proname AND array_to_string(f.proargtypes[1:], '' '') = array_to_string(c.proargtypes, '' '') AND c.prorettype = f.prorettype AND c.proisstrict = f.proisstrict AND NOT c.prosecdef)', 'but their callers in C');
SELECT is_empty('SELECT name FROM function WHERE prosecdef AND (provolatile <> ''v'' OR proparallel <> ''u'')', 'what writes is volatile and unsafe in parallel');
SELECT is_empty('SELECT name FROM function WHERE lanname = ''plpython3u'' AND proparallel = ''s'' AND proname <> ''softmax''', 'Python functions that query stay out of parallel workers');

-- Values come back the same from a parallel plan
SELECT is_empty('SELECT name FROM function WHERE proname ~ ''^(matrix|context)_(in|out|recv|send)$'' AND NOT (provolatile = ''i'' AND proparallel = ''s'' AND proisstrict)', 'input and output functions are immutable, strict and parallel safe');

SELECT * FROM finish();
ROLLBACK;
