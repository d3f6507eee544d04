-- Positions that follow the weights.

CREATE FUNCTION hart.reproject_tokens(model_id integer, token_ids integer[] DEFAULT NULL) RETURNS integer
LANGUAGE plpython3u VOLATILE SET search_path = pg_catalog, pg_temp AS $$
if 'hartonomous' not in GD: plpy.execute('SELECT hart.load_python()')
from hartonomous_server import positions
return positions.reproject(plpy, GD, model_id, token_ids)
$$;
COMMENT ON FUNCTION hart.reproject_tokens(integer, integer[]) IS
'compute the positions in chart 0 of tokens anew after their embeddings were changed otherwise than by moving them, NULL for all tokens; returns how many positions changed';
