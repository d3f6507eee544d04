-- The sets of kernels that this processor has, the reference first.

CREATE FUNCTION pg_temp.kernels() RETURNS SETOF text
LANGUAGE plpgsql AS $$
DECLARE
    before text := current_setting('hart.kernel');
    kernel text;
BEGIN
    FOREACH kernel IN ARRAY ARRAY['portable', 'avx2', 'avx512', 'amx'] LOOP
        BEGIN
            PERFORM set_config('hart.kernel', kernel, false);
            RETURN NEXT kernel;
        EXCEPTION WHEN invalid_parameter_value THEN
            NULL;
        END;
    END LOOP;
    PERFORM set_config('hart.kernel', before, false);
END $$;

-- The value of an expression under a kernel and a number of threads.
CREATE FUNCTION pg_temp.computed(expression text, kernel text, threads int) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    PERFORM set_config('hart.kernel', kernel, true), set_config('hart.threads', threads::text, true);
    EXECUTE format('SELECT (%s)::text', expression) INTO result;
    PERFORM set_config('hart.kernel', 'auto', true), set_config('hart.threads', '0', true);
    RETURN result;
END $$;
