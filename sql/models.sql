-- Models as rows. The catalog is readable by everybody, as pg_class is; the weights (hart.tiles_<model_id>)
-- and the files are readable by whom the model's owner grants SELECT on its tiles.

CREATE SEQUENCE hart.model_id_seq AS integer;
COMMENT ON SEQUENCE hart.model_id_seq IS 'numbers of models; never used twice, so that what a session remembers of a model cannot be another''s';

CREATE TABLE hart.model_registry (
    model_id        integer PRIMARY KEY,
    name            text NOT NULL UNIQUE,
    state           text NOT NULL CHECK (state IN ('ingesting', 'ready')),
    architecture    text NOT NULL,
    dim             integer NOT NULL,
    hidden_dim      integer NOT NULL,
    n_layers        integer NOT NULL,
    n_heads         integer NOT NULL,
    n_kv_heads      integer NOT NULL,
    head_dim        integer NOT NULL,
    vocab_size      integer NOT NULL,
    max_positions   integer NOT NULL,
    rms_norm_eps    float8 NOT NULL,
    rope_inv_freq   real[] NOT NULL,
    tied_embeddings boolean NOT NULL,
    eos_token_ids   integer[] NOT NULL,
    parameters      bigint NOT NULL,
    source_bytes    bigint NOT NULL,
    path            text NOT NULL,
    quantization    text CHECK (quantization = 'q8'),
    quantized_from  text CHECK ((quantized_from IS NULL) = (quantization IS NULL)),
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    ready_at        timestamptz,
    backend_pid     integer,
    tensors_total   integer NOT NULL,
    tensors_done    integer NOT NULL DEFAULT 0,
    bytes_total     bigint NOT NULL,
    bytes_done      bigint NOT NULL DEFAULT 0,
    current_tensor  text,
    updated_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (n_layers >= 0 AND dim > 0 AND hidden_dim > 0 AND n_heads > 0 AND n_kv_heads > 0 AND n_heads % n_kv_heads = 0
           AND head_dim > 0 AND head_dim % 2 = 0 AND vocab_size > 0 AND max_positions > 0),
    CHECK (cardinality(rope_inv_freq) = head_dim / 2)
);
COMMENT ON TABLE hart.model_registry IS 'one row a model: its shape, how positions are encoded, how far its ingestion is';
COMMENT ON COLUMN hart.model_registry.rope_inv_freq IS 'angle per position of each pair of dimensions of a head, scaling applied';
COMMENT ON COLUMN hart.model_registry.eos_token_ids IS 'tokens that end a text';
COMMENT ON COLUMN hart.model_registry.source_bytes IS 'size of the checkpoint files';
COMMENT ON COLUMN hart.model_registry.quantization IS 'method by which the weights were rounded; NULL for a model as it was ingested';
COMMENT ON COLUMN hart.model_registry.quantized_from IS 'name, at that time, of the model that this one was made of';

CREATE FUNCTION hart.tile_count(encoding text, bytes bigint) RETURNS integer
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (SELECT (bytes + t.size - 1) / t.size FROM (SELECT CASE encoding WHEN 'plain' THEN 8064 WHEN 'bf12' THEN 10496 WHEN 'q8' THEN 31232 END) AS t (size));
COMMENT ON FUNCTION hart.tile_count(text, bigint) IS 'tiles of a tensor of so many bytes in the checkpoint; NULL for an unknown encoding';

CREATE TABLE hart.tensors (
    model_id        integer NOT NULL REFERENCES hart.model_registry ON DELETE CASCADE,
    tensor_id       integer NOT NULL,
    name            text NOT NULL,
    shape           integer[] NOT NULL,
    dtype           text NOT NULL CHECK (dtype IN ('F32', 'F16', 'BF16')),
    encoding        text NOT NULL DEFAULT 'plain' CHECK (encoding = 'plain' OR encoding = 'bf12' AND dtype = 'BF16' OR encoding = 'q8' AND dtype = 'F32'),
    bytes           bigint NOT NULL CHECK (bytes >= 0),
    n_tiles         integer NOT NULL CHECK (n_tiles = hart.tile_count(encoding, bytes)),
    file            text NOT NULL,
    file_offset     bigint NOT NULL,
    PRIMARY KEY (model_id, tensor_id),
    UNIQUE (model_id, name)
);
COMMENT ON TABLE hart.tensors IS 'the tensors of each model under their names in the checkpoint';
COMMENT ON COLUMN hart.tensors.encoding IS 'how the tiles hold the numbers; plain: little-endian, row-major, as in the checkpoint; bf12: the same numbers in 12 bits each, losslessly; q8: 8-bit integers with a scale for every 64';
COMMENT ON COLUMN hart.tensors.dtype IS 'of the numbers as in the checkpoint; F32 for those of a q8 tensor, integers times a scale';
COMMENT ON COLUMN hart.tensors.bytes IS 'of the tensor in its dtype, whatever its tiles take';
COMMENT ON COLUMN hart.tensors.file_offset IS 'where the tensor begins in its file';

CREATE TABLE hart.model_files (
    model_id        integer NOT NULL REFERENCES hart.model_registry ON DELETE CASCADE,
    name            text NOT NULL,
    content         bytea NOT NULL,
    size            bigint NOT NULL,
    sha256          bytea NOT NULL,
    is_checkpoint   boolean NOT NULL,
    PRIMARY KEY (model_id, name)
);
COMMENT ON TABLE hart.model_files IS 'the files of each model; of a checkpoint file only its header, the rest being tiles';
COMMENT ON COLUMN hart.model_files.sha256 IS 'SHA-256 of the whole file as it was ingested';

CREATE TABLE hart.tiles (
    model_id        integer NOT NULL,
    tensor_id       integer NOT NULL,
    tile_no         integer NOT NULL,
    payload         bytea NOT NULL
) PARTITION BY LIST (model_id);
ALTER TABLE hart.tiles ALTER COLUMN payload SET STORAGE PLAIN;
COMMENT ON TABLE hart.tiles IS 'the weights: each tensor cut so that a tile has up to 8064 bytes and fills a page; one partition a model, hart.tiles_<model_id>';

-- Models are data of the user's: pg_dump takes them.
SELECT pg_catalog.pg_extension_config_dump('hart.model_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('hart.model_registry', '');
SELECT pg_catalog.pg_extension_config_dump('hart.tensors', '');
SELECT pg_catalog.pg_extension_config_dump('hart.model_files', '');

CREATE FUNCTION hart.tiles_of(model_id integer) RETURNS regclass
LANGUAGE sql STABLE STRICT PARALLEL SAFE
RETURN to_regclass('hart.tiles_' || model_id);
COMMENT ON FUNCTION hart.tiles_of(integer) IS 'the table with a model''s tiles; NULL when there is none';

CREATE FUNCTION hart.can_read(model_id integer) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce(has_table_privilege(hart.tiles_of(model_id), 'SELECT'), false);
COMMENT ON FUNCTION hart.can_read(integer) IS 'whether the current role has SELECT on a model''s tiles, which is what it takes to use the model';

ALTER TABLE hart.model_files ENABLE ROW LEVEL SECURITY;
CREATE POLICY readers ON hart.model_files FOR SELECT USING (hart.can_read(model_id));
COMMENT ON POLICY readers ON hart.model_files IS 'files of a model are for those who may read its tiles';

CREATE VIEW hart.models AS
SELECT name, architecture, parameters, source_bytes AS bytes_in,
       -- not while it comes in: the function would wait for the lock of the index being built
       CASE WHEN state = 'ready' THEN pg_total_relation_size(hart.tiles_of(model_id)) END AS bytes_stored,
       state, ready_at, n_layers, dim, vocab_size, max_positions AS context_length,
       hart.tiles_of(model_id) AS tiles, model_id, quantization, quantized_from
FROM hart.model_registry;
COMMENT ON VIEW hart.models IS 'one row a model: name, architecture, number of parameters, bytes of the checkpoint and of the tiles with their index, state, since when ready, shape, table of its tiles, how and of which model it was quantized';

CREATE VIEW hart.ingest_progress AS
SELECT name, backend_pid AS pid, tensors_done, tensors_total, current_tensor,
       round(bytes_done / 1e6, 1) AS mb_done, round(bytes_total / 1e6, 1) AS mb_total,
       round((bytes_done / 1e6 / nullif(extract(epoch FROM updated_at - created_at), 0))::numeric, 1) AS mb_per_second,
       make_interval(secs => extract(epoch FROM updated_at - created_at)::float8
                             * (bytes_total - bytes_done) / nullif(bytes_done, 0)) AS time_left,
       created_at AS started_at, updated_at
FROM hart.model_registry
WHERE state = 'ingesting';
COMMENT ON VIEW hart.ingest_progress IS 'models on their way in: how far, how fast, how long still';

GRANT SELECT ON hart.model_registry, hart.tensors, hart.model_files, hart.models, hart.ingest_progress TO PUBLIC;

CREATE FUNCTION hart.resolve_model(model text DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wanted text := coalesce(model, nullif(current_setting('hart.model', true), ''));
    found_id integer;
    names text[];
BEGIN
    SELECT array_agg(r.name ORDER BY r.name) INTO names FROM hart.model_registry r WHERE r.state = 'ready';
    IF names IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = 'there is no model in this database',
            HINT = 'CALL hart.ingest_model with the folder of a safetensors model.';
    ELSIF wanted IS NULL AND cardinality(names) > 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'ambiguous_parameter', MESSAGE = 'no model is named and there are several',
            DETAIL = format('Models: %s.', array_to_string(names, ', ')),
            HINT = 'Name one, or SET hart.model.';
    END IF;
    SELECT r.model_id INTO found_id FROM hart.model_registry r
    WHERE r.name = coalesce(wanted, names[1]) AND r.state = 'ready';
    IF found_id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('model "%s" does not exist', wanted),
            DETAIL = format('Models: %s.', array_to_string(names, ', ')),
            HINT = 'Name one of them; a model that is being ingested is not there yet.';
    ELSIF hart.tiles_of(found_id) IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_table', MESSAGE = format('table hart.tiles_%s of model "%s" does not exist', found_id, coalesce(wanted, names[1])),
            HINT = 'CALL hart.drop_model and ingest the model again.';
    ELSIF NOT hart.can_read(found_id) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('permission denied for model "%s"', coalesce(wanted, names[1])),
            HINT = format('Its owner can GRANT SELECT ON hart.tiles_%s to you.', found_id);
    END IF;
    RETURN found_id;
END $$;
COMMENT ON FUNCTION hart.resolve_model(text) IS 'number of the model a call means: the one named, else the setting hart.model, else the only one; refused to who may not read its tiles';

CREATE FUNCTION hart.bytes_to_matrix(data bytea, dtype text, n_cols integer) RETURNS hart.matrix
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_bytes_to_matrix';
COMMENT ON FUNCTION hart.bytes_to_matrix(bytea, text, integer) IS 'little-endian numbers of dtype F32, F16 or BF16 as a matrix with that many columns';

CREATE FUNCTION hart.unpack_tile(payload bytea, dtype text, encoding text) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_unpack_tile_sql';
COMMENT ON FUNCTION hart.unpack_tile(bytea, text, text) IS 'the weights of a tile as they are in the checkpoint';

CREATE FUNCTION hart.pack_tile(weights bytea, dtype text, encoding text) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_pack_tile_sql';
COMMENT ON FUNCTION hart.pack_tile(bytea, text, text) IS 'weights as they are in a checkpoint as the payload of a tile; NULL when they do not fit one in this encoding';

CREATE FUNCTION hart.tensor_matrix(model text, tensor text) RETURNS hart.matrix
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    id integer := hart.resolve_model(model);
    found_tensor hart.tensors;
    data bytea;
    damaged boolean;
BEGIN
    IF tensor IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'tensor must not be null',
            HINT = 'SELECT name FROM hart.tensors lists the tensors.';
    END IF;
    SELECT * INTO found_tensor FROM hart.tensors t WHERE t.model_id = id AND t.name = tensor;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('tensor "%s" does not exist', tensor),
            HINT = 'SELECT name FROM hart.tensors lists the tensors.';
    END IF;
    IF row_security_active(hart.tiles_of(id)) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('row-level security hides tiles of table "%s" from this role', hart.tiles_of(id)),
            HINT = 'A model is read as a whole: grant or revoke SELECT on its table instead.';
    END IF;
    EXECUTE format('SELECT string_agg(hart.unpack_tile(payload, $4, $5), %L::bytea ORDER BY tile_no),'
                   '       array_agg(tile_no ORDER BY tile_no) IS DISTINCT FROM (SELECT array_agg(n) FROM generate_series(0, $3 - 1) AS n)'
                   ' FROM %s WHERE model_id = $1 AND tensor_id = $2', '', hart.tiles_of(id))
        INTO data, damaged USING id, found_tensor.tensor_id, found_tensor.n_tiles, found_tensor.dtype, found_tensor.encoding;
    data := coalesce(data, '');
    IF damaged OR length(data) <> found_tensor.bytes THEN
        RAISE EXCEPTION USING ERRCODE = 'data_corrupted', MESSAGE = format('tiles of tensor "%s" are missing or damaged', tensor),
            HINT = 'Restore the model''s tiles, or drop the model and ingest it again.';
    END IF;
    RETURN hart.bytes_to_matrix(data, found_tensor.dtype, coalesce(found_tensor.shape[cardinality(found_tensor.shape)], 1));
END $$;
COMMENT ON FUNCTION hart.tensor_matrix(text, text) IS 'a tensor as a matrix; a vector is one row';
