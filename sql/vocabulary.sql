-- The vocabulary of a model that is being ingested: its tokens as atoms, its merges as relations. As for texts, rows of the graph are inserted without a foreign
-- key check each, and what they refer to is locked in bulk instead. Atoms are shared among models and stay when a model goes.

CREATE FUNCTION hart.add_tokens(caller regrole, model_id integer, token_ids integer[], contents bytea[], special boolean[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET session_replication_role = replica AS $$
DECLARE
    ids bigint[];
    added bigint[];
BEGIN
    PERFORM hart.check_own_ingest(model_id, caller);
    SELECT s.ids, s.added INTO ids, added FROM hart.store_atoms('token', contents, hart.atom_ids('token', contents)) AS s;
    PERFORM hart.store_components('token', array_agg(t.content), array_agg(t.id))
    FROM (SELECT DISTINCT ON (u.id) u.id, u.content FROM unnest(ids, contents) AS u (id, content) WHERE u.id IN (SELECT unnest(added)) ORDER BY u.id) AS t HAVING count(*) > 0;
    PERFORM hart.lock_atoms('token', ARRAY(SELECT DISTINCT unnest(ids)));
    INSERT INTO hart.tokens (model_id, token_id, atom_id, special)
    SELECT add_tokens.model_id, t.token_id, t.atom_id, t.special FROM unnest(token_ids, ids, add_tokens.special) AS t (token_id, atom_id, special);
END $$;
COMMENT ON FUNCTION hart.add_tokens(regrole, integer, integer[], bytea[], boolean[]) IS 'hart.add_tokens for the role that called it';
REVOKE EXECUTE ON FUNCTION hart.add_tokens(regrole, integer, integer[], bytea[], boolean[]) FROM PUBLIC;
CREATE FUNCTION hart.add_tokens(model_id integer, token_ids integer[], contents bytea[], special boolean[]) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'hart_call_as_owner';
COMMENT ON FUNCTION hart.add_tokens(integer, integer[], bytea[], boolean[]) IS 'tokens of the model that this session is ingesting: their ids, the bytes they decode to, whether they are special';

-- No nested loops: statistics know nothing yet of a model that comes in, and the planner would take its tokens for a handful.
CREATE FUNCTION hart.add_merges(caller regrole, model_id integer, ranks integer[], merged integer[], lefts integer[], rights integer[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_nestloop = off AS $$
BEGIN
    PERFORM hart.check_own_ingest(model_id, caller);
    -- the tokens of the model hold the atoms: nobody can delete them
    PERFORM hart.write_relations('merge', j.parents || j.parents, j.lefts || j.rights, array_fill(0, ARRAY[j.n]) || array_fill(1, ARRAY[j.n]), j.ranks || j.ranks, add_merges.model_id)
    FROM (SELECT count(*)::integer AS n, array_agg(p.atom_id) AS parents, array_agg(l.atom_id) AS lefts, array_agg(r.atom_id) AS rights, array_agg(m.rank) AS ranks
          FROM unnest(ranks, merged, lefts, rights) AS m (rank, merged, l, r)
          JOIN hart.tokens p ON p.model_id = add_merges.model_id AND p.token_id = m.merged
          JOIN hart.tokens l ON l.model_id = add_merges.model_id AND l.token_id = m.l
          JOIN hart.tokens r ON r.model_id = add_merges.model_id AND r.token_id = m.r) AS j
    WHERE j.n > 0;
END $$;
COMMENT ON FUNCTION hart.add_merges(regrole, integer, integer[], integer[], integer[], integer[]) IS 'hart.add_merges for the role that called it';
REVOKE EXECUTE ON FUNCTION hart.add_merges(regrole, integer, integer[], integer[], integer[], integer[]) FROM PUBLIC;
CREATE FUNCTION hart.add_merges(model_id integer, ranks integer[], merged integer[], lefts integer[], rights integer[]) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'hart_call_as_owner';
COMMENT ON FUNCTION hart.add_merges(integer, integer[], integer[], integer[], integer[]) IS 'merges of the model that this session is ingesting, in numbers of its tokens';
