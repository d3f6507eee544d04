-- The library.

CREATE FUNCTION hart.library_version() RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_library_version';
COMMENT ON FUNCTION hart.library_version() IS 'version of the loaded shared library; functions refuse to run when it is not the version of the extension';

CREATE FUNCTION hart.python_path() RETURNS text
LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_python_path';
COMMENT ON FUNCTION hart.python_path() IS 'folder of this server that holds the Python packages of the extension';

-- From here to the end of the script functions are for everybody who may use the schema; what they touch is protected by the tables' privileges.
GRANT USAGE ON SCHEMA hart TO PUBLIC;
COMMENT ON SCHEMA hart IS 'Hartonomous: language models as rows';
