-- Keys and values of prompts that the session has run, for later prompts that begin alike. They are found only under the same
-- weights, kernels and role, so the answer is the same with and without.

CREATE FUNCTION hart.keep_prefix(ctx hart.context, tokens integer[]) RETURNS integer
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'hart_keep_prefix';
COMMENT ON FUNCTION hart.keep_prefix(hart.context, integer[]) IS
    'remember the keys and values of the first positions of sequence 0, which must be those of these tokens; how many were kept: as many as hart.prefix_cache has room for';
CREATE FUNCTION hart.restore_prefix(ctx hart.context, tokens integer[]) RETURNS integer
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'hart_restore_prefix';
COMMENT ON FUNCTION hart.restore_prefix(hart.context, integer[]) IS
    'make sequence 0 the longest beginning of these tokens that the session remembers, the last token excepted; how many positions it has now: hart.forward goes on from there';
CREATE FUNCTION hart.prefix_cache_stats(OUT prompts integer, OUT positions bigint, OUT bytes bigint, OUT hits bigint, OUT misses bigint)
LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'hart_prefix_cache_stats';
COMMENT ON FUNCTION hart.prefix_cache_stats() IS 'what this session remembers of its prompts: how many, their positions and bytes, how often one was of use and how often none was';
