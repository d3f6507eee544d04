-- What each tensor of a model connects: the one place where names of tensors are given a meaning for the graph.

CREATE VIEW hart.tensor_roles AS
WITH role (part, relation_type, parent_space, child_space) AS (VALUES
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
)
SELECT t.model_id, t.tensor_id, t.name, role.relation_type, n.layer,
       replace(role.parent_space, 'N', n.layer::text) AS parent_space, replace(role.child_space, 'N', n.layer::text) AS child_space
FROM hart.tensors t
JOIN hart.model_registry r ON r.model_id = t.model_id
CROSS JOIN LATERAL (SELECT CASE WHEN t.name ~ '^model\.layers\.\d+\.' THEN split_part(t.name, '.', 3)::integer END) AS n (layer)
JOIN role ON role.part = CASE WHEN n.layer IS NULL THEN t.name ELSE split_part(t.name, '.', 4) || '.' || split_part(t.name, '.', 5)
                              || CASE WHEN split_part(t.name, '.', 6) <> '' THEN '.' || split_part(t.name, '.', 6) ELSE '' END END
-- a matrix that is both is the embedding
WHERE NOT (t.name = 'lm_head.weight' AND r.tied_embeddings);
COMMENT ON VIEW hart.tensor_roles IS 'what the tensors that a model computes with connect: row i of a matrix leads from neuron i of parent_space (NULL: token i) to the neurons of child_space, number i of a vector from neuron i of parent_space to that of child_space (NULL: to the tensor, a bias)';

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

CREATE TABLE hart.tensor_atoms (
    model_id        integer NOT NULL,
    tensor_id       integer NOT NULL,
    atom_id         bigint NOT NULL,
    PRIMARY KEY (model_id, tensor_id),
    FOREIGN KEY (model_id, tensor_id) REFERENCES hart.tensors ON DELETE CASCADE
);
COMMENT ON TABLE hart.tensor_atoms IS 'which atom each tensor is; its content is the fingerprint of the model and the name of the tensor';

SELECT pg_catalog.pg_extension_config_dump('hart.neuron_spaces', '');
SELECT pg_catalog.pg_extension_config_dump('hart.tensor_atoms', '');
GRANT SELECT ON hart.tensor_roles, hart.neuron_spaces, hart.tensor_atoms TO PUBLIC;

CREATE FUNCTION hart.neuron_space_key(fingerprint bytea, space text, attempt integer DEFAULT 0) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN ('x' || encode(substr(sha256(fingerprint || convert_to(space || CASE WHEN attempt > 0 THEN '#' || attempt ELSE '' END, 'UTF8')), 1, 5), 'hex'))::bit(40)::bigint;
COMMENT ON FUNCTION hart.neuron_space_key(bytea, text, integer) IS 'key of a space of neurons: the first 40 bits of SHA-256 over fingerprint and name; with a number after it when that key is taken';

CREATE FUNCTION hart.neuron_atom(model text, space text, index integer) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (SELECT 6917529027641081856 | s.key << 20 | neuron_atom.index
        FROM hart.neuron_spaces s JOIN hart.model_registry r ON r.model_id = s.model_id
        WHERE r.name = neuron_atom.model AND s.space = neuron_atom.space AND neuron_atom.index >= 0 AND neuron_atom.index < s.n);
COMMENT ON FUNCTION hart.neuron_atom(text, text, integer) IS 'id of a neuron: of a model, in a space of hart.neuron_spaces, by its number from 0; NULL when there is none';

CREATE FUNCTION hart.add_neuron_spaces(model_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    digest bytea;
    found record;
    attempt integer;
BEGIN
    PERFORM hart.check_own_ingest(model_id);
    SELECT sha256(string_agg(f.sha256, '' ORDER BY f.name COLLATE "C")) INTO digest
    FROM hart.model_files f WHERE f.model_id = add_neuron_spaces.model_id AND f.is_checkpoint;
    FOR found IN
        -- a space has a name and a layer, and as many neurons as the sides of its tensors
        SELECT DISTINCT ON (side.space) side.space, CASE WHEN side.space <> 'residual' THEN o.layer END AS layer, side.n
        FROM hart.tensor_roles o JOIN hart.tensors t ON t.model_id = o.model_id AND t.tensor_id = o.tensor_id
        CROSS JOIN LATERAL (VALUES (o.parent_space, t.shape[1]), (o.child_space, t.shape[cardinality(t.shape)])) AS side (space, n)
        WHERE o.model_id = add_neuron_spaces.model_id AND side.space IS NOT NULL
        ORDER BY side.space
    LOOP
        attempt := 0;
        -- two contents with one key are not expected before there are a million spaces
        WHILE EXISTS (SELECT FROM hart.neuron_spaces s
                      WHERE s.key = hart.neuron_space_key(digest, found.space, attempt) AND (s.fingerprint, s.space) <> (digest, found.space)) LOOP
            attempt := attempt + 1;
        END LOOP;
        INSERT INTO hart.neuron_spaces (model_id, space, layer, n, fingerprint, key)
        VALUES (add_neuron_spaces.model_id, found.space, found.layer, found.n, digest, hart.neuron_space_key(digest, found.space, attempt));
    END LOOP;
    INSERT INTO hart.tensor_atoms (model_id, tensor_id, atom_id)
    SELECT t.model_id, t.tensor_id, hart.atom_id('tensor', convert_to(encode(digest, 'hex') || '/' || t.name, 'UTF8'))
    FROM hart.tensors t WHERE t.model_id = add_neuron_spaces.model_id;
END $$;
COMMENT ON FUNCTION hart.add_neuron_spaces(integer) IS 'enter the spaces of neurons of the model that this session is ingesting';
