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

-- who may read or change which weights is decided by the privileges on the model's tiles
GRANT SELECT, UPDATE ON hart.weights TO PUBLIC;
