-- Chart 0: positions are the embedding on four directions, and moving one moves the embedding.
BEGIN;
\ir include/errors.sql
\ir include/tiny_model.sql
SELECT plan(65);
SET LOCAL jit = off;
SET LOCAL client_min_messages = warning;
SELECT pg_temp.ingest_tiny('m') AS m \gset

-- The chart
SELECT is((SELECT format('%s %s %s %s', kind, cardinality(mean), array_length(basis, 1), array_length(basis, 2)) FROM hart.charts WHERE model_id = :m), 'linear 20 4 20', 'the ingest makes a linear chart');
SELECT is((SELECT count(*) FROM hart.token_positions WHERE model_id = :m), (SELECT count(*) FROM hart.tokens WHERE model_id = :m), 'each token has a position');
SELECT is((SELECT tokens FROM hart.charts WHERE model_id = :m)::bigint, (SELECT count(*) FROM hart.tokens WHERE model_id = :m), 'and the chart says how many');
SELECT is_empty(format('SELECT token_id FROM hart.token_positions p JOIN hart.tokens t USING (model_id, token_id) WHERE model_id = %s AND p.atom_id <> t.atom_id', :m), 'with the atom of the token');
SELECT ok((SELECT max(abs(c)) BETWEEN 0.5 AND 0.8 + 1e-12 FROM hart.token_positions, unnest(hart.coordinates(position)) AS c WHERE model_id = :m), 'positions are in the cube, with room to move');

CREATE TEMP VIEW direction AS
SELECT a, b, v FROM hart.charts, generate_series(1, 4) AS a, generate_series(1, 20) AS b, LATERAL (SELECT basis[a][b] AS v) AS e WHERE model_id = (SELECT model_id FROM hart.models WHERE name = 'm');
SELECT is_empty('SELECT x.a, y.a FROM direction x JOIN direction y USING (b) GROUP BY x.a, y.a HAVING abs(sum(x.v * y.v) - CASE WHEN x.a = y.a THEN 1 ELSE 0 END) > 1e-12', 'the directions are orthonormal');
SELECT is_empty('SELECT a FROM direction GROUP BY a HAVING max(v) < -min(v)', 'the largest element of each is positive');
-- the same in plain SQL: scale · basis · (row - mean)
CREATE FUNCTION pg_temp.projected(id int) RETURNS float8[] LANGUAGE sql AS $$
    SELECT ARRAY(SELECT scale * sum(d.v * ((hart.embedding_row(c.model_id, id))[d.b]::float8 - mean[d.b])) FROM direction AS d GROUP BY d.a ORDER BY d.a)
    FROM hart.charts AS c WHERE model_id = (SELECT model_id FROM hart.models WHERE name = 'm') AND chart = 0
$$;
CREATE FUNCTION pg_temp.off(id int) RETURNS float8 LANGUAGE sql AS $$
    SELECT max(abs(x - y)) FROM hart.token_positions, unnest(hart.coordinates(position), pg_temp.projected(id)) AS u (x, y)
    WHERE model_id = (SELECT model_id FROM hart.models WHERE name = 'm') AND chart = 0 AND token_id = id
$$;
SELECT cmp_ok((SELECT max(pg_temp.off(id)) FROM generate_series(0, 97) AS id), '<', 1e-12::float8, 'a position is scale · basis · (row - mean)');
-- the directions are those of the widest spread: the covariance has them as eigenvectors
CREATE TEMP TABLE centred AS
SELECT row, col, value - avg(value) OVER (PARTITION BY col) AS v FROM weight WHERE model = 'm' AND tensor = 'model.embed_tokens.weight';
CREATE TEMP TABLE covariance AS SELECT x.col AS i, y.col AS j, sum(x.v * y.v) / 260 AS c FROM centred x JOIN centred y USING (row) GROUP BY 1, 2;
CREATE TEMP TABLE image AS SELECT d.a, i, sum(c * d.v) AS cv FROM covariance JOIN direction AS d ON d.b = j GROUP BY 1, 2;
SELECT is_empty('SELECT a FROM (SELECT image.a, i, cv, v, sum(cv * v) OVER (PARTITION BY image.a) AS lambda FROM image JOIN direction d ON d.a = image.a AND d.b = i) AS e GROUP BY a HAVING max(abs(cv - lambda * v)) > 1e-6 * max(lambda)', 'directions are eigenvectors of the covariance');
SELECT ok((SELECT bool_and(lambda <= before) FROM (SELECT a, lambda, lag(lambda, 1, 1e9) OVER (ORDER BY a) AS before FROM (SELECT image.a, sum(cv * v) AS lambda FROM image JOIN direction d ON d.a = image.a AND d.b = i GROUP BY 1) AS l) AS o), 'widest first');
SELECT cmp_ok((SELECT max(lambda) FROM (SELECT image.a, sum(cv * v) AS lambda FROM image JOIN direction d ON d.a = image.a AND d.b = i GROUP BY 1) AS l), '>=', (SELECT max(c) FROM covariance WHERE i = j), 'no column spreads wider than the first');

-- Moving
CREATE FUNCTION pg_temp.move(id int, x float8, y float8, z float8, w float8, relation text DEFAULT 'hart.token_positions') RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    EXECUTE format('UPDATE %s SET position = ST_MakePoint($1, $2, $3, $4) WHERE chart = 0 AND token_id = $5 AND model_id = (SELECT model_id FROM hart.models WHERE name = ''m'')', relation) USING x, y, z, w, id;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END $$;
CREATE TEMP TABLE before AS SELECT hart.logits('{5,6,7}', 'm') AS logits, hart.embedding_row(:m, 7) AS embedded, hart.embedding_row(:m, 8) AS other, pg_temp.projected(7) AS at;
SAVEPOINT s;
SELECT is(pg_temp.move(7, 0.25, -0.5, 0.125, 0), 1::bigint, 'a token is moved');
SELECT cmp_ok(pg_temp.off(7), '<', 1e-6::float8, 'its embedding lies there');
SELECT is(hart.coordinates(position), '{0.25,-0.5,0.125,0}', 'the position is the one that was given') FROM hart.token_positions WHERE model_id = :m AND chart = 0 AND token_id = 7;
SELECT isnt(hart.logits('{5,6,7}', 'm'), logits, 'the model answers differently') FROM before;
SELECT is(hart.embedding_row(:m, 8), other, 'its neighbour in the tile stays') FROM before;
-- the shift of the row is the back-projection: its part outside the four directions is none
SELECT cmp_ok((SELECT max(abs(u.x - u.y - s.back)) FROM before, LATERAL unnest(hart.embedding_row(:m, 7), embedded) WITH ORDINALITY AS u (x, y, n),
               LATERAL (SELECT sum(d.v * (t.target - at[d.a])) / (SELECT scale FROM hart.charts WHERE model_id = :m AND chart = 0) AS back FROM direction AS d JOIN unnest('{0.25,-0.5,0.125,0}'::float8[]) WITH ORDINALITY AS t (target, a) ON t.a = d.a WHERE d.b = u.n) AS s),
              '<', 1e-6::float8, 'the row moves by the back-projection of the displacement and nothing else');
SELECT is(hart.reproject_tokens(:m, '{7}'), 1, 'what the embedding rounds to can be read back');
SELECT cmp_ok(pg_temp.off(7), '<', 1e-12::float8, 'to the last digit');
SELECT is(hart.reproject_tokens(:m, '{7}'), 0, 'and then nothing changes');
ROLLBACK TO s;
SELECT is(hart.logits('{5,6,7}', 'm'), logits, 'a rollback takes back the weights') FROM before;
SELECT cmp_ok(pg_temp.off(7), '<', 1e-12::float8, 'and the position');

SELECT is(pg_temp.move(7, 0.1, 0.2, 0.3, 0.4, 'hart.token_positions_' || :m), 1::bigint, 'a token is moved by the name of the model''s partition');
SELECT cmp_ok(pg_temp.off(7), '<', 1e-6::float8, 'its embedding follows');
SELECT is(pg_temp.move(8, 0.1, 0.2, 0.3, 0.4, format('hart.token_positions_%s_0', :m)), 1::bigint, 'and by the name of the chart''s');
SELECT cmp_ok(pg_temp.off(8), '<', 1e-6::float8, 'it follows too');
ROLLBACK TO s;

-- All tokens at once: each tile of the embedding is written once
SELECT sum(n_tiles) AS n_tiles FROM hart.tensors WHERE model_id = :m AND name = 'model.embed_tokens.weight' \gset
CREATE TEMP TABLE written (n bigint);
CREATE FUNCTION pg_temp.count_tiles() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO written VALUES (1); RETURN NULL; END $$;
SELECT set_config('test.statement', format('CREATE TRIGGER count_tiles AFTER UPDATE ON hart.tiles_%s FOR EACH ROW EXECUTE FUNCTION pg_temp.count_tiles()', :m), true) AS statement \gset
:statement;
UPDATE hart.token_positions SET position = ST_MakePoint(-ST_X(position), ST_Y(position) / 2, ST_Z(position), ST_M(position)) WHERE chart = 0 AND model_id = :m;
SELECT cmp_ok((SELECT max(pg_temp.off(id)) FROM generate_series(0, 97) AS id), '<', 1e-6::float8, 'all tokens move at once');
SELECT ok((SELECT count(*) FROM written) BETWEEN 1 AND :n_tiles, 'no tile is written twice');
ROLLBACK TO s;
UPDATE hart.token_positions SET position = position WHERE model_id = :m AND chart = 0;
SELECT is((SELECT embedded FROM before), hart.embedding_row(:m, 7), 'moving to where it is changes no weight');
ROLLBACK TO s;

-- What cannot be
SELECT pg_temp.refused(format(template, :m), code, template) FROM (VALUES
    ('UPDATE hart.token_positions SET position = ST_MakePoint(1.5, 0, 0, 0) WHERE model_id = %s AND token_id = 7', '22003'),
    ('UPDATE hart.token_positions SET position = ST_MakePoint(0, 0, ''NaN'', 0) WHERE model_id = %s AND token_id = 7', '22003'),
    ('UPDATE hart.token_positions SET position = ST_MakePoint(0, ''-Infinity'', 0, 0) WHERE model_id = %s AND token_id = 7', '22003'),
    ('UPDATE hart.token_positions SET position = ''POINT ZM EMPTY'' WHERE model_id = %s AND token_id = 7', '22023'),
    ('UPDATE hart.token_positions SET position = NULL WHERE model_id = %s AND token_id = 7', '22004'),
    ('UPDATE hart.token_positions SET token_id = 300 WHERE model_id = %s AND token_id = 7', '0A000'),
    ('UPDATE hart.token_positions SET chart = 1 WHERE model_id = %s AND token_id = 7', '0A000'),
    ('UPDATE hart.token_positions SET atom_id = 1 WHERE model_id = %s AND token_id = 7', '0A000'),
    ('UPDATE hart.token_positions_%s SET position = ST_MakePoint(0, 0, 0, -1.001) WHERE token_id = 7', '22003'),
    ('SELECT hart.reproject_tokens(%s, ''{-1}'')', '22023'), ('SELECT hart.reproject_tokens(%s, ''{260}'')', '22023'),
    ('SELECT hart.reproject_tokens(%s, ''{1,NULL}'')', '22023'), ('SELECT hart.reproject_tokens(NULL)', '22004'), ('SELECT hart.reproject_tokens(-%s)', '55000')) AS v (template, code);
SELECT is((SELECT code FROM pg_temp.error_of(format('UPDATE hart.token_positions SET position = ST_MakePoint(0, 0, 0) WHERE model_id = %s', :m))), '22023', 'a point of three coordinates is PostGIS'' to refuse');
SELECT pg_temp.refused(format('INSERT INTO hart.token_positions SELECT model_id, 0, 9999, atom_id, ST_MakePoint(0, 0, 0, 1.5) FROM hart.tokens WHERE model_id = %s AND token_id = 7', :m), '22003', 'nor is there a new position outside of the cube');
SELECT throws_ok(format('INSERT INTO hart.token_positions SELECT model_id, 0, 9999, atom_id, ''POINT ZM EMPTY'' FROM hart.tokens WHERE model_id = %s AND token_id = 7', :m), '23514', NULL, 'or nowhere');
SELECT is((SELECT embedded FROM before), hart.embedding_row(:m, 7), 'what was refused changed nothing');

-- Weights that were changed otherwise: the chart follows, and moves nothing
UPDATE hart.tiles SET payload = overlay(payload PLACING '\x00000041'::bytea FROM 1 + 80 * 7) WHERE model_id = :m AND tile_no = 0
AND tensor_id = (SELECT tensor_id FROM hart.tensors WHERE model_id = :m AND name = 'model.embed_tokens.weight');
CREATE TEMP TABLE edited AS SELECT hart.embedding_row(:m, 7) AS embedded;
SELECT is((SELECT embedded[1] FROM edited), 8::real, 'a weight was set to 8');
SET LOCAL client_min_messages = error;     -- it warns
SELECT is(hart.reproject_tokens(:m), 1, 'one position is another, of a weight far outside at the border');
SET LOCAL client_min_messages = warning;
SELECT is(hart.embedding_row(:m, 7), embedded, 'the embedding stays') FROM edited;
SELECT ok((SELECT max(abs(c)) = 1 FROM hart.token_positions, unnest(hart.coordinates(position)) AS c WHERE model_id = :m AND token_id = 7), 'positions stay in the cube');
ROLLBACK TO s;

-- Who may
CREATE ROLE hart_test_stranger;
CREATE ROLE hart_test_reader;
CREATE ROLE hart_test_mover;
SELECT set_config('test.statement', format('GRANT SELECT ON hart.tiles_%s TO hart_test_reader; GRANT SELECT, UPDATE ON hart.tiles_%s TO hart_test_mover', :m, :m), true) AS statement \gset
:statement;
SET LOCAL ROLE hart_test_stranger;
SELECT is((SELECT count(*) FROM hart.token_positions) + (SELECT count(*) FROM hart.charts), 0::bigint, 'a stranger sees no position');
SELECT is(pg_temp.move(7, 0, 0, 0, 0), 0::bigint, 'and moves none');
SELECT is((SELECT code FROM pg_temp.error_of(format('SELECT count(*) FROM hart.token_positions_%s_0', :m))), '42501', 'nor by the name of a partition');
SET LOCAL ROLE hart_test_reader;
SELECT cmp_ok((SELECT count(*) FROM hart.token_positions WHERE model_id = :m), '>', 90::bigint, 'a reader of the model sees them');
SELECT is(pg_temp.move(7, 0, 0, 0, 0), 0::bigint, 'and moves none');
SET LOCAL ROLE hart_test_mover;
SELECT is(pg_temp.move(7, 0, 0, 0, 0), 1::bigint, 'who may change the tiles may move tokens');
SELECT is((SELECT code FROM pg_temp.error_of(format('UPDATE hart.token_positions SET token_id = 1 WHERE model_id = %s', :m))), '42501', 'and change nothing else');
SELECT is((SELECT code FROM pg_temp.error_of('DELETE FROM hart.token_positions')), '42501', 'nor delete');
RESET ROLE;
SELECT cmp_ok(pg_temp.off(7), '<', 1e-6::float8, 'the embedding has moved');
ROLLBACK TO s;

-- Embeddings with less than four dimensions or without spread
SELECT pg_temp.ingest_tiny('narrow', dim => 2) AS narrow \gset
SELECT ok((SELECT bool_and(ST_Z(position) = 0 AND ST_M(position) = 0) AND max(ST_X(position)) > 0 FROM hart.token_positions WHERE model_id = :narrow), 'axes that are missing stay at 0');
SELECT pg_temp.refused(format('UPDATE hart.token_positions SET position = ST_MakePoint(0, 0, 0.5, 0) WHERE model_id = %s AND token_id = 7', :narrow), '22023', 'nothing moves along them');
SELECT lives_ok(format('UPDATE hart.token_positions SET position = ST_MakePoint(0.1, 0.1, 0, 0) WHERE model_id = %s AND token_id = 7', :narrow), 'and along the others it does');

CALL hart.drop_model('m');
SELECT is_empty(format('SELECT relname FROM pg_class WHERE relnamespace = ''hart''::regnamespace AND relname ~ ''^token_positions_%s(_|$)''', :m), 'positions go with their model');
SELECT is((SELECT count(*) FROM hart.charts WHERE model_id = :m), 0::bigint, 'and so do its charts');

SELECT * FROM finish();
ROLLBACK;
