-- Cosines with the rows of a model's embedding, straight from the tiles.

CREATE FUNCTION hart.embedding_row(model_id integer, token_id integer) RETURNS real[]
LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_embedding_row_sql';
COMMENT ON FUNCTION hart.embedding_row(integer, integer) IS 'embedding of a token, read from the tiles that it lies in';

CREATE FUNCTION hart.row_cosines(model_id integer, vector real[], token_ids integer[]) RETURNS real[]
LANGUAGE c STABLE STRICT PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'hart_row_cosines';
COMMENT ON FUNCTION hart.row_cosines(integer, real[], integer[]) IS 'cosine of a vector with the embedding of each of some tokens, read from the tiles that they lie in; NULL where an embedding has no direction';

CREATE FUNCTION hart.nearest_among(model_id integer, vector real[], token_ids integer[], k integer, OUT ids integer[], OUT cosines real[])
LANGUAGE c STABLE STRICT PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'hart_nearest_among';
COMMENT ON FUNCTION hart.nearest_among(integer, real[], integer[], integer) IS 'the k of some tokens whose embeddings have the largest cosine with a vector, nearest first, the earlier in the array among equals; those that have no direction are left out';

CREATE FUNCTION hart.nearest_rows(model_id integer, vector real[], k integer, OUT token_id integer, OUT cosine real) RETURNS SETOF record
LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 100000 ROWS 10 AS 'MODULE_PATHNAME', 'hart_nearest_rows';
COMMENT ON FUNCTION hart.nearest_rows(integer, real[], integer) IS 'the k rows of the embedding with the largest cosine with a vector, by a pass over all of them; the lower id first among equals';

CREATE FUNCTION hart.neighbor_rank(model_id integer, token_id integer, neighbor integer) RETURNS integer
LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 100000 AS 'MODULE_PATHNAME', 'hart_neighbor_rank';
COMMENT ON FUNCTION hart.neighbor_rank(integer, integer, integer) IS 'place of one token among the nearest of another, 1 for the nearest, by a pass over all embeddings';

CREATE FUNCTION hart.neighbor_graph(model_id integer, token_ids integer[], skip integer[], k integer) RETURNS bytea
LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 10000 AS 'MODULE_PATHNAME', 'hart_neighbor_graph';
COMMENT ON FUNCTION hart.neighbor_graph(integer, integer[], integer[], integer) IS
    'the k nearest others of each of some tokens, none of them in skip: all ids as int32, -1 where there are no more, then all cosines as float32';
