-- What a model makes of a text: how likely each of its tokens is, which tokens may follow, what it is about.

CREATE FUNCTION hart.token_texts(tokens int[], model text DEFAULT NULL) RETURNS text[]
LANGUAGE plpython3u STABLE AS $$
if 'hartonomous' not in GD: plpy.execute('SELECT hart.load_python()')
from hartonomous_server import tokens as package
return package.token_texts(plpy, GD, tokens, model)
$$;
COMMENT ON FUNCTION hart.token_texts(int[], text) IS
'text of each token, as it follows the one before; special tokens by their names, U+FFFD for a part of a character';
