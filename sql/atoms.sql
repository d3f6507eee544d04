-- Atoms: bytes, characters, tokens, texts and tensors as rows, and the relations between them. Neurons and weight values are atoms too; they are
-- computed from the tiles. Texts are the user's data: nobody but the owner reads or adds any without a GRANT on these tables.

CREATE TABLE hart.stored_atoms (
    id              bigint PRIMARY KEY,
    geom            geometry(PointZM) NOT NULL,
    raw_value       bytea NOT NULL,
    -- a point that lacks a coordinate has no index
    CONSTRAINT geometry_fits_id CHECK (hart.hilbert_encode_4d(geom, 12) IS NOT DISTINCT FROM (id >> 12) & 281474976710655)
) PARTITION BY RANGE (id);
COMMENT ON TABLE hart.stored_atoms IS 'atoms that are rows, one partition a modality; hart.atoms shows all atoms';
COMMENT ON COLUMN hart.stored_atoms.id IS 'modality in bits 60 to 62, then 48 bits of Hilbert index of geom, then a tie-breaker of 12 bits';
COMMENT ON COLUMN hart.stored_atoms.raw_value IS 'the content: the same content has the same id in every database';

CREATE TABLE hart.stored_atoms_byte PARTITION OF hart.stored_atoms (CONSTRAINT id_is_content CHECK (raw_value IS NOT DISTINCT FROM hart.atom_content(id)))
    FOR VALUES FROM (1152921504606846976) TO (2305843009213693952);
COMMENT ON TABLE hart.stored_atoms_byte IS 'the 256 bytes, there from the beginning';
CREATE TABLE hart.stored_atoms_character PARTITION OF hart.stored_atoms (CONSTRAINT id_is_content CHECK (raw_value IS NOT DISTINCT FROM hart.atom_content(id)))
    FOR VALUES FROM (2305843009213693952) TO (3458764513820540928);
COMMENT ON TABLE hart.stored_atoms_character IS 'characters of Unicode that some text or token holds; raw_value is UTF-8';
-- the id of these is that of their content, but for the tie-breaker
CREATE TABLE hart.stored_atoms_token PARTITION OF hart.stored_atoms (CONSTRAINT id_is_content CHECK (id >> 12 = hart.atom_id('token', raw_value) >> 12))
    FOR VALUES FROM (3458764513820540928) TO (4611686018427387904);
COMMENT ON TABLE hart.stored_atoms_token IS 'tokens of all models; raw_value is the bytes that a token decodes to';
CREATE TABLE hart.stored_atoms_text PARTITION OF hart.stored_atoms (CONSTRAINT id_is_content CHECK (id >> 12 = hart.atom_id('text', raw_value) >> 12))
    FOR VALUES FROM (4611686018427387904) TO (5764607523034234880);
COMMENT ON TABLE hart.stored_atoms_text IS 'words, what is between words, and whole texts';
CREATE TABLE hart.stored_atoms_tensor PARTITION OF hart.stored_atoms (CONSTRAINT id_is_content CHECK (id >> 12 = hart.atom_id('tensor', raw_value) >> 12))
    FOR VALUES FROM (8070450532247928832) TO (MAXVALUE);
COMMENT ON TABLE hart.stored_atoms_tensor IS 'tensors of all models';

INSERT INTO hart.stored_atoms
SELECT id, hart.atom_geometry(id), byte
FROM (SELECT byte, hart.atom_id('byte', byte) AS id FROM generate_series(0, 255) AS n, LATERAL set_byte('\x00', 0, n) AS byte) AS bytes ORDER BY id;

CREATE FUNCTION hart.keep_bytes() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'bytes cannot be deleted', HINT = 'The 256 bytes are part of the extension.';
END $$;
COMMENT ON FUNCTION hart.keep_bytes() IS 'trigger: the atoms of bytes stay';
CREATE TRIGGER keep_bytes BEFORE DELETE ON hart.stored_atoms_byte FOR EACH ROW EXECUTE FUNCTION hart.keep_bytes();
COMMENT ON TRIGGER keep_bytes ON hart.stored_atoms_byte IS 'bytes come with the extension and go with it';
CREATE TRIGGER keep_all_bytes BEFORE TRUNCATE ON hart.stored_atoms_byte FOR EACH STATEMENT EXECUTE FUNCTION hart.keep_bytes();
COMMENT ON TRIGGER keep_all_bytes ON hart.stored_atoms_byte IS 'bytes come with the extension and go with it';

-- INSERT on the table is the right to store texts, which only hart.decompose does, with all their parts: rows of one's own would be found in the place of texts.
-- The owner of the table, with whose rights it writes, and the views are above these policies.
ALTER TABLE hart.stored_atoms ENABLE ROW LEVEL SECURITY;
CREATE POLICY readers ON hart.stored_atoms FOR SELECT USING (true);
COMMENT ON POLICY readers ON hart.stored_atoms IS 'who was granted SELECT reads all atoms';
CREATE POLICY deleters ON hart.stored_atoms FOR DELETE USING (true);
COMMENT ON POLICY deleters ON hart.stored_atoms IS 'who was granted DELETE may delete what nothing needs';

CREATE TYPE hart.stored_relation_type AS ENUM ('composition', 'merge');
COMMENT ON TYPE hart.stored_relation_type IS 'kinds of relations that are rows: composition (of a whole and its parts), merge (of a token and the two that a tokenizer joins)';

CREATE TABLE hart.stored_relations (
    parent_id       bigint NOT NULL REFERENCES hart.stored_atoms,
    child_id        bigint NOT NULL REFERENCES hart.stored_atoms,
    relation_type   hart.stored_relation_type NOT NULL,
    position        integer NOT NULL CHECK (position >= 0),
    rank            integer,
    model_id        integer
) PARTITION BY LIST (relation_type);
COMMENT ON TABLE hart.stored_relations IS 'relations that are rows, one partition a kind; hart.relations shows all relations';
COMMENT ON COLUMN hart.stored_relations.position IS 'which part of the parent, from 0';
COMMENT ON COLUMN hart.stored_relations.rank IS 'of a merge: its place in the tokenizer''s list, from 0';

CREATE TABLE hart.stored_relations_composition PARTITION OF hart.stored_relations (
    PRIMARY KEY (parent_id, position),
    CONSTRAINT composition_has_no_model CHECK (model_id IS NULL AND rank IS NULL)
) FOR VALUES IN ('composition');
COMMENT ON TABLE hart.stored_relations_composition IS 'wholes and their parts: text, words, characters, bytes; token, characters, bytes';
CREATE INDEX stored_relations_composition_child ON hart.stored_relations_composition (child_id);
COMMENT ON INDEX hart.stored_relations_composition_child IS 'what an atom is part of';

CREATE TABLE hart.stored_relations_merge PARTITION OF hart.stored_relations (
    PRIMARY KEY (model_id, rank, position),
    FOREIGN KEY (model_id) REFERENCES hart.model_registry ON DELETE CASCADE,
    CONSTRAINT merge_joins_two CHECK (rank >= 0 AND position IN (0, 1))
) FOR VALUES IN ('merge');
COMMENT ON TABLE hart.stored_relations_merge IS 'merges of byte-pair encoding: a token, and the left (0) and the right (1) token that make it';
CREATE INDEX stored_relations_merge_parent ON hart.stored_relations_merge (parent_id);
COMMENT ON INDEX hart.stored_relations_merge_parent IS 'the merges that make a token';
CREATE INDEX stored_relations_merge_child ON hart.stored_relations_merge (child_id);
COMMENT ON INDEX hart.stored_relations_merge_child IS 'the merges that use a token';

CREATE TABLE hart.tokens (
    model_id        integer NOT NULL REFERENCES hart.model_registry ON DELETE CASCADE,
    token_id        integer NOT NULL CHECK (token_id >= 0),
    atom_id         bigint NOT NULL REFERENCES hart.stored_atoms,
    special         boolean NOT NULL,
    PRIMARY KEY (model_id, token_id)
);
CREATE INDEX tokens_atom ON hart.tokens (atom_id);
COMMENT ON INDEX hart.tokens_atom IS 'the tokens that are an atom';
COMMENT ON TABLE hart.tokens IS 'vocabulary of each model: which atom a token id is; a model may have several ids for the same bytes';
COMMENT ON COLUMN hart.tokens.special IS 'whether the tokenizer treats it as a special token, which ordinary text never becomes';

-- The user's atoms are in a dump; bytes come with CREATE EXTENSION. A partitioned table has no rows of its own to dump.
SELECT pg_catalog.pg_extension_config_dump('hart.stored_atoms_character', '');
SELECT pg_catalog.pg_extension_config_dump('hart.stored_atoms_token', '');
SELECT pg_catalog.pg_extension_config_dump('hart.stored_atoms_text', '');
SELECT pg_catalog.pg_extension_config_dump('hart.stored_atoms_tensor', '');
SELECT pg_catalog.pg_extension_config_dump('hart.stored_relations_composition', '');
SELECT pg_catalog.pg_extension_config_dump('hart.stored_relations_merge', '');
SELECT pg_catalog.pg_extension_config_dump('hart.tokens', '');

-- PL/pgSQL keeps its plan for the session: a function in SQL is planned anew in each query on tokens.
CREATE FUNCTION hart.readable_models() RETURNS integer[]
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN ARRAY(SELECT r.model_id FROM hart.model_registry r WHERE hart.can_read(r.model_id));
END $$;
COMMENT ON FUNCTION hart.readable_models() IS 'numbers of the models that the current role may use';

ALTER TABLE hart.tokens ENABLE ROW LEVEL SECURITY;
-- a subquery, so that it is asked once and not for every token
CREATE POLICY readers ON hart.tokens FOR SELECT USING (model_id = ANY ((SELECT hart.readable_models())::integer[]));
COMMENT ON POLICY readers ON hart.tokens IS 'tokens of a model are for those who may read its tiles';

-- The branches have no conditions, so that joins reach them by index.
CREATE VIEW hart.atoms AS
SELECT id, geom, raw_value FROM hart.stored_atoms
UNION ALL
SELECT id, geom, raw_value FROM hart.computed_atoms;
COMMENT ON VIEW hart.atoms IS 'all atoms: id, place, content';

CREATE VIEW hart.relations AS
SELECT parent_id, child_id, 'composition'::text AS relation_type, position, NULL::integer AS rank, NULL::bigint AS weight_atom_id, NULL::text AS model, NULL::text AS tensor
FROM hart.stored_relations_composition
UNION ALL
SELECT parent_id, child_id, 'merge', position, rank, NULL, (SELECT r.name FROM hart.model_registry r WHERE r.model_id = m.model_id), NULL
FROM hart.stored_relations_merge m
UNION ALL
SELECT parent_id, child_id, relation_type, position, NULL, weight_atom_id, model, tensor
FROM hart.weight_relations;
COMMENT ON VIEW hart.relations IS 'all relations: parent, child, kind, which part of the parent, rank of a merge, atom of the weight, model and tensor';

CREATE VIEW hart.token_atoms WITH (security_barrier) AS
SELECT t.model_id, t.token_id, t.special, a.id, a.geom, a.raw_value
FROM hart.tokens t JOIN hart.stored_atoms_token a ON a.id = t.atom_id
WHERE t.model_id = ANY ((SELECT hart.readable_models())::integer[]);
COMMENT ON VIEW hart.token_atoms IS 'the tokens of the models that the current role may use, with the atoms that they are';

GRANT SELECT ON hart.tokens, hart.token_atoms TO PUBLIC;

CREATE FUNCTION hart.delete_atom() RETURNS trigger
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM hart.stored_atoms a WHERE a.id = OLD.id;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('atom %s is part of a model', OLD.id),
            HINT = 'It goes with its model: CALL hart.drop_model.';
    END IF;
    RETURN OLD;
EXCEPTION WHEN foreign_key_violation THEN
    RAISE EXCEPTION USING ERRCODE = 'foreign_key_violation', MESSAGE = format('atom %s is needed by relations or tokens', OLD.id),
        DETAIL = SQLERRM, HINT = 'Delete the rows of hart.stored_relations with this parent_id or child_id first; tokens go with their model.';
END $$;
COMMENT ON FUNCTION hart.delete_atom() IS 'trigger: DELETE FROM hart.atoms deletes a stored atom that nothing needs';
CREATE TRIGGER delete_atom INSTEAD OF DELETE ON hart.atoms FOR EACH ROW EXECUTE FUNCTION hart.delete_atom();

CREATE VIEW hart.atom_stats AS
WITH part (modality, atoms) AS (
    VALUES ('byte', 'hart.stored_atoms_byte'::regclass), ('character', 'hart.stored_atoms_character'), ('token', 'hart.stored_atoms_token'),
           ('text', 'hart.stored_atoms_text'), ('tensor', 'hart.stored_atoms_tensor'), ('weight', NULL), ('neuron', NULL)
), n_atoms (modality, n) AS (
    SELECT hart.atom_modality(min(id)), count(*) FROM hart.stored_atoms GROUP BY id >> 60
), n_edges (modality, composition, merge) AS (
    SELECT hart.atom_modality(min(parent_id)), count(*) FILTER (WHERE relation_type = 'composition'), count(*) FILTER (WHERE relation_type = 'merge')
    FROM hart.stored_relations GROUP BY parent_id >> 60
), relation_bytes (composition, merge) AS (
    SELECT pg_total_relation_size('hart.stored_relations_composition'), pg_total_relation_size('hart.stored_relations_merge')
)
SELECT part.modality, coalesce(a.n, 0) AS atoms, coalesce(pg_total_relation_size(part.atoms), 0) AS atom_bytes,
       coalesce(e.composition, 0) AS composition_edges, coalesce(e.merge, 0) AS merge_edges,
       (coalesce(e.composition * b.composition / nullif(sum(e.composition) OVER (), 0), 0)
        + coalesce(e.merge * b.merge / nullif(sum(e.merge) OVER (), 0), 0))::bigint AS edge_bytes
FROM part CROSS JOIN relation_bytes AS b LEFT JOIN n_atoms AS a USING (modality) LEFT JOIN n_edges AS e USING (modality);
COMMENT ON VIEW hart.atom_stats IS 'what the graph takes up: of each modality the stored atoms and their bytes on disk, the relations of which they are the parent, and these relations'' share of the bytes on disk; weights and neurons are computed from the tiles, and take nothing';
