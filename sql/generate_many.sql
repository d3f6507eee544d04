-- Many continuations at a time: the weights are read once for a token of each.

CREATE FUNCTION hart.generate_many(
    prompts text[], max_tokens integer DEFAULT 64, model text DEFAULT NULL,
    temperature float8 DEFAULT 0, top_k integer DEFAULT 0, top_p float8 DEFAULT 1, min_p float8 DEFAULT 0, typical_p float8 DEFAULT 1,
    repetition_penalty float8 DEFAULT 1, presence_penalty float8 DEFAULT 0, frequency_penalty float8 DEFAULT 0, logit_bias jsonb DEFAULT NULL, seed bigint DEFAULT NULL,
    min_tokens integer DEFAULT 0, stop text[] DEFAULT NULL, stop_tokens integer[] DEFAULT NULL, choices text[] DEFAULT NULL, regex text DEFAULT NULL, json_schema jsonb DEFAULT NULL, grammar text DEFAULT NULL,
    n integer DEFAULT 1)
RETURNS TABLE (prompt_no integer, sequence integer, text text, tokens integer[], logprob float8, finish_reason text)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE COST 10000 ROWS 10 SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    options CONSTANT hart.generation_options := hart.generation_options(max_tokens, temperature, top_k, top_p, min_p, typical_p, repetition_penalty, presence_penalty, frequency_penalty,
                                                 logit_bias, seed, min_tokens, stop, stop_tokens, choices, regex, json_schema, grammar);
    -- generations at a time: more gain little speed and take memory
    width CONSTANT integer := 32;
    most CONSTANT integer := 1000;
    ctx hart.context;
    waiting hart.generation[];
    going hart.generation[] := '{}';
    sequences integer[] := '{}';            -- in the run, of those going: the row of the result
    taking hart.generation[];
    taking_sequences integer[];
    begun integer := n;                     -- of the continuations of a prompt, whose own sequence is there until the last has begun
    first_logits hart.matrix;               -- of the prompts that were run together, from batch_first to batch_last
    batch_first integer := 1;
    batch_last integer := 0;
    prompt_sequence integer;
    row_of_logits integer;
    logits hart.matrix;
    g hart.generation;
    row_no integer;
    texts text[];
    logprobs float8[];
    finished hart.generation[];
BEGIN
    IF n IS NULL OR n < 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('n must be at least 1, not %s', coalesce(n::text, 'null')),
            HINT = 'It is the number of continuations of each prompt.';
    ELSIF n > most THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = format('n must be at most %s, not %s', most, n),
            HINT = 'Ask several times, with another seed each.';
    ELSIF prompts IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'prompts must not be null',
            HINT = 'Use coalesce where a query may find none: no prompts are ''{}''.';
    ELSIF array_ndims(prompts) > 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'prompts must be an array of one dimension',
            HINT = 'Pass the prompts in one row, as array_agg does.';
    END IF;
    prompts := prompts[:];
    ctx := hart.open_context(model);
    -- all prompts are looked at before the first is run
    FOR i IN 1 .. cardinality(prompts) LOOP
        waiting[i] := hart.new_generation(ctx, hart.tokenize(prompts[i], model), options, model, true, 0, coalesce(seed, hart.random_seed()), format('prompt %s', i));
    END LOOP;

    prompt_no := 0;
    LOOP
        IF cardinality(going) < width AND (begun < n OR prompt_no < cardinality(prompts)) THEN
            -- a prompt is run once for all its continuations, which begin as copies when there is room for them
            IF begun = n THEN
                prompt_no := prompt_no + 1;
                begun := 0;
                IF prompt_no > batch_last THEN
                    batch_first := prompt_no;
                    first_logits := hart.prefill_many(ctx, waiting, prompt_no, greatest((width - cardinality(going)) / n, 1), cardinality(prompts) * n + 1);
                    batch_last := prompt_no + hart.n_rows(first_logits) - 1;
                END IF;
                waiting[prompt_no] := hart.choose_for(waiting[prompt_no], choices, model);
            END IF;
            row_of_logits := prompt_no - batch_first + 1;
            prompt_sequence := cardinality(prompts) * n + row_of_logits;
            g := waiting[prompt_no];
            logits := first_logits;
            taking := '{}';
            taking_sequences := '{}';
            FOR i IN 1 .. least(n - begun, width - cardinality(going)) LOOP
                g.sequence := begun;
                begun := begun + 1;
                taking := taking || hart.constrain(g, model);
                row_no := (prompt_no - 1) * n + begun;
                taking_sequences := taking_sequences || row_no;
                PERFORM hart.fork_sequence(ctx, prompt_sequence, row_no, cardinality(g.prompt));
            END LOOP;
            IF begun = n THEN
                PERFORM hart.drop_sequence(ctx, prompt_sequence);
            END IF;
        ELSIF cardinality(going) > 0 THEN
            logits := hart.forward_batch(ctx, ARRAY(SELECT u.token_id FROM unnest(going) AS u), sequences,
                                         ARRAY(SELECT cardinality(u.prompt) + cardinality(u.tokens) - 1 FROM unnest(going) AS u));
            row_of_logits := NULL;
            taking := going;
            taking_sequences := sequences;
            going := '{}';
            sequences := '{}';
        ELSE
            EXIT;
        END IF;
        FOR i IN 1 .. cardinality(taking) LOOP
            g := hart.take_token(taking[i], logits, coalesce(row_of_logits, i));
            row_no := taking_sequences[i];
            texts[row_no] := coalesce(texts[row_no], '') || g.piece;
            logprobs[row_no] := coalesce(logprobs[row_no], 0) + g.logprob;
            IF g.finish_reason IS NULL THEN
                going := going || g;
                sequences := sequences || row_no;
            ELSE
                finished[row_no] := g;
                PERFORM hart.drop_sequence(ctx, row_no);
            END IF;
        END LOOP;
    END LOOP;
    PERFORM hart.close_context(ctx);

    FOR i IN 1 .. cardinality(prompts) * n LOOP
        g := finished[i];
        prompt_no := (i - 1) / n + 1;
        sequence := g.sequence + 1;
        text := texts[i];
        tokens := g.tokens;
        logprob := logprobs[i];
        finish_reason := g.finish_reason;
        RETURN NEXT;
    END LOOP;
END $$;
COMMENT ON FUNCTION hart.generate_many(text[], integer, text, float8, integer, float8, float8, float8, float8, float8, float8, jsonb, bigint, integer, text[], integer[], text[], text, jsonb, text, integer) IS
    'n continuations of each prompt, all made together, in the order of the prompts: what hart.generate gives for each with the same options; sequence counts the continuations of a prompt, logprob is the sum over the tokens';
