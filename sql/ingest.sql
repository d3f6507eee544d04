-- What the ingestion does to the catalog. These functions run with the rights of the extension's owner, since the one who ingests has none on the
-- catalog tables. Each is a pair: the one in C, which everybody may call, hands the current role to the other, which judges it (src_c/owner_call.c).
-- The model's own table belongs to that role.

CREATE FUNCTION hart.write_tiles(tiles regclass, model_id integer, tensor_id integer, first_tile integer, data bytea) RETURNS integer
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'hart_write_tiles';
COMMENT ON FUNCTION hart.write_tiles(regclass, integer, integer, integer, bytea) IS
    'append bytes of a tensor to the table of a model that is being ingested, 8064 a tile, from tile first_tile on; returns the number of tiles';

-- The session that ingests holds the advisory lock of its model: whoever can take that lock knows the session is gone.
CREATE FUNCTION hart.ingest_lock_class() RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN 1751212660;
COMMENT ON FUNCTION hart.ingest_lock_class() IS 'first key of the advisory lock that a session holds while it ingests; the second is the model''s number';

CREATE FUNCTION hart.forget_model(model_id integer) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    -- one statement: whoever sees the row sees the table that was made with it
    DELETE FROM hart.model_registry r WHERE r.model_id = forget_model.model_id AND hart.tiles_of(r.model_id) IS NULL;
$$;
COMMENT ON FUNCTION hart.forget_model(integer) IS 'delete the catalog rows of a model whose tiles are gone; does nothing while they are there';

CREATE FUNCTION hart.drop_dead_ingests() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    dead integer;
BEGIN
    FOR dead IN SELECT r.model_id FROM hart.model_registry r WHERE r.state = 'ingesting' LOOP
        CONTINUE WHEN NOT pg_try_advisory_lock(hart.ingest_lock_class(), dead);
        -- the session may just be committing its last step: then its row is locked, or no longer one of these
        PERFORM FROM hart.model_registry r WHERE r.model_id = dead AND r.state = 'ingesting' FOR UPDATE SKIP LOCKED;
        IF FOUND THEN
            BEGIN
                PERFORM hart.drop_positions(dead);
                EXECUTE format('DROP TABLE IF EXISTS hart.tiles_%s', dead);
                PERFORM hart.forget_model(dead);
            EXCEPTION WHEN OTHERS THEN
                -- somebody reads it, made a view of it, or made it one: it waits for the next time and stands in nobody's way
                RAISE WARNING USING MESSAGE = format('could not drop what an interrupted ingest left in hart.tiles_%s', dead), DETAIL = SQLERRM,
                    HINT = format('Drop the table hart.tiles_%s.', dead);
            END;
        END IF;
        PERFORM pg_advisory_unlock(hart.ingest_lock_class(), dead);
    END LOOP;
END $$;
COMMENT ON FUNCTION hart.drop_dead_ingests() IS 'drop what ingestions left behind whose session is gone';

CREATE FUNCTION hart.begin_ingest(caller regrole, name text, spec jsonb, OUT model_id integer, OUT tiles text) RETURNS record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET default_tablespace = '' AS $$
DECLARE
    other record;
BEGIN
    IF NOT pg_has_role(caller, 'pg_read_server_files', 'USAGE') THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'permission denied to ingest a model',
            HINT = 'Only roles with privileges of pg_read_server_files may read files of the server.';
    END IF;
    PERFORM hart.drop_dead_ingests();
    SELECT r.state, r.backend_pid INTO other FROM hart.model_registry r WHERE r.name = begin_ingest.name;
    IF other.state = 'ready' THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('model "%s" already exists', name),
            HINT = 'CALL hart.drop_model first, or give the new one another name.';
    ELSIF other.state = 'ingesting' THEN
        RAISE EXCEPTION USING ERRCODE = 'object_in_use',
            MESSAGE = format('model "%s" is being ingested by process %s', name, other.backend_pid),
            HINT = 'Watch hart.ingest_progress, or give the new one another name.';
    END IF;

    -- the key of the lock is no secret: pass over numbers that somebody holds
    LOOP
        model_id := nextval('hart.model_id_seq');
        EXIT WHEN pg_try_advisory_lock(hart.ingest_lock_class(), model_id);
    END LOOP;
    tiles := format('hart.tiles_%s', model_id);
    BEGIN
        INSERT INTO hart.model_registry (model_id, name, state, architecture, dim, hidden_dim, n_layers, n_heads, n_kv_heads, head_dim, vocab_size,
                                         max_positions, rms_norm_eps, rope_inv_freq, tied_embeddings, eos_token_ids, parameters, source_bytes, path,
                                         backend_pid, tensors_total, bytes_total)
        SELECT begin_ingest.model_id, begin_ingest.name, 'ingesting', s.architecture, s.dim, s.hidden_dim, s.n_layers, s.n_heads, s.n_kv_heads, s.head_dim, s.vocab_size,
               s.max_positions, s.rms_norm_eps, s.rope_inv_freq, s.tied_embeddings, s.eos_token_ids, s.parameters, s.source_bytes, s.path,
               pg_backend_pid(), jsonb_array_length(spec->'tensors'),
               (SELECT sum((t->>'bytes')::bigint) FROM jsonb_array_elements(spec->'tensors') AS t)
        FROM jsonb_to_record(spec) AS s (architecture text, dim integer, hidden_dim integer, n_layers integer, n_heads integer, n_kv_heads integer,
                                         head_dim integer, vocab_size integer, max_positions integer, rms_norm_eps float8, rope_inv_freq real[],
                                         tied_embeddings boolean, eos_token_ids integer[], parameters bigint, source_bytes bigint, path text)
        ON CONFLICT ON CONSTRAINT model_registry_name_key DO NOTHING;
        IF NOT FOUND THEN
            RAISE EXCEPTION USING ERRCODE = 'object_in_use', MESSAGE = format('model "%s" is being ingested by another session', name),
                HINT = 'Watch hart.ingest_progress, or give the new one another name.';
        END IF;
        INSERT INTO hart.tensors (model_id, tensor_id, name, shape, dtype, bytes, n_tiles, file, file_offset)
        SELECT begin_ingest.model_id, t.tensor_id, t.name, t.shape, t.dtype, t.bytes, t.n_tiles, t.file, t.file_offset
        FROM jsonb_to_recordset(spec->'tensors') AS t (tensor_id integer, name text, shape integer[], dtype text, bytes bigint, n_tiles integer,
                                                       file text, file_offset bigint);
        -- not yet a partition: a model on its way in is not seen through hart.tiles, and the lock on hart.tiles is short
        EXECUTE format('CREATE TABLE %s (LIKE hart.tiles INCLUDING STORAGE, CHECK (model_id = %s)) USING heap', tiles, model_id);
        EXECUTE format('COMMENT ON TABLE %s IS %L', tiles, format('weights of model %s', name));
        EXECUTE format('ALTER TABLE %s OWNER TO %s', tiles, caller);
    EXCEPTION WHEN OTHERS THEN
        PERFORM pg_advisory_unlock(hart.ingest_lock_class(), model_id);
        RAISE;
    END;
END $$;
COMMENT ON FUNCTION hart.begin_ingest(regrole, text, jsonb) IS 'hart.begin_ingest for the role that called it';
REVOKE EXECUTE ON FUNCTION hart.begin_ingest(regrole, text, jsonb) FROM PUBLIC;
CREATE FUNCTION hart.begin_ingest(name text, spec jsonb, OUT model_id integer, OUT tiles text) RETURNS record
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'hart_call_as_owner';
COMMENT ON FUNCTION hart.begin_ingest(text, jsonb) IS 'enter a model that is about to be ingested, with its tensors, and make the table for its tiles';

CREATE FUNCTION hart.check_own_ingest(model_id integer, caller regrole) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM hart.model_registry r
    WHERE r.model_id = check_own_ingest.model_id AND r.state = 'ingesting' AND r.backend_pid = pg_backend_pid()
      AND pg_has_role(caller, (SELECT c.relowner FROM pg_class c WHERE c.oid = hart.tiles_of(r.model_id)), 'USAGE');
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('this session is not ingesting model number %s', model_id),
            HINT = 'CALL hart.ingest_model.';
    END IF;
END $$;
COMMENT ON FUNCTION hart.check_own_ingest(integer, regrole) IS 'error unless this session is ingesting the model, for this role';

CREATE FUNCTION hart.add_model_file(caller regrole, model_id integer, name text, content bytea, size bigint, sha256 bytea, is_checkpoint boolean) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM hart.check_own_ingest(model_id, caller);
    INSERT INTO hart.model_files VALUES (model_id, name, content, size, sha256, is_checkpoint);
END $$;
COMMENT ON FUNCTION hart.add_model_file(regrole, integer, text, bytea, bigint, bytea, boolean) IS 'hart.add_model_file for the role that called it';
REVOKE EXECUTE ON FUNCTION hart.add_model_file(regrole, integer, text, bytea, bigint, bytea, boolean) FROM PUBLIC;
CREATE FUNCTION hart.add_model_file(model_id integer, name text, content bytea, size bigint, sha256 bytea, is_checkpoint boolean) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'hart_call_as_owner';
COMMENT ON FUNCTION hart.add_model_file(integer, text, bytea, bigint, bytea, boolean) IS 'keep a file of the model that this session is ingesting';

CREATE FUNCTION hart.note_progress(caller regrole, model_id integer, tensors_done integer, bytes_done bigint, current_tensor text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM hart.check_own_ingest(model_id, caller);
    UPDATE hart.model_registry r
    SET tensors_done = note_progress.tensors_done, bytes_done = note_progress.bytes_done,
        current_tensor = note_progress.current_tensor, updated_at = clock_timestamp()
    WHERE r.model_id = note_progress.model_id;
END $$;
COMMENT ON FUNCTION hart.note_progress(regrole, integer, integer, bigint, text) IS 'hart.note_progress for the role that called it';
REVOKE EXECUTE ON FUNCTION hart.note_progress(regrole, integer, integer, bigint, text) FROM PUBLIC;
CREATE FUNCTION hart.note_progress(model_id integer, tensors_done integer, bytes_done bigint, current_tensor text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'hart_call_as_owner';
COMMENT ON FUNCTION hart.note_progress(integer, integer, bigint, text) IS 'record how far the ingestion of this session is, for hart.ingest_progress';

CREATE FUNCTION hart.finish_ingest(caller regrole, model_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM hart.check_own_ingest(model_id, caller);
    PERFORM hart.add_neurons(model_id);
    EXECUTE format('ALTER TABLE hart.tiles_%1$s ADD PRIMARY KEY (model_id, tensor_id, tile_no)', model_id);
    EXECUTE format('ALTER TABLE hart.tiles ATTACH PARTITION hart.tiles_%1$s FOR VALUES IN (%1$s)', model_id);
    UPDATE hart.model_registry r
    SET state = 'ready', ready_at = clock_timestamp(), updated_at = clock_timestamp(), backend_pid = NULL,
        current_tensor = NULL, tensors_done = r.tensors_total, bytes_done = r.bytes_total
    WHERE r.model_id = finish_ingest.model_id;
    PERFORM pg_advisory_unlock(hart.ingest_lock_class(), model_id);
END $$;
COMMENT ON FUNCTION hart.finish_ingest(regrole, integer) IS 'hart.finish_ingest for the role that called it';
REVOKE EXECUTE ON FUNCTION hart.finish_ingest(regrole, integer) FROM PUBLIC;
CREATE FUNCTION hart.finish_ingest(model_id integer) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'hart_call_as_owner';
COMMENT ON FUNCTION hart.finish_ingest(integer) IS 'index and attach the tiles of the model that this session is ingesting, and make it ready';

CREATE FUNCTION hart.abort_ingest(caller regrole, model_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM hart.check_own_ingest(model_id, caller);
    PERFORM hart.drop_positions(model_id);
    EXECUTE format('DROP TABLE IF EXISTS hart.tiles_%s', model_id);
    PERFORM hart.forget_model(model_id);
    PERFORM pg_advisory_unlock(hart.ingest_lock_class(), model_id);
END $$;
COMMENT ON FUNCTION hart.abort_ingest(regrole, integer) IS 'hart.abort_ingest for the role that called it';
REVOKE EXECUTE ON FUNCTION hart.abort_ingest(regrole, integer) FROM PUBLIC;
CREATE FUNCTION hart.abort_ingest(model_id integer) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'hart_call_as_owner';
COMMENT ON FUNCTION hart.abort_ingest(integer) IS 'drop everything of the model that this session is ingesting';

CREATE PROCEDURE hart.drop_model(name text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    dropped integer;
BEGIN
    IF name IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'model name must not be null',
            HINT = 'Name the model to drop.';
    END IF;
    SELECT r.model_id INTO dropped FROM hart.model_registry r WHERE r.name = drop_model.name AND r.state = 'ready';
    IF dropped IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('model "%s" does not exist', name),
            HINT = 'SELECT name FROM hart.models lists the models.';
    END IF;
    -- with the rights of the caller: who owns the tiles may drop the model
    PERFORM hart.drop_positions(dropped);
    EXECUTE format('DROP TABLE IF EXISTS hart.tiles_%s', dropped);
    PERFORM hart.forget_model(dropped);
END $$;
COMMENT ON PROCEDURE hart.drop_model(text) IS 'drop a model with everything of it; its owner may';
