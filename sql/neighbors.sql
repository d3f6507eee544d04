-- Tokens near a token, or near a vector. Near means cosine of embeddings; charts only say where to look.

CREATE FUNCTION hart.bytes_as_text(content bytea) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN coalesce(hart.utf8_text(content), '\x' || encode(content, 'hex'));
COMMENT ON FUNCTION hart.bytes_as_text(bytea) IS 'bytes as the text they are in UTF-8, or in hexadecimal where they are none';

CREATE FUNCTION hart.describe_tokens(model_id integer, token_ids integer[]) RETURNS TABLE (token_id integer, token text, atom_id bigint)
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 10
BEGIN ATOMIC
    SELECT t.token_id, hart.bytes_as_text(t.raw_value), t.id
    FROM hart.token_atoms t WHERE t.model_id = describe_tokens.model_id AND t.token_id = ANY (token_ids);
END;
COMMENT ON FUNCTION hart.describe_tokens(integer, integer[]) IS 'texts and atoms of tokens of a model; ids that are no token are left out';

CREATE FUNCTION hart.find_token(model_id integer, token text) RETURNS integer
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    content bytea := convert_to(token, 'UTF8');
    cell bigint := hart.atom_id('token', content) & ~4095::bigint;
    -- atoms of one cell differ in the tie-breaker, the last 12 bits
    ids integer[] := ARRAY(SELECT t.token_id FROM hart.tokens t WHERE t.model_id = find_token.model_id AND t.atom_id BETWEEN cell AND cell + 4095);
BEGIN
    RETURN (SELECT t.token_id FROM hart.token_atoms t
            WHERE t.model_id = find_token.model_id AND t.token_id = ANY (ids) AND t.raw_value = content
            ORDER BY t.special, t.token_id LIMIT 1);
END $$;
COMMENT ON FUNCTION hart.find_token(integer, text) IS 'id of the token that stands for a text, NULL if there is none; of several the lowest that is not special';

CREATE FUNCTION hart.token_pieces(token text, model text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    id integer := hart.resolve_model(model);
    pieces text;
BEGIN
    SELECT string_agg(format('''%s''', d.token), ', ' ORDER BY p.n) INTO pieces
    FROM unnest(hart.tokenize(token, model)) WITH ORDINALITY AS p (token_id, n), LATERAL hart.describe_tokens(id, ARRAY[p.token_id]) AS d;
    RETURN CASE WHEN hart.find_token(id, ' ' || token) IS NOT NULL THEN format('There is a token '' %s'' that begins with a space, and the tokenizer', token) ELSE 'The tokenizer' END
           || coalesce(format(' splits this text into %s.', pieces), ' makes no token of this text.');
END $$;
COMMENT ON FUNCTION hart.token_pieces(text, text) IS 'a sentence that tells how the tokenizer of a model splits a text';

CREATE FUNCTION hart.require_token(token text, model text) RETURNS integer
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    id integer := hart.resolve_model(model);
    found integer;
BEGIN
    IF token IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'token must not be null', HINT = 'Name a token of the model''s vocabulary.';
    ELSIF token = '' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'token is empty', HINT = 'Name a token of the model''s vocabulary.';
    END IF;
    found := hart.find_token(id, token);
    IF found IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('%s is not a token of the model', quote_literal(token)),
            HINT = hart.token_pieces(token, model);
    END IF;
    RETURN found;
END $$;
COMMENT ON FUNCTION hart.require_token(text, text) IS 'id of the token that stands for a text; an error with a hint if there is none';

CREATE FUNCTION hart.check_k(k integer) RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF k IS NULL OR k < 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('k must be at least 1, not %s', coalesce(k::text, 'null')),
            HINT = 'Ask for one neighbor or more.';
    END IF;
END $$;
COMMENT ON FUNCTION hart.check_k(integer) IS 'error unless a number of neighbors is at least 1';

CREATE FUNCTION hart.nearest(vector real[], k integer DEFAULT 10, model text DEFAULT NULL) RETURNS TABLE (token_id integer, token text, atom_id bigint, cosine real)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 100000 ROWS 10 SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    id integer := hart.resolve_model(model);
    nameless integer;
    ids integer[];
    cosines real[];
BEGIN
    PERFORM hart.check_k(k);
    IF vector IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'vector must not be null', HINT = 'Pass a number for each column of the embedding.';
    END IF;
    -- rows of the embedding beyond the vocabulary may be the nearest, and are left out
    SELECT r.vocab_size - coalesce(c.tokens, 0) INTO nameless
    FROM hart.model_registry r LEFT JOIN hart.charts c ON c.model_id = r.model_id AND c.chart = 0 WHERE r.model_id = id;
    SELECT array_agg(n.token_id ORDER BY n.place), array_agg(n.cosine ORDER BY n.place) INTO ids, cosines
    FROM (SELECT n.token_id, n.cosine, n.place
          FROM hart.nearest_rows(id, vector, least(k::bigint + nameless, 2147483647)::integer) WITH ORDINALITY AS n (token_id, cosine, place)
          WHERE n.token_id IN (SELECT t.token_id FROM hart.tokens t WHERE t.model_id = id) ORDER BY n.place LIMIT k) AS n;
    RETURN QUERY
    SELECT d.token_id, d.token, d.atom_id, n.cosine
    FROM unnest(ids, cosines) WITH ORDINALITY AS n (token_id, cosine, place) JOIN hart.describe_tokens(id, ids) AS d USING (token_id) ORDER BY n.place;
END $$;
COMMENT ON FUNCTION hart.nearest(real[], integer, text) IS 'the k tokens whose embeddings have the largest cosine with a vector, by a pass over all embeddings';

CREATE FUNCTION hart.position_of(model_id integer, chart integer, token_id integer) RETURNS geometry
LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT p.position FROM hart.token_positions p WHERE p.model_id = position_of.model_id AND p.chart = position_of.chart AND p.token_id = position_of.token_id);
END $$;
COMMENT ON FUNCTION hart.position_of(integer, integer, integer) IS 'position of a token in a chart';

CREATE FUNCTION hart.near_positions(model_id integer, chart integer, center geometry, n integer) RETURNS SETOF integer
LANGUAGE sql STABLE PARALLEL SAFE ROWS 250
BEGIN ATOMIC
    SELECT p.token_id FROM hart.token_positions p
    WHERE p.model_id = near_positions.model_id AND p.chart = near_positions.chart
    ORDER BY p.position <<->> center LIMIT n;
END;
COMMENT ON FUNCTION hart.near_positions(integer, integer, geometry, integer) IS 'the n tokens nearest to a point of a chart, by the chart''s index';

CREATE FUNCTION hart.near_candidates(model_id integer, charts integer[], token_id integer, n integer) RETURNS integer[]
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    chart integer;
    center hart.token_positions.position%TYPE;    -- of whatever schema PostGIS is in
    found integer[] := '{}';
BEGIN
    FOREACH chart IN ARRAY charts LOOP
        center := hart.position_of(model_id, chart, token_id);
        found := found || ARRAY(SELECT p.id FROM hart.near_positions(model_id, chart, center, n) AS p (id));
    END LOOP;
    RETURN ARRAY(SELECT DISTINCT f.id FROM unnest(found) AS f (id) ORDER BY 1);    -- in the order of the tiles
END $$;
COMMENT ON FUNCTION hart.near_candidates(integer, integer[], integer, integer) IS 'the n tokens nearest to one in each of some charts, each once, itself among them';

CREATE FUNCTION hart.find_neighbors(wanted text, k integer, model text, exact boolean)
RETURNS TABLE (token text, token_id integer, atom_id bigint, distance float8, cosine real, method text)
LANGUAGE plpgsql STABLE COST 100000 ROWS 10
SET search_path = pg_catalog, pg_temp
-- planning anew for each token would take longer than looking
SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    id integer := hart.resolve_model(model);
    center integer := hart.require_token(wanted, model);
    vector real[] := hart.embedding_row(id, center);
    charts integer[] := ARRAY(SELECT c.chart FROM hart.charts c WHERE c.model_id = id AND c.kind = 'neighbourhood' ORDER BY c.chart);
    learned boolean := cardinality(charts) > 0;
    n integer;
    ids integer[];
    cosines real[];
    texts text[];
    atoms bigint[];
    how text;
BEGIN
    PERFORM hart.check_k(k);
    IF coalesce(exact, NOT learned) THEN
        charts := '{0}';
        how := 'exact';
        SELECT array_agg(e.token_id), array_agg(e.cosine), array_agg(e.token), array_agg(e.atom_id) INTO ids, cosines, texts, atoms
        FROM hart.nearest(vector, least(k, 2147483646) + 1, model) AS e;
    ELSE
        -- about 40 candidates a neighbor altogether; a linear chart needs more, and finds less
        n := least(1 + k * (CASE WHEN learned THEN 17 + 23.0 / cardinality(charts) ELSE 100 END), 2147483647);
        charts := CASE WHEN learned THEN charts ELSE '{0}' END;
        ids := hart.near_candidates(id, charts, center, n);
        how := format('%s: %s candidates', CASE WHEN learned THEN 'charts ' || array_to_string(charts, ', ') ELSE 'linear chart' END, cardinality(ids) - 1);
        SELECT a.ids, a.cosines INTO ids, cosines FROM hart.nearest_among(id, vector, array_remove(ids, center), k) AS a;
        SELECT array_agg(d.token ORDER BY b.place), array_agg(d.atom_id ORDER BY b.place) INTO texts, atoms
        FROM unnest(ids) WITH ORDINALITY AS b (token_id, place) JOIN hart.describe_tokens(id, ids) AS d USING (token_id);
    END IF;
    RETURN QUERY
    WITH place AS MATERIALIZED (SELECT p.token_id, p.position FROM hart.token_positions p
                                WHERE p.model_id = id AND p.chart = charts[1] AND p.token_id = ANY (ids || center))
    SELECT b.token, b.token_id, b.atom_id, hart.distance_4d((SELECT p.position FROM place p WHERE p.token_id = center), p.position), b.cosine, how
    FROM unnest(texts, ids, atoms, cosines) WITH ORDINALITY AS b (token, token_id, atom_id, cosine, place) LEFT JOIN place AS p ON p.token_id = b.token_id
    WHERE b.token_id <> center ORDER BY b.place LIMIT k;
END $$;
COMMENT ON FUNCTION hart.find_neighbors(text, integer, text, boolean) IS 'what hart.neighbors answers';

-- In SQL, where a column may have the name of an argument.
CREATE FUNCTION hart.neighbors(token text, k integer DEFAULT 10, model text DEFAULT NULL, exact boolean DEFAULT NULL)
RETURNS TABLE (token text, token_id integer, atom_id bigint, distance float8, cosine real, method text)
LANGUAGE sql STABLE COST 100000 ROWS 10
BEGIN ATOMIC
    SELECT n.token, n.token_id, n.atom_id, n.distance, n.cosine, n.method FROM hart.find_neighbors(token, k, model, exact) AS n;
END;
COMMENT ON FUNCTION hart.neighbors(text, integer, text, boolean) IS
'the k tokens nearest to one by cosine of embeddings, without itself: found in the neighbourhood charts, or, when exact or without such charts, by a pass over all embeddings; with the distance in the first of these charts, in the linear chart when exact';
