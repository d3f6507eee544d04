-- The vocabulary of a model that is being ingested: its tokens as atoms, its merges as relations. As for texts, rows of the graph are inserted without a foreign
-- key check each, and what they refer to is locked in bulk instead. Atoms are shared among models and stay when a model goes.

CREATE FUNCTION hart.add_tokens(model_id integer, token_ids integer[], contents bytea[], special boolean[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET session_replication_role = replica AS $$
DECLARE
    ids bigint[];
    added bigint[];
BEGIN
    PERFORM hart.check_own_ingest(model_id);
    SELECT s.ids, s.added INTO ids, added FROM hart.store_atoms('token', contents, hart.atom_ids('token', contents)) AS s;
    PERFORM hart.store_components('token', array_agg(t.content), array_agg(t.id))
    FROM (SELECT DISTINCT ON (u.id) u.id, u.content FROM unnest(ids, contents) AS u (id, content) WHERE u.id IN (SELECT unnest(added)) ORDER BY u.id) AS t HAVING count(*) > 0;
    PERFORM hart.lock_atoms('token', ARRAY(SELECT DISTINCT unnest(ids)));
    INSERT INTO hart.tokens (model_id, token_id, atom_id, special)
    SELECT add_tokens.model_id, t.token_id, t.atom_id, t.special FROM unnest(token_ids, ids, add_tokens.special) AS t (token_id, atom_id, special);
END $$;
COMMENT ON FUNCTION hart.add_tokens(integer, integer[], bytea[], boolean[]) IS 'tokens of the model that this session is ingesting: their ids, the bytes they decode to, whether they are special';

-- No nested loops: statistics know nothing yet of a model that comes in, and the planner would take its tokens for a handful.
CREATE FUNCTION hart.add_merges(model_id integer, ranks integer[], merged integer[], lefts integer[], rights integer[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_nestloop = off AS $$
BEGIN
    PERFORM hart.check_own_ingest(model_id);
    -- the tokens of the model hold the atoms: nobody can delete them
    PERFORM hart.write_relations('merge', array_agg(p.atom_id ORDER BY m.rank, side.position), array_agg(c.atom_id ORDER BY m.rank, side.position),
                                 array_agg(side.position ORDER BY m.rank, side.position), array_agg(m.rank ORDER BY m.rank, side.position), add_merges.model_id)
    FROM unnest(ranks, merged, lefts, rights) AS m (rank, merged, a, b)
    CROSS JOIN LATERAL (VALUES (0, m.a), (1, m.b)) AS side (position, token_id)
    JOIN hart.tokens p ON p.model_id = add_merges.model_id AND p.token_id = m.merged
    JOIN hart.tokens c ON c.model_id = add_merges.model_id AND c.token_id = side.token_id;
END $$;
COMMENT ON FUNCTION hart.add_merges(integer, integer[], integer[], integer[], integer[]) IS 'merges of the model that this session is ingesting, in numbers of its tokens';
