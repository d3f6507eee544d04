-- What an error says, and the test that every error of the extension must pass.

CREATE FUNCTION pg_temp.error_of(statement text, OUT code text, OUT message text, OUT detail text, OUT hint text)
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
                            detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
END $$;

-- The statement ends with this SQLSTATE, a message of one line and a hint.
CREATE FUNCTION pg_temp.refused(statement text, expected text, description text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    error record := pg_temp.error_of(statement);
    what text := coalesce(description, statement);
BEGIN
    IF error.code IS NULL THEN
        RETURN ok(false, what) || E'\n' || diag('no error, expected ' || expected);
    ELSIF error.code <> expected THEN
        RETURN ok(false, what) || E'\n' || diag(format('%s instead of %s: %s', error.code, expected, error.message));
    ELSIF error.hint !~ '^[A-Z]\S* .' OR error.message ~ E'[\n\r]' OR error.message = '' THEN
        RETURN ok(false, what) || E'\n' || diag(format('message: %s; hint: %s', error.message, error.hint));
    END IF;
    RETURN ok(true, what);
END $$;
