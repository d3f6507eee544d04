-- Text → words and what is between them → characters → bytes, and back. The C functions find the parts; the SQL functions store them.

CREATE FUNCTION hart.split_text(content bytea, OUT segments bytea[], OUT sequence integer[]) RETURNS record
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_split_text';
COMMENT ON FUNCTION hart.split_text(bytea) IS
    'words of a text and what is between them: the distinct ones, and for each place in the text the number, from 1, of the one there; words are runs of letters, numbers and connectors as of Unicode 14.0, marks and joiners belong to what they follow, bytes that are not UTF-8 make runs of their own';

CREATE FUNCTION hart.components(modality text, contents bytea[]) RETURNS TABLE (parent integer, "position" integer, child_id bigint)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 10000 AS 'MODULE_PATHNAME', 'hart_components';
COMMENT ON FUNCTION hart.components(text, bytea[]) IS
    'atoms of the parts of some contents: of tokens and words the characters, and bytes where they are not valid UTF-8; of characters the bytes; parent is the number of the content, from 1';

CREATE FUNCTION hart.atom_ids(modality text, contents bytea[]) RETURNS bigint[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_atom_ids';
COMMENT ON FUNCTION hart.atom_ids(text, bytea[]) IS 'hart.atom_id of many tokens, texts or tensors';

CREATE FUNCTION hart.utf8_text(content bytea) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_utf8_text';
COMMENT ON FUNCTION hart.utf8_text(bytea) IS 'bytes as the text that they are in UTF-8; NULL where they are none, or hold NUL, or, in a database of another encoding, more than ASCII';

CREATE FUNCTION hart.find_atoms(modality text, contents bytea[], wanted bigint[]) RETURNS bigint[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ids bigint[];
BEGIN
    -- the tie-breaker is not known: any id of the Hilbert cell may be the one
    EXECUTE 'SELECT array_agg(a.id ORDER BY w.n) FROM unnest($1, $2) WITH ORDINALITY AS w (content, id, n) LEFT JOIN LATERAL'
            ' (SELECT s.id FROM hart.stored_atoms s WHERE s.id BETWEEN w.id & ~4095::bigint AND w.id | 4095 AND s.raw_value = w.content LIMIT 1) AS a ON true'
        INTO ids USING contents, wanted;
    RETURN ids;
END $$;
COMMENT ON FUNCTION hart.find_atoms(text, bytea[], bigint[]) IS 'stored atoms of a modality (token, text or tensor) with these contents, looked for beside these ids; NULL where there is none';

CREATE FUNCTION hart.store_atoms(modality text, contents bytea[], wanted bigint[], OUT ids bigint[], OUT added bigint[]) RETURNS record
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    missing_contents bytea[];
    missing_wanted bigint[];
    new_ids bigint[];
BEGIN
    ids := hart.find_atoms(modality, contents, wanted);
    added := '{}';
    FOR round IN 0 .. 4096 LOOP
        EXIT WHEN array_position(ids, NULL) IS NULL;
        -- never by subscript: that would walk an array of bytea from its start every time
        SELECT array_agg(t.content), array_agg(t.wanted) INTO missing_contents, missing_wanted FROM unnest(ids, contents, wanted) AS t (id, content, wanted) WHERE t.id IS NULL;
        IF round = 4096 THEN
            RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = format('all 4096 ids of the Hilbert cell of atom %s are taken', missing_wanted[1]),
                HINT = 'Delete atoms that nothing needs.';
        END IF;
        -- in the order of ids, so that sessions that add the same atoms wait for each other in one order
        EXECUTE format('WITH inserted AS (INSERT INTO hart.stored_atoms_%s (id, geom, raw_value) SELECT w.id, hart.atom_geometry(w.id), w.content FROM unnest($1, $2) AS w (content, id) ORDER BY w.id'
                       ' ON CONFLICT (id) DO NOTHING RETURNING id) SELECT coalesce(array_agg(id), ''{}'') FROM inserted', modality)
            INTO new_ids USING missing_contents, missing_wanted;
        added := added || new_ids;
        IF cardinality(new_ids) = cardinality(ids) THEN
            ids := wanted;
        ELSE
            -- some were there by now, some twice among those wanted, and some ids belong to other contents: those try the next tie-breaker
            ids := hart.find_atoms(modality, contents, wanted);
            wanted := ARRAY(SELECT CASE WHEN i IS NULL THEN (w & ~4095::bigint) | ((w + 1) & 4095) ELSE w END FROM unnest(wanted, ids) WITH ORDINALITY AS t (w, i, n) ORDER BY n);
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION hart.store_atoms(text, bytea[], bigint[]) IS
    'atoms of a modality (token, text or tensor) with these contents: found, or added at these ids or, where an id belongs to another content, at the next free tie-breaker; tells the ids and which of them were added';

CREATE FUNCTION hart.write_relations(relation_type text, parents bigint[], children bigint[], positions integer[], ranks integer[] DEFAULT '{}', model_id integer DEFAULT 0) RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'hart_write_relations';
COMMENT ON FUNCTION hart.write_relations(text, bigint[], bigint[], integer[], integer[], integer) IS
    'append relations to hart.stored_relations, for its owner: their atoms are not looked for, whoever calls it has locked them; with ranks they are merges of a model';
REVOKE EXECUTE ON FUNCTION hart.write_relations(text, bigint[], bigint[], integer[], integer[], integer) FROM PUBLIC;

CREATE FUNCTION hart.store_components(modality text, contents bytea[], ids bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    children bigint[];
    added bigint[];
BEGIN
    children := ARRAY(SELECT DISTINCT c.child_id FROM hart.components(modality, contents) AS c ORDER BY c.child_id);
    WITH inserted AS (
        INSERT INTO hart.stored_atoms_character (id, geom, raw_value)
        SELECT w.id, hart.atom_geometry(w.id), hart.atom_content(w.id) FROM unnest(children) AS w (id)
        -- modality character; bytes are there
        WHERE w.id >> 60 = 2 AND NOT EXISTS (SELECT FROM hart.stored_atoms_character c WHERE c.id = w.id) ORDER BY w.id
        ON CONFLICT (id) DO NOTHING RETURNING id
    )
    SELECT array_agg(id) INTO added FROM inserted;
    IF added IS NOT NULL THEN
        PERFORM hart.store_components('character', ARRAY(SELECT hart.atom_content(id) FROM unnest(added) WITH ORDINALITY AS a (id, n) ORDER BY n), added);
    END IF;
    PERFORM hart.lock_atoms('byte', ARRAY(SELECT id FROM unnest(children) AS id WHERE id >> 60 = 1));
    PERFORM hart.lock_atoms('character', ARRAY(SELECT id FROM unnest(children) AS id WHERE id >> 60 = 2));
    PERFORM hart.write_relations('composition', array_agg(ids[c.parent]), array_agg(c.child_id), array_agg(c.position)) FROM hart.components(modality, contents) AS c;
END $$;
COMMENT ON FUNCTION hart.store_components(text, bytea[], bigint[]) IS 'store the characters and bytes of atoms that were just added, and the relations to them';

CREATE FUNCTION hart.lock_atoms(modality text, ids bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    n bigint;
BEGIN
    -- what a foreign key does for each row, once for each distinct atom: the relations that are about to be inserted are not checked one by one
    EXECUTE format('SELECT count(*) FROM (SELECT FROM unnest($1) AS w (id) JOIN hart.stored_atoms_%s a ON a.id = w.id ORDER BY a.id FOR KEY SHARE OF a) AS locked', modality) INTO n USING ids;
    IF n <> cardinality(ids) THEN
        RAISE EXCEPTION USING ERRCODE = 'serialization_failure', MESSAGE = format('atoms of modality %s were deleted by another session', modality),
            HINT = 'Try again.';
    END IF;
END $$;
COMMENT ON FUNCTION hart.lock_atoms(text, bigint[]) IS 'keep these atoms of a modality, each named once, from being deleted until the transaction ends; error when one is gone';

CREATE FUNCTION hart.store_text(caller regrole, content bytea) RETURNS bigint
LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    root_ids bigint[] := hart.atom_ids('text', ARRAY[content]);
    root bigint := (hart.find_atoms('text', ARRAY[content], root_ids))[1];
    added bigint[];
    segments bytea[];
    sequence integer[];
    segment_ids bigint[];
BEGIN
    IF NOT has_table_privilege(caller, 'hart.stored_atoms', 'INSERT') THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'permission denied to store texts',
            HINT = 'The owner of hart.stored_atoms can GRANT INSERT on it to you.';
    ELSIF root IS NOT NULL THEN
        RETURN root;
    END IF;

    PERFORM hart.check_text(content);
    -- the whole first: whoever stores the same text waits here, and then has nothing to do
    SELECT s.ids, s.added INTO root_ids, added FROM hart.store_atoms('text', ARRAY[content], root_ids) AS s;
    root := root_ids[1];
    IF cardinality(added) = 0 THEN
        RETURN root;
    END IF;
    SELECT s.segments, s.sequence INTO segments, sequence FROM hart.split_text(content) AS s;
    IF cardinality(sequence) = 1 THEN
        PERFORM hart.store_components('text', ARRAY[content], ARRAY[root]);
        RETURN root;
    END IF;
    SELECT s.ids, s.added INTO segment_ids, added FROM hart.store_atoms('text', segments, hart.atom_ids('text', segments)) AS s;
    PERFORM hart.store_components('text', array_agg(t.content), array_agg(t.id)) FROM unnest(segment_ids, segments) AS t (id, content) WHERE t.id IN (SELECT unnest(added)) HAVING count(*) > 0;
    PERFORM hart.lock_atoms('text', segment_ids);
    PERFORM hart.write_relations('composition', array_agg(root), array_agg(segment_ids[s.n]), array_agg(s.place::integer - 1)) FROM unnest(sequence) WITH ORDINALITY AS s (n, place);
    RETURN root;
END $$;
COMMENT ON FUNCTION hart.store_text(regrole, bytea) IS 'hart.store_text for the role that called it';
REVOKE EXECUTE ON FUNCTION hart.store_text(regrole, bytea) FROM PUBLIC;
CREATE FUNCTION hart.store_text(content bytea) RETURNS bigint
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'hart_call_as_owner';
COMMENT ON FUNCTION hart.store_text(bytea) IS 'atom of a text, stored with all its parts unless it is there already; for roles that may INSERT into hart.stored_atoms';

CREATE FUNCTION hart.check_text(content bytea) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF content IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'text must not be null', HINT = 'Give a text, or use coalesce.';
    ELSIF length(content) = 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'text must not be empty', HINT = 'Nothing has no parts: give one character or more.';
    END IF;
    RETURN content;
END $$;
COMMENT ON FUNCTION hart.check_text(bytea) IS 'the content of a text that can be decomposed; error when it is NULL or empty';

CREATE FUNCTION hart.decompose(text text) RETURNS bigint
LANGUAGE sql VOLATILE
RETURN hart.store_text(hart.check_text(convert_to(text, 'UTF8')));
COMMENT ON FUNCTION hart.decompose(text) IS 'atom of a text; the text is stored with its words, characters and bytes unless it is there already';

CREATE FUNCTION hart.decompose(content bytea) RETURNS bigint
LANGUAGE sql VOLATILE
RETURN hart.store_text(hart.check_text(content));
COMMENT ON FUNCTION hart.decompose(bytea) IS 'atom of any bytes, which is that of the text where they are UTF-8; other bytes are parts as they are';

-- Volatile, so that they see what hart.decompose stored in the same statement.
CREATE FUNCTION hart.recompose_bytes(id bigint) RETURNS bytea
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    content bytea;
BEGIN
    IF id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'atom id must not be null', HINT = 'Ids come from hart.decompose.';
    END IF;
    content := hart.atom_content(id);
    IF content IS NOT NULL THEN
        RETURN content;
    ELSIF has_table_privilege('hart.stored_atoms', 'SELECT') THEN
        SELECT a.raw_value INTO content FROM hart.stored_atoms a WHERE a.id = recompose_bytes.id;
    ELSIF hart.atom_modality(id) = 'token' THEN
        SELECT t.raw_value INTO content FROM hart.token_atoms t WHERE t.id = recompose_bytes.id LIMIT 1;
    ELSE
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'permission denied to read texts',
            HINT = 'The owner of hart.stored_atoms can GRANT SELECT on it to you.';
    END IF;
    IF content IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('atom %s does not exist', id), HINT = 'Ids come from hart.decompose and hart.tokens.';
    END IF;
    RETURN content;
END $$;
COMMENT ON FUNCTION hart.recompose_bytes(bigint) IS 'content of an atom: of a byte, character, token or text its bytes, of a weight the four bytes of a float4';

CREATE FUNCTION hart.recompose(id bigint) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    content bytea := hart.recompose_bytes(id);
BEGIN
    IF hart.atom_modality(id) IN ('weight', 'neuron', 'tensor') THEN
        RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('atom %s is a %s, not a text', id, hart.atom_modality(id)),
            HINT = 'Use hart.recompose_bytes.';
    END IF;
    RETURN convert_from(content, 'UTF8');
EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
    RAISE EXCEPTION USING ERRCODE = 'character_not_in_repertoire', MESSAGE = format('content of atom %s is not a valid text', id),
        DETAIL = SQLERRM, HINT = 'Use hart.recompose_bytes.';
END $$;
COMMENT ON FUNCTION hart.recompose(bigint) IS 'text of an atom: exactly what hart.decompose was given; error when the bytes are no text, or a text that this database cannot hold';

-- The tree of a content that is given: what hart.decompose would store, read-only. Of texts that are stored it shows the ids they have.
CREATE FUNCTION hart.text_tree(whole bytea) RETURNS TABLE (level integer, "position" integer, parent_id bigint, atom_id bigint, modality text, content bytea, as_text text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
DECLARE
    segments bytea[];
    sequence integer[];
    segment_ids bigint[];
    root bigint;
    below integer;
    readable boolean := has_table_privilege('hart.stored_atoms', 'SELECT');
BEGIN
    SELECT s.segments, s.sequence INTO segments, sequence FROM hart.split_text(whole) AS s;
    segment_ids := hart.atom_ids('text', segments);
    root := hart.atom_id('text', whole);
    IF readable THEN
        segment_ids := ARRAY(SELECT coalesce(t.found, t.wanted) FROM unnest(hart.find_atoms('text', segments, segment_ids), segment_ids) WITH ORDINALITY AS t (found, wanted, n) ORDER BY n);
        root := coalesce((hart.find_atoms('text', ARRAY[whole], ARRAY[root]))[1], root);
    END IF;
    below := CASE WHEN cardinality(sequence) = 1 THEN 0 ELSE 1 END;
    RETURN QUERY
    WITH part AS MATERIALIZED (
        SELECT c.parent AS segment, c.position AS place, c.child_id AS id, hart.atom_modality(c.child_id) AS modality, hart.atom_content(c.child_id) AS content
        FROM hart.components('text', segments) AS c
    ), place AS (
        SELECT s.n::integer - 1 AS n, s.segment FROM unnest(sequence) WITH ORDINALITY AS s (segment, n)
    ), segment AS (
        SELECT s.segment::integer, s.content, s.id FROM unnest(segments, segment_ids) WITH ORDINALITY AS s (content, id, segment)
    ), node AS (
        SELECT 0 AS level, 0 AS position, NULL::bigint AS parent_id, root AS id, 'text' AS modality, whole AS content, ARRAY[]::integer[] AS path
        UNION ALL
        SELECT 1, p.n, root, s.id, 'text', s.content, ARRAY[p.n] FROM place AS p JOIN segment AS s USING (segment) WHERE below = 1
        UNION ALL
        SELECT below + 1, c.place, segment_ids[c.segment], c.id, c.modality, c.content, ARRAY[p.n, c.place] FROM place AS p JOIN part AS c USING (segment)
        UNION ALL
        SELECT below + 2, b.position, c.id, b.child_id, 'byte', hart.atom_content(b.child_id), ARRAY[p.n, c.place, b.position]
        FROM place AS p JOIN part AS c USING (segment), LATERAL hart.components('character', ARRAY[c.content]) AS b WHERE c.modality = 'character'
    )
    SELECT n.level, n.position, n.parent_id, n.id, n.modality, n.content, hart.utf8_text(n.content) FROM node AS n ORDER BY n.path;
END $$;
COMMENT ON FUNCTION hart.text_tree(bytea) IS 'the tree of a content, whether it is stored or not, in the order of the text';

CREATE FUNCTION hart.decomposition(text text) RETURNS TABLE (level integer, "position" integer, parent_id bigint, atom_id bigint, modality text, content bytea, as_text text)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT * FROM hart.text_tree(hart.check_text(convert_to(text, 'UTF8')));
END;
COMMENT ON FUNCTION hart.decomposition(text) IS 'the tree of a text, each part before the next and above its own parts: level (0 is the text), position within the parent, ids, modality, content, also as text where it is one; stores nothing';

CREATE FUNCTION hart.decomposition(id bigint) RETURNS TABLE (level integer, "position" integer, parent_id bigint, atom_id bigint, modality text, content bytea, as_text text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
DECLARE
    root_content bytea := hart.recompose_bytes(id);
BEGIN
    IF hart.atom_modality(id) NOT IN ('token', 'text') THEN
        RETURN QUERY
        SELECT 0, 0, NULL::bigint, decomposition.id, hart.atom_modality(decomposition.id), root_content, CASE WHEN hart.atom_modality(decomposition.id) IN ('byte', 'character') THEN hart.utf8_text(root_content) END
        UNION ALL
        SELECT 1, c.position, decomposition.id, c.child_id, 'byte', hart.atom_content(c.child_id), hart.utf8_text(hart.atom_content(c.child_id))
        FROM hart.components('character', ARRAY[root_content]) AS c WHERE hart.atom_modality(decomposition.id) = 'character'
        ORDER BY 1, 2;
        RETURN;
    END IF;
    RETURN QUERY
    WITH RECURSIVE node AS (
        SELECT 0 AS level, 0 AS position, NULL::bigint AS parent_id, decomposition.id AS id, ARRAY[]::integer[] AS path
        UNION ALL
        SELECT n.level + 1, r.position, r.parent_id, r.child_id, n.path || r.position
        FROM node AS n JOIN hart.stored_relations AS r ON r.parent_id = n.id AND r.relation_type = 'composition'
    )
    SELECT n.level, n.position, n.parent_id, n.id, hart.atom_modality(n.id), c.content, hart.utf8_text(c.content)
    FROM node AS n LEFT JOIN hart.stored_atoms AS a ON a.id = n.id AND hart.atom_content(n.id) IS NULL, LATERAL coalesce(hart.atom_content(n.id), a.raw_value) AS c (content)
    ORDER BY n.path;
END $$;
COMMENT ON FUNCTION hart.decomposition(bigint) IS 'the tree of an atom that is stored, in the same form';
