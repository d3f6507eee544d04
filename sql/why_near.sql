-- Why one token is near another: what the weights, the charts, the letters and the tokenizer say.

CREATE VIEW hart.token_merges WITH (security_barrier) AS
SELECT m.model_id, m.rank, m.parent_id, m.child_id, m.position
FROM hart.stored_relations_merge m WHERE m.model_id = ANY ((SELECT hart.readable_models())::integer[]);
COMMENT ON VIEW hart.token_merges IS 'the merges of the tokenizers of the models that the current role may use: token, its left (0) and right (1) part, rank';
GRANT SELECT ON hart.token_merges TO PUBLIC;

CREATE FUNCTION hart.merge_tree(model_id integer, atom_id bigint) RETURNS TABLE (whole bigint, rank integer, left_part bigint, right_part bigint)
LANGUAGE plpgsql STABLE PARALLEL SAFE ROWS 10 SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    level bigint[] := ARRAY[atom_id];
    seen bigint[] := '{}';
    merge record;
BEGIN
    WHILE cardinality(level) > 0 LOOP
        seen := seen || level;
        FOR merge IN
            -- the first merge that makes a token is the one that a tokenizer comes to
            SELECT DISTINCT ON (m.parent_id) m.parent_id, m.rank,
                   (SELECT l.child_id FROM hart.token_merges l WHERE l.model_id = merge_tree.model_id AND l.rank = m.rank AND l.position = 0 AND l.parent_id = m.parent_id) AS l,
                   (SELECT r.child_id FROM hart.token_merges r WHERE r.model_id = merge_tree.model_id AND r.rank = m.rank AND r.position = 1 AND r.parent_id = m.parent_id) AS r
            FROM hart.token_merges m WHERE m.model_id = merge_tree.model_id AND m.parent_id = ANY (level)
            ORDER BY m.parent_id, m.rank
        LOOP
            whole := merge.parent_id;
            rank := merge.rank;
            left_part := merge.l;
            right_part := merge.r;
            level := level || left_part || right_part;
            RETURN NEXT;
        END LOOP;
        level := ARRAY(SELECT DISTINCT n.id FROM unnest(level) AS n (id) WHERE n.id <> ALL (seen));
    END LOOP;
END $$;
COMMENT ON FUNCTION hart.merge_tree(integer, bigint) IS 'how a tokenizer''s merges make a token, down to the parts that no merge makes; each part once';

CREATE FUNCTION hart.common_substrings(a text, b text) RETURNS SETOF text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    WITH common AS (
        SELECT DISTINCT substr(a, first, n) AS s
        FROM generate_series(1, least(length(a), 200)) AS first, generate_series(2, least(length(a), 200) - first + 1) AS n
        WHERE strpos(b, substr(a, first, n)) > 0
    )
    SELECT c.s FROM common AS c WHERE NOT EXISTS (SELECT FROM common AS longer WHERE longer.s <> c.s AND strpos(longer.s, c.s) > 0) ORDER BY length(c.s) DESC, c.s;
END;
COMMENT ON FUNCTION hart.common_substrings(text, text) IS 'substrings of two or more characters that two texts share and that are in no longer one; longest first';

CREATE FUNCTION hart.part_as_text(atom_id bigint, model_id integer) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    content bytea;
BEGIN
    IF hart.atom_modality(atom_id) = 'token' THEN
        SELECT t.raw_value INTO content FROM hart.token_atoms t
        WHERE t.model_id = part_as_text.model_id
          AND t.token_id = ANY (ARRAY(SELECT k.token_id FROM hart.tokens k WHERE k.model_id = part_as_text.model_id AND k.atom_id = part_as_text.atom_id)) LIMIT 1;
    ELSE
        content := hart.atom_content(atom_id);
    END IF;
    RETURN format('''%s''', hart.bytes_as_text(content));
END $$;
COMMENT ON FUNCTION hart.part_as_text(bigint, integer) IS 'content of a token''s, a character''s or a byte''s atom as text, in quotes';

CREATE FUNCTION hart.why_near(token_a text, token_b text, model text DEFAULT NULL) RETURNS TABLE (aspect text, detail text, value text)
LANGUAGE plpgsql STABLE COST 10000 ROWS 20 SET search_path = pg_catalog, pg_temp
-- to compile what looks at a few rows would take twenty times as long as to look
SET jit = off AS $$
#variable_conflict use_column
DECLARE
    id integer := hart.resolve_model(model);
    a integer := hart.require_token(token_a, model);
    b integer := hart.require_token(token_b, model);
    vector real[] := hart.embedding_row(id, a);
    atom_a bigint := (SELECT t.atom_id FROM hart.tokens t WHERE t.model_id = id AND t.token_id = a);
    atom_b bigint := (SELECT t.atom_id FROM hart.tokens t WHERE t.model_id = id AND t.token_id = b);
    name_a text := format('''%s''', token_a);
    name_b text := format('''%s''', token_b);
    common bigint[];
BEGIN
    RETURN QUERY VALUES
        ('cosine', 'of the embeddings', round((hart.row_cosines(id, vector, ARRAY[b]))[1]::numeric, 4)::text);
    IF a <> b THEN
        RETURN QUERY VALUES
            ('rank', format('of %s among the tokens nearest to %s', name_b, name_a), hart.neighbor_rank(id, a, b)::text),
            ('rank', format('of %s among the tokens nearest to %s', name_a, name_b), hart.neighbor_rank(id, b, a)::text);
    END IF;

    RETURN QUERY
    SELECT 'distance', format('in chart %s, %s', c.chart, c.kind), round(hart.distance_4d(hart.position_of(id, c.chart, a), hart.position_of(id, c.chart, b))::numeric, 4)::text
    FROM hart.charts c WHERE c.model_id = id ORDER BY c.chart;

    RETURN QUERY
    SELECT 'common substring', format('''%s''', s), length(s) || ' characters' FROM hart.common_substrings(token_a, token_b) AS s;

    -- composition edges of a token are what its content says
    RETURN QUERY
    SELECT 'shared part', format('%s %s: at %s in %s, at %s in %s', hart.atom_modality(c.child_id), hart.part_as_text(c.child_id, id),
                                 string_agg(DISTINCT c.position::text, ', ') FILTER (WHERE c.parent = 1), name_a,
                                 string_agg(DISTINCT c.position::text, ', ') FILTER (WHERE c.parent = 2), name_b),
           'atom ' || c.child_id
    FROM hart.components('token', ARRAY[convert_to(token_a, 'UTF8'), convert_to(token_b, 'UTF8')]) AS c
    GROUP BY c.child_id HAVING count(DISTINCT c.parent) = 2 ORDER BY min(c.position) FILTER (WHERE c.parent = 1);

    RETURN QUERY
    SELECT 'merge', format('%s = %s + %s', hart.part_as_text(m.whole, id), hart.part_as_text(m.left_part, id), hart.part_as_text(m.right_part, id)), 'rank ' || m.rank
    FROM (SELECT t.*, 1 AS side FROM hart.merge_tree(id, atom_a) AS t UNION ALL SELECT t.*, 2 FROM hart.merge_tree(id, atom_b) AS t) AS m
    GROUP BY m.whole, m.rank, m.left_part, m.right_part ORDER BY min(m.side), m.rank DESC;

    -- the largest tokens that both come from; what these are made of goes without saying
    common := ARRAY((SELECT unnest(ARRAY[t.whole, t.left_part, t.right_part]) FROM hart.merge_tree(id, atom_a) AS t UNION SELECT atom_a)
                  INTERSECT (SELECT unnest(ARRAY[t.whole, t.left_part, t.right_part]) FROM hart.merge_tree(id, atom_b) AS t UNION SELECT atom_b));
    RETURN QUERY
    SELECT 'merged from the same', hart.part_as_text(p.part, id), 'atom ' || p.part
    FROM unnest(common) AS p (part)
    WHERE NOT EXISTS (SELECT FROM unnest(common) AS w (whole), hart.merge_tree(id, w.whole) AS t WHERE p.part IN (t.left_part, t.right_part)) ORDER BY 2;
END $$;
COMMENT ON FUNCTION hart.why_near(text, text, text) IS
'why one token is near another: cosine and ranks, distances in the charts, substrings and parts they share, the merges that make them and what these have in common';
