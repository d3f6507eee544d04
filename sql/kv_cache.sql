-- Memory of keys and values: what a run will take, and what the session has. The setting hart.kv_cache_limit bounds it.

CREATE FUNCTION hart.kv_cache_bytes(positions integer, model text DEFAULT NULL) RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (SELECT (greatest(positions, 0)::bigint + 127) / 128 * 128 * 2 * 4 * n_kv_heads * head_dim * n_layers
        FROM hart.model_registry WHERE model_id = hart.resolve_model(model) AND positions IS NOT NULL);
COMMENT ON FUNCTION hart.kv_cache_bytes(integer, text) IS 'memory that the keys and values of so many positions of one sequence take, in blocks of 128';

CREATE FUNCTION hart.kv_cache_stats(OUT bytes bigint, OUT remembered_bytes bigint, OUT limit_bytes bigint)
LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'hart_kv_cache_stats';
COMMENT ON FUNCTION hart.kv_cache_stats() IS
    'memory that this session has for keys and values, shared blocks counted once: of all runs and remembered prompts, of the prompts alone, and the most it may be (hart.kv_cache_limit)';
