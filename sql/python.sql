-- Everything that runs in PL/Python. Bodies are one-liners: the code is the package hartonomous_server
-- (plpython/hartonomous_server), loaded once per session.

CREATE FUNCTION hart.load_python() RETURNS void
LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
import sys
path = plpy.execute('SELECT hart.python_path() AS path')[0]['path']
if path not in sys.path:
    sys.path.insert(0, path)
try:
    import hartonomous_server
except ImportError as problem:
    plpy.error('Python package hartonomous_server cannot be loaded', sqlstate='58P01',
               detail='%s (looked in %s)' % (problem, path),
               hint='Run "make install" of hartonomous for this server again.')
hartonomous_server.load(plpy, GD)
$$;
COMMENT ON FUNCTION hart.load_python() IS
'make the extension''s Python package and its requirements usable in this session; an error says what is missing';

-- Tokens ------------------------------------------------------------------------------------------
-- What hart.tokenize and its like (sql/tokenize.sql) call when a model's tokenizer, or a text, is not for them.

CREATE FUNCTION hart.library_tokenize(text text, model text DEFAULT NULL, add_special_tokens bool DEFAULT true) RETURNS int[]
LANGUAGE plpython3u STABLE SET search_path = pg_catalog, pg_temp AS $$
if 'hartonomous' not in GD: plpy.execute('SELECT hart.load_python()')
from hartonomous_server import tokens
return tokens.encode(plpy, GD, text, model, add_special_tokens)
$$;
COMMENT ON FUNCTION hart.library_tokenize(text, text, bool) IS
'hart.tokenize by the library, whatever kind of tokenizer the model has';

CREATE FUNCTION hart.library_detokenize(tokens int[], model text DEFAULT NULL) RETURNS text
LANGUAGE plpython3u STABLE SET search_path = pg_catalog, pg_temp AS $$
if 'hartonomous' not in GD: plpy.execute('SELECT hart.load_python()')
from hartonomous_server import tokens as package
return package.decode(plpy, GD, tokens, model)
$$;
COMMENT ON FUNCTION hart.library_detokenize(int[], text) IS
'hart.detokenize by the library';

CREATE FUNCTION hart.library_detokenize_continuation(prompt int[], continuation int[], model text DEFAULT NULL) RETURNS text
LANGUAGE plpython3u STABLE SET search_path = pg_catalog, pg_temp AS $$
if 'hartonomous' not in GD: plpy.execute('SELECT hart.load_python()')
from hartonomous_server import tokens
return tokens.continuation(plpy, GD, prompt, continuation, model)
$$;
COMMENT ON FUNCTION hart.library_detokenize_continuation(int[], int[], text) IS
'hart.detokenize_continuation by the library';

CREATE FUNCTION hart.library_token_texts(tokens int[], model text DEFAULT NULL) RETURNS text[]
LANGUAGE plpython3u STABLE SET search_path = pg_catalog, pg_temp AS $$
if 'hartonomous' not in GD: plpy.execute('SELECT hart.load_python()')
from hartonomous_server import tokens as package
return package.token_texts(plpy, GD, tokens, model)
$$;
COMMENT ON FUNCTION hart.library_token_texts(int[], text) IS
'hart.token_texts by the library';

CREATE TYPE hart.text_piece AS (piece text, stopped boolean, held text, tokenizer text, "window" integer[], shown text, pending integer, partial bytea);
COMMENT ON TYPE hart.text_piece IS 'a piece of a text that grows by tokens, and what is needed for the next piece';

CREATE FUNCTION hart.library_begin_pieces(prompt int[], model text DEFAULT NULL) RETURNS hart.text_piece
LANGUAGE plpython3u STABLE SET search_path = pg_catalog, pg_temp AS $$
if 'hartonomous' not in GD: plpy.execute('SELECT hart.load_python()')
from hartonomous_server import tokens
return tokens.begin_pieces(plpy, GD, prompt, model)
$$;
COMMENT ON FUNCTION hart.library_begin_pieces(int[], text) IS
'hart.begin_pieces by the library';

CREATE FUNCTION hart.library_next_piece(text hart.text_piece, token int, stop text[], ends boolean) RETURNS hart.text_piece
LANGUAGE plpython3u STABLE SET search_path = pg_catalog, pg_temp AS $$
if 'hartonomous' not in GD: plpy.execute('SELECT hart.load_python()')
from hartonomous_server import tokens
return tokens.next_piece(plpy, GD, text, token, stop, ends)
$$;
COMMENT ON FUNCTION hart.library_next_piece(hart.text_piece, int, text[], boolean) IS
'hart.next_piece by the library, after hart.library_begin_pieces';

-- Models in and out -------------------------------------------------------------------------------

CREATE PROCEDURE hart.ingest_model(path text, name text DEFAULT NULL)
LANGUAGE plpython3u AS $$
if 'hartonomous' not in GD: plpy.execute('SELECT hart.load_python()')
from hartonomous_server import ingest
ingest.ingest_model(plpy, GD, path, name)
$$;
COMMENT ON PROCEDURE hart.ingest_model(text, text) IS
'read a model (config.json, tokenizer.json, safetensors) from a directory on the server into tables; commits as it goes';

CREATE PROCEDURE hart.export_model(name text, path text)
LANGUAGE plpython3u SET search_path = pg_catalog, pg_temp AS $$
if 'hartonomous' not in GD: plpy.execute('SELECT hart.load_python()')
from hartonomous_server import export
export.export_model(plpy, GD, name, path)
$$;
COMMENT ON PROCEDURE hart.export_model(text, text) IS
'write a model''s files to a directory on the server, bit for bit as they were ingested';

-- Matrices as numpy arrays ------------------------------------------------------------------------

CREATE FUNCTION hart.matrix_to_numpy(internal) RETURNS internal
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE AS '$libdir/hartonomous_plpython', 'hart_matrix_to_numpy';
COMMENT ON FUNCTION hart.matrix_to_numpy(internal) IS 'FROM SQL side of the transform of hart.matrix for plpython3u';

CREATE FUNCTION hart.numpy_to_matrix(internal) RETURNS hart.matrix
LANGUAGE C STRICT IMMUTABLE PARALLEL SAFE AS '$libdir/hartonomous_plpython', 'hart_numpy_to_matrix';
COMMENT ON FUNCTION hart.numpy_to_matrix(internal) IS 'TO SQL side of the transform of hart.matrix for plpython3u';

CREATE TRANSFORM FOR hart.matrix LANGUAGE plpython3u (
    FROM SQL WITH FUNCTION hart.matrix_to_numpy(internal),
    TO SQL WITH FUNCTION hart.numpy_to_matrix(internal)
);
COMMENT ON TRANSFORM FOR hart.matrix LANGUAGE plpython3u IS
'hart.matrix is a numpy float32 array of shape (rows, columns)';

CREATE FUNCTION hart.softmax(x hart.matrix, temperature float8 DEFAULT 1) RETURNS hart.matrix
TRANSFORM FOR TYPE hart.matrix
LANGUAGE plpython3u STRICT IMMUTABLE PARALLEL SAFE AS $$
from hartonomous_server import softmax    # converting x has made the package loadable
return softmax.softmax(plpy, x, temperature)
$$;
COMMENT ON FUNCTION hart.softmax(hart.matrix, float8) IS
'each row as probabilities: exp(x / temperature), divided by its sum';

CREATE FUNCTION hart.decompose_tensor(model text, tensor text, rank int,
                                      OUT u hart.matrix, OUT s hart.matrix, OUT v hart.matrix,
                                      OUT relative_error float8)
TRANSFORM FOR TYPE hart.matrix
LANGUAGE plpython3u STABLE SET search_path = pg_catalog, pg_temp AS $$
if 'hartonomous' not in GD: plpy.execute('SELECT hart.load_python()')
from hartonomous_server import svd
return svd.decompose_tensor(plpy, GD, model, tensor, rank)
$$;
COMMENT ON FUNCTION hart.decompose_tensor(text, text, int) IS
'best approximation u · diag(s) · transpose(v) of that rank of a weight matrix, with its relative Frobenius error';
