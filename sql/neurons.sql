-- What each tensor of a model connects: the one place where names of tensors are given a meaning for the graph.

CREATE FUNCTION hart.tensor_role(name text, tied_embeddings boolean,
                                 OUT relation_type text, OUT layer integer, OUT parent_space text, OUT child_space text) RETURNS SETOF record
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE ROWS 1
BEGIN ATOMIC
    SELECT role.relation_type, n.layer, replace(role.parent_space, 'N', n.layer_name), replace(role.child_space, 'N', n.layer_name)
    FROM (SELECT regexp_match(name, '^model\.layers\.(\d+)\.(.*)$')) AS m (matched),
         LATERAL (SELECT matched[1]::integer, coalesce(matched[1], ''), coalesce(matched[2], name)) AS n (layer, layer_name, part)
    JOIN (VALUES
        ('model.embed_tokens.weight',       'embedding',    NULL,                           'residual'),
        ('lm_head.weight',                  'head',         NULL,                           'residual'),
        ('model.norm.weight',               'norm',         'residual',                     'residual'),
        ('input_layernorm.weight',          'norm',         'residual',                     'residual'),
        ('post_attention_layernorm.weight', 'norm',         'residual',                     'residual'),
        ('self_attn.q_proj.weight',         'attention',    'layers.N.self_attn.q_proj',    'residual'),
        ('self_attn.k_proj.weight',         'attention',    'layers.N.self_attn.k_proj',    'residual'),
        ('self_attn.v_proj.weight',         'attention',    'layers.N.self_attn.v_proj',    'residual'),
        ('self_attn.o_proj.weight',         'attention',    'residual',                     'layers.N.self_attn'),
        ('self_attn.q_norm.weight',         'norm',         'layers.N.self_attn.q_norm',    'layers.N.self_attn.q_norm'),
        ('self_attn.k_norm.weight',         'norm',         'layers.N.self_attn.k_norm',    'layers.N.self_attn.k_norm'),
        ('mlp.gate_proj.weight',            'feed_forward', 'layers.N.mlp',                 'residual'),
        ('mlp.up_proj.weight',              'feed_forward', 'layers.N.mlp',                 'residual'),
        ('mlp.down_proj.weight',            'feed_forward', 'residual',                     'layers.N.mlp'),
        ('self_attn.q_proj.bias',           'bias',         'layers.N.self_attn.q_proj',    NULL),
        ('self_attn.k_proj.bias',           'bias',         'layers.N.self_attn.k_proj',    NULL),
        ('self_attn.v_proj.bias',           'bias',         'layers.N.self_attn.v_proj',    NULL),
        ('self_attn.o_proj.bias',           'bias',         'residual',                     NULL),
        ('mlp.gate_proj.bias',              'bias',         'layers.N.mlp',                 NULL),
        ('mlp.up_proj.bias',                'bias',         'layers.N.mlp',                 NULL),
        ('mlp.down_proj.bias',              'bias',         'residual',                     NULL)
    ) AS role (part, relation_type, parent_space, child_space) ON role.part = n.part
    -- a matrix that is both is the embedding
    WHERE NOT (name = 'lm_head.weight' AND tied_embeddings);
END;
COMMENT ON FUNCTION hart.tensor_role(text, boolean) IS 'what the numbers of a tensor connect, by its name; no row for a tensor that the model does not compute with';

CREATE TABLE hart.tensor_roles (
    model_id        integer NOT NULL,
    tensor_id       integer NOT NULL,
    relation_type   text CHECK (relation_type IN ('embedding', 'attention', 'feed_forward', 'norm', 'bias', 'head')),
    parent_space    text,
    child_space     text,
    atom_id         bigint NOT NULL REFERENCES hart.stored_atoms,
    PRIMARY KEY (model_id, tensor_id),
    FOREIGN KEY (model_id, tensor_id) REFERENCES hart.tensors ON DELETE CASCADE
);
COMMENT ON TABLE hart.tensor_roles IS 'what each tensor is in the graph: row i of a matrix leads from neuron i of parent_space to the neurons of child_space, number i of a vector from neuron i to neuron i';
COMMENT ON COLUMN hart.tensor_roles.relation_type IS 'of all its edges; NULL when the model does not compute with the tensor';
COMMENT ON COLUMN hart.tensor_roles.parent_space IS 'space of hart.neuron_spaces; NULL: row i belongs to token i';
COMMENT ON COLUMN hart.tensor_roles.child_space IS 'space of hart.neuron_spaces; NULL: the numbers, a bias, lead to the tensor itself';
COMMENT ON COLUMN hart.tensor_roles.atom_id IS 'the tensor as an atom; its content is the fingerprint of the model and the name of the tensor';
CREATE INDEX tensor_roles_atom ON hart.tensor_roles (atom_id);
COMMENT ON INDEX hart.tensor_roles_atom IS 'the tensors that an atom is';

CREATE TABLE hart.neuron_spaces (
    model_id        integer NOT NULL REFERENCES hart.model_registry ON DELETE CASCADE,
    space           text NOT NULL,
    layer           integer,
    n               integer NOT NULL CHECK (n BETWEEN 1 AND 1048576),
    fingerprint     bytea NOT NULL,
    key             bigint NOT NULL CHECK (key >= 0 AND key < 1099511627776),
    PRIMARY KEY (model_id, space)
);
COMMENT ON TABLE hart.neuron_spaces IS 'the neurons of each model: residual (the stream between layers), layers.N.mlp, layers.N.self_attn (what o_proj reads), layers.N.self_attn.q_proj and so on';
COMMENT ON COLUMN hart.neuron_spaces.n IS 'how many neurons, counted from 0';
COMMENT ON COLUMN hart.neuron_spaces.fingerprint IS 'SHA-256 over those of the checkpoint files in the order of their names';
COMMENT ON COLUMN hart.neuron_spaces.key IS '40 bits of a hash of fingerprint and space: neuron i is the atom with the id of this key and i';
CREATE INDEX neuron_spaces_key ON hart.neuron_spaces (key);
COMMENT ON INDEX hart.neuron_spaces_key IS 'the spaces that the id of a neuron may mean';

SELECT pg_catalog.pg_extension_config_dump('hart.neuron_spaces', '');
SELECT pg_catalog.pg_extension_config_dump('hart.tensor_roles', '');
GRANT SELECT ON hart.tensor_roles, hart.neuron_spaces TO PUBLIC;

CREATE FUNCTION hart.neuron_space_key(fingerprint bytea, space text, attempt integer DEFAULT 0) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN ('x' || encode(substr(sha256(fingerprint || convert_to(space || CASE WHEN attempt > 0 THEN '#' || attempt ELSE '' END, 'UTF8')), 1, 5), 'hex'))::bit(40)::bigint;
COMMENT ON FUNCTION hart.neuron_space_key(bytea, text, integer) IS 'key of a space of neurons: the first 40 bits of SHA-256 over fingerprint and name; with a number after it when that key is taken';

CREATE FUNCTION hart.neuron_atom(model text, space text, index integer) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (SELECT 6917529027641081856 | (s.key << 20) | neuron_atom.index
        FROM hart.neuron_spaces s JOIN hart.model_registry r ON r.model_id = s.model_id
        WHERE r.name = neuron_atom.model AND s.space = neuron_atom.space AND neuron_atom.index >= 0 AND neuron_atom.index < s.n);
COMMENT ON FUNCTION hart.neuron_atom(text, text, integer) IS 'id of a neuron: of a model, in a space of hart.neuron_spaces, by its number from 0; NULL when there is none';

CREATE FUNCTION hart.add_neurons(model_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    ingested CONSTANT integer := add_neurons.model_id;
    digest bytea;
    contents bytea[];
    side record;
    attempt integer;
BEGIN
    SELECT sha256(string_agg(f.sha256, '' ORDER BY f.name COLLATE "C")) INTO digest FROM hart.model_files f WHERE f.model_id = ingested AND f.is_checkpoint;
    contents := ARRAY(SELECT convert_to(encode(digest, 'hex') || '/' || t.name, 'UTF8') FROM hart.tensors t WHERE t.model_id = ingested ORDER BY t.tensor_id);
    INSERT INTO hart.tensor_roles (model_id, tensor_id, relation_type, parent_space, child_space, atom_id)
    SELECT ingested, t.tensor_id, o.relation_type, o.parent_space, o.child_space, a.id
    FROM (SELECT t.*, row_number() OVER (ORDER BY t.tensor_id) AS n FROM hart.tensors t WHERE t.model_id = ingested) AS t
    JOIN hart.model_registry r ON r.model_id = ingested
    JOIN hart.store_atoms('tensor', contents, hart.atom_ids('tensor', contents)) AS s ON true
    JOIN LATERAL unnest(s.ids) WITH ORDINALITY AS a (id, n) ON a.n = t.n
    LEFT JOIN LATERAL hart.tensor_role(t.name, r.tied_embeddings) AS o ON true;

    FOR side IN
        -- a space has as many neurons as the tensors beside it have rows or columns
        SELECT DISTINCT s.space, CASE WHEN s.space <> 'residual' THEN split_part(s.space, '.', 2)::integer END AS layer, s.n
        FROM hart.tensor_roles o JOIN hart.tensors t ON t.model_id = o.model_id AND t.tensor_id = o.tensor_id
        CROSS JOIN LATERAL (VALUES (o.parent_space, t.shape[1]), (o.child_space, t.shape[cardinality(t.shape)])) AS s (space, n)
        WHERE o.model_id = ingested AND s.space IS NOT NULL
    LOOP
        attempt := 0;
        -- two contents with one key are not to be expected before there are a million spaces
        WHILE EXISTS (SELECT FROM hart.neuron_spaces s
                      WHERE s.key = hart.neuron_space_key(digest, side.space, attempt) AND (s.fingerprint, s.space) <> (digest, side.space)) LOOP
            attempt := attempt + 1;
        END LOOP;
        INSERT INTO hart.neuron_spaces (model_id, space, layer, n, fingerprint, key)
        VALUES (ingested, side.space, side.layer, side.n, digest, hart.neuron_space_key(digest, side.space, attempt));
    END LOOP;
END $$;
COMMENT ON FUNCTION hart.add_neurons(integer) IS 'enter the spaces of neurons, and the roles and atoms of the tensors, of a model that is being ingested: a step of hart.finish_ingest, and with the rights of its owner';
REVOKE EXECUTE ON FUNCTION hart.add_neurons(integer) FROM PUBLIC;
