-- Beam search, step by step what transformers does (generation/utils.py, _beam_search), for one prompt.

CREATE TYPE hart.early_stopping AS ENUM ('false', 'true', 'never');
COMMENT ON TYPE hart.early_stopping IS 'when beam search ends: true: with num_beams finished texts; false: when the best open one is unlikely to become better; never: when it cannot';

CREATE FUNCTION hart.early_stopping(boolean) RETURNS hart.early_stopping
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE WHEN $1 THEN 'true'::hart.early_stopping ELSE 'false'::hart.early_stopping END;
COMMENT ON FUNCTION hart.early_stopping(boolean) IS 'cast: true and false are written without quotes too';
CREATE CAST (boolean AS hart.early_stopping) WITH FUNCTION hart.early_stopping(boolean) AS IMPLICIT;
COMMENT ON CAST (boolean AS hart.early_stopping) IS 'true and false are written without quotes too';

CREATE TYPE hart.beam AS (tokens integer[], score float8);
COMMENT ON TYPE hart.beam IS 'tokens that continue a prompt and their score: the sum of log-probabilities while open, divided by a power of the length when finished';

CREATE FUNCTION hart.check_beams(max_tokens integer, num_beams integer, length_penalty float8, num_return_sequences integer, early_stopping hart.early_stopping, vocab_size integer, n_eos integer) RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wrong record;
BEGIN
    SELECT * INTO wrong
    FROM (VALUES ('max_tokens', max_tokens >= 1, 'at least 1', max_tokens::text, 'Ask for one token or more.'),
                 ('num_beams', num_beams >= 1, 'at least 1', num_beams::text, 'It is the number of texts that are followed at a time; 1 means greedy decoding.'),
                 ('length_penalty', length_penalty BETWEEN -30 AND 30, 'from -30 to 30', length_penalty::text, 'Above 0 prefers longer texts, below 0 shorter ones.'),
                 ('num_return_sequences', num_return_sequences >= 1, 'at least 1', num_return_sequences::text, 'Ask for one text or more.'),
                 ('num_return_sequences', num_return_sequences <= num_beams, format('at most num_beams, which is %s', num_beams), num_return_sequences::text, 'Use more beams, or ask for fewer texts.'),
                 ('early_stopping', early_stopping IS NOT NULL, 'true, false or never', NULL, 'Use false for the default.')
         ) AS option (name, is_right, range, given, hint)
    WHERE is_right IS NOT TRUE
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('%s must be %s, not %s', wrong.name, wrong.range, coalesce(wrong.given, 'null')), HINT = wrong.hint;
    ELSIF num_beams::bigint * greatest(2, 1 + n_eos) > vocab_size THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = format('%s beams are too many for a vocabulary of %s tokens', num_beams, vocab_size),
            HINT = format('Use at most %s.', vocab_size / greatest(2, 1 + n_eos));
    END IF;
END $$;
COMMENT ON FUNCTION hart.check_beams(integer, integer, float8, integer, hart.early_stopping, integer, integer) IS 'error unless these are options of a beam search, for a vocabulary of that size with so many end-of-text tokens';

CREATE FUNCTION hart.extend_beams(ctx hart.context, beams hart.beam[], parents integer[], old_base integer, new_base integer, pos integer) RETURNS hart.matrix
LANGUAGE plpgsql VOLATILE STRICT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    sequences CONSTANT integer[] := ARRAY(SELECT new_base + i FROM generate_series(0, cardinality(beams) - 1) AS i);
    last_tokens CONSTANT integer[] := ARRAY(SELECT b.tokens[cardinality(b.tokens)] FROM unnest(beams) WITH ORDINALITY AS b (tokens, score, no) ORDER BY no);
BEGIN
    FOR i IN 1 .. cardinality(beams) LOOP
        PERFORM hart.fork_sequence(ctx, old_base + parents[i], sequences[i], pos);
    END LOOP;
    RETURN hart.forward_batch(ctx, last_tokens, sequences, array_fill(pos, ARRAY[cardinality(beams)]));
END $$;
COMMENT ON FUNCTION hart.extend_beams(hart.context, hart.beam[], integer[], integer, integer, integer) IS
    'run the last token of each beam at position pos, in sequences new_base on that are forks of those of its parents, old_base on; (beams, vocab_size) logits';

CREATE FUNCTION hart.best_beams(beams hart.beam[], n integer) RETURNS hart.beam[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ARRAY(SELECT ROW(b.tokens, b.score)::hart.beam FROM unnest(beams) WITH ORDINALITY AS b (tokens, score, no) ORDER BY b.score DESC, no LIMIT n);
COMMENT ON FUNCTION hart.best_beams(hart.beam[], integer) IS 'the n beams with the best scores, best first';

CREATE FUNCTION hart.beam_search_tokens(prompt integer[], max_tokens integer DEFAULT 64, num_beams integer DEFAULT 4, length_penalty float8 DEFAULT 1,
                                        num_return_sequences integer DEFAULT 1, early_stopping hart.early_stopping DEFAULT 'false', model text DEFAULT NULL)
RETURNS TABLE (rank integer, tokens integer[], score float8)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED COST 10000 ROWS 1 SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ctx hart.context := hart.open_context(model);
    eos integer[];
    vocab_size integer;
    n_prompt CONSTANT integer := cardinality(prompt);
    max_new integer;
    n_new integer := 0;
    running hart.beam[] := ARRAY[ROW('{}', 0)::hart.beam];
    parents integer[];
    finished hart.beam[] := '{}';
    logits hart.matrix;
    candidates hart.beam[];
    base integer := 0;
    found record;
BEGIN
    SELECT r.eos_token_ids, r.vocab_size INTO eos, vocab_size FROM hart.model_registry r WHERE r.model_id = hart.resolve_model(model);
    PERFORM hart.check_beams(max_tokens, num_beams, length_penalty, num_return_sequences, early_stopping, vocab_size, cardinality(eos));
    PERFORM hart.check_prompt(prompt, hart.max_positions(ctx));
    max_new := least(max_tokens, hart.max_positions(ctx) - n_prompt + 1);

    logits := hart.prefill(ctx, prompt);
    LOOP
        candidates := '{}';
        parents := '{}';
        -- so many that num_beams are left to go on when the best of them end
        FOR found IN SELECT c.row_no, c.token_id, c.score, c.no
                     FROM hart.top_continuations(logits, ARRAY(SELECT b.score FROM unnest(running) WITH ORDINALITY AS b (tokens, score, no) ORDER BY no),
                                                 greatest(2, 1 + cardinality(eos)) * num_beams) WITH ORDINALITY AS c (row_no, token_id, score, no) LOOP
            IF found.token_id = ANY (eos) OR n_new + 1 = max_new THEN
                -- of those that end, only the best count
                IF found.no <= num_beams THEN
                    finished := finished || ROW(running[found.row_no].tokens || found.token_id, found.score / power(n_new + 1, length_penalty))::hart.beam;
                END IF;
            ELSIF cardinality(candidates) < num_beams THEN
                candidates := candidates || ROW(running[found.row_no].tokens || found.token_id, found.score)::hart.beam;
                parents := parents || found.row_no - 1;
            END IF;
        END LOOP;
        finished := hart.best_beams(finished, num_beams);
        running := candidates;
        n_new := n_new + 1;

        EXIT WHEN n_new = max_new OR cardinality(running) = 0;
        EXIT WHEN cardinality(finished) = num_beams
              AND (early_stopping = 'true' OR num_beams = 1
                   -- no length is sure to be the best for an open text: transformers guesses this one
                   OR running[1].score / power(CASE WHEN early_stopping = 'never' AND length_penalty > 0 THEN max_new ELSE n_new END, length_penalty) <= finished[num_beams].score);
        logits := hart.extend_beams(ctx, running, parents, base, num_beams - base, n_prompt + n_new - 1);
        base := num_beams - base;
    END LOOP;
    PERFORM hart.close_context(ctx);
    RETURN QUERY SELECT b.no::integer, b.tokens, b.score FROM unnest(finished) WITH ORDINALITY AS b (tokens, score, no) WHERE no <= num_return_sequences ORDER BY no;
END $$;
COMMENT ON FUNCTION hart.beam_search_tokens(integer[], integer, integer, float8, integer, hart.early_stopping, text) IS
    'hart.beam_search in token ids; the end-of-text token that ended a text is included';

CREATE FUNCTION hart.beam_search(prompt text, max_tokens integer DEFAULT 64, num_beams integer DEFAULT 4, length_penalty float8 DEFAULT 1,
                                 num_return_sequences integer DEFAULT 1, early_stopping hart.early_stopping DEFAULT 'false', model text DEFAULT NULL)
RETURNS TABLE (rank integer, text text, score float8, tokens integer[])
LANGUAGE plpgsql STABLE PARALLEL UNSAFE COST 10000 ROWS 1 SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    prompt_tokens CONSTANT integer[] := hart.tokenize(prompt, model);
BEGIN
    RETURN QUERY
    SELECT b.rank, hart.detokenize_continuation(prompt_tokens, b.tokens, model), b.score, b.tokens
    FROM hart.beam_search_tokens(prompt_tokens, max_tokens, num_beams, length_penalty, num_return_sequences, early_stopping, model) AS b;
END $$;
COMMENT ON FUNCTION hart.beam_search(text, integer, integer, float8, integer, hart.early_stopping, text) IS
    'the likeliest continuations of a prompt as wholes, as far as num_beams of them followed side by side find them; best first, with score: sum of log-probabilities / length ^ length_penalty';
