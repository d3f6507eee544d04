-- Constrained output: which tokens may come next, so that what is generated matches a regular expression, a JSON schema or
-- a grammar. A handle belongs to the session and to the transaction that opened it.

CREATE FUNCTION hart.open_constraint(model text DEFAULT NULL, regex text DEFAULT NULL, json_schema jsonb DEFAULT NULL, grammar text DEFAULT NULL,
                                     stop_tokens integer[] DEFAULT NULL)
RETURNS integer
LANGUAGE plpython3u VOLATILE SET search_path = pg_catalog, pg_temp AS $$
if 'hartonomous' not in GD: plpy.execute('SELECT hart.load_python()')
from hartonomous_server import constraints
return constraints.open_constraint(plpy, GD, model, regex, json_schema, grammar, stop_tokens)
$$;
COMMENT ON FUNCTION hart.open_constraint(text, text, jsonb, text, integer[]) IS
'handle of a constraint on text that the model generates: a regular expression, a JSON schema or a Lark grammar; NULL when none is given; stop_tokens end the text beside the model''s end-of-text tokens';

CREATE FUNCTION hart.constraint_mask(handle integer, tokens integer[], OUT mask bytea, OUT finished boolean)
LANGUAGE plpython3u VOLATILE SET search_path = pg_catalog, pg_temp AS $$
if 'hartonomous' not in GD: plpy.execute('SELECT hart.load_python()')
from hartonomous_server import constraints
return constraints.constraint_mask(plpy, GD, handle, tokens)
$$;
COMMENT ON FUNCTION hart.constraint_mask(integer, integer[]) IS
'after these tokens: a bit for each token of the vocabulary, set when it may come next (token 0 is the lowest bit of the first byte; end-of-text tokens where the text may end), and whether only the end can';

CREATE FUNCTION hart.close_constraint(handle integer) RETURNS void
LANGUAGE plpython3u VOLATILE SET search_path = pg_catalog, pg_temp AS $$
if 'hartonomous' not in GD: plpy.execute('SELECT hart.load_python()')
from hartonomous_server import constraints
constraints.close_constraint(plpy, GD, handle)
$$;
COMMENT ON FUNCTION hart.close_constraint(integer) IS
'forget a constraint; those that an error left open are forgotten after their transaction';
