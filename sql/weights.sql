-- The weights as rows: a foreign data wrapper over the tiles.

CREATE FUNCTION hart.weights_handler() RETURNS fdw_handler
LANGUAGE c AS 'MODULE_PATHNAME', 'hart_weights_handler';
COMMENT ON FUNCTION hart.weights_handler() IS 'the foreign data wrapper that shows tiles as rows';

CREATE FUNCTION hart.weights_validator(options text[], catalog oid) RETURNS void
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'hart_weights_validator';
COMMENT ON FUNCTION hart.weights_validator(text[], oid) IS 'checks options of foreign tables that show tiles as rows';

CREATE FOREIGN DATA WRAPPER hartonomous HANDLER hart.weights_handler VALIDATOR hart.weights_validator;
COMMENT ON FOREIGN DATA WRAPPER hartonomous IS 'tiles of models as rows: weights, edges between atoms, atoms';

CREATE SERVER hartonomous FOREIGN DATA WRAPPER hartonomous;
COMMENT ON SERVER hartonomous IS 'the models of this database';

CREATE FOREIGN TABLE hart.weights (
    model   text NOT NULL,
    tensor  text NOT NULL,
    "row"   integer NOT NULL,
    col     integer NOT NULL,
    value   real NOT NULL
) SERVER hartonomous OPTIONS (shows 'weights');
COMMENT ON FOREIGN TABLE hart.weights IS 'every weight of every model that the current role may read; value can be updated';
COMMENT ON COLUMN hart.weights.tensor IS 'name of the tensor in the checkpoint';
COMMENT ON COLUMN hart.weights."row" IS 'from 0 on; the only row of a vector is 0';
COMMENT ON COLUMN hart.weights.value IS 'the number as stored, widened to float32';

-- What can be a parent and a child is said, so that a query for other atoms leaves the table out. Rows that only fill an embedding matrix up belong to no token.
CREATE FOREIGN TABLE hart.weight_relations (
    parent_id       bigint CHECK (parent_id >= 3458764513820540928 AND parent_id < 4611686018427387904 OR parent_id >= 6917529027641081856 AND parent_id < 8070450532247928832),
    child_id        bigint NOT NULL CHECK (child_id >= 6917529027641081856),
    relation_type   text NOT NULL CHECK (relation_type IN ('embedding', 'attention', 'feed_forward', 'norm', 'bias', 'head')),
    position        integer NOT NULL,
    weight_atom_id  bigint NOT NULL CHECK (weight_atom_id >= 5764607523034234880 AND weight_atom_id < 6917529027641081856),
    model           text NOT NULL,
    tensor          text NOT NULL,
    value           real NOT NULL
) SERVER hartonomous OPTIONS (shows 'relations');
COMMENT ON FOREIGN TABLE hart.weight_relations IS 'the weights as edges: from the neuron or token that a weight adds to, to the neuron that it reads';
COMMENT ON COLUMN hart.weight_relations.parent_id IS 'atom of the output neuron, or of the token whose embedding or head row it is; NULL for rows beyond the vocabulary of the tokenizer';
COMMENT ON COLUMN hart.weight_relations.child_id IS 'atom of the input neuron; of a bias the tensor';
COMMENT ON COLUMN hart.weight_relations.position IS 'column of the weight';
COMMENT ON COLUMN hart.weight_relations.weight_atom_id IS 'atom of the value';

CREATE FOREIGN TABLE hart.computed_atoms (
    id              bigint NOT NULL CHECK (id >= 5764607523034234880 AND id < 8070450532247928832),
    geom            geometry(PointZM) NOT NULL,
    raw_value       bytea NOT NULL
) SERVER hartonomous OPTIONS (shows 'atoms');
COMMENT ON FOREIGN TABLE hart.computed_atoms IS 'atoms whose id tells what they are: neurons of the models that the current role may read, values of weights';
COMMENT ON COLUMN hart.computed_atoms.raw_value IS 'of a weight its four bytes, little-endian; of a neuron its model''s fingerprint, its space and its number, with slashes between';

-- who may read or change which weights is decided by the privileges on the model's tiles
GRANT SELECT, UPDATE ON hart.weights TO PUBLIC;
GRANT SELECT ON hart.weight_relations, hart.computed_atoms TO PUBLIC;

CREATE FUNCTION hart.patch_tile(payload bytea, dtype text, encoding text, patch bytea) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_patch_tile';
COMMENT ON FUNCTION hart.patch_tile(bytea, text, text, bytea) IS
    'the payload of a tile with some weights changed: 12 bytes a weight, its number in the tile, the old and the new value; UPDATE of hart.weights calls it';

CREATE FUNCTION hart.patch_fits(payload bytea, dtype text, encoding text, patch bytea) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000 AS 'MODULE_PATHNAME', 'hart_patch_fits';
COMMENT ON FUNCTION hart.patch_fits(bytea, text, text, bytea) IS 'whether a tile could hold its weights with these changes in its encoding';

CREATE FUNCTION hart.lock_encoding(model_id integer, tensor_id integer) RETURNS text
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'hart_lock_encoding_sql';
COMMENT ON FUNCTION hart.lock_encoding(integer, integer) IS 'encoding of a tensor, which stays so until the transaction ends; for those who may change its tiles';

CREATE FUNCTION hart.make_plain(model_id integer, tensor_id integer) RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'hart_make_plain_sql';
COMMENT ON FUNCTION hart.make_plain(integer, integer) IS 'store a packed tensor plain from now on, with the same weights; for those who may change its tiles';
