-- The loop of all generating calls: one step makes one token.

CREATE TYPE hart.generation AS (
    ctx hart.context, options hart.generation_options, prompt integer[], eos integer[], ending integer[], seed bigint, sequence integer,
    constraint_handle integer, mask bytea, choice text, choice_tokens integer[],
    tokens integer[], token_id integer, logprob float8, piece text, finish_reason text, written hart.text_piece
);
COMMENT ON TYPE hart.generation IS 'a generation under way: its run and options, the tokens so far, and of the last one id, log-probability and piece of text; finish_reason is NULL while it goes on, then eos, stop, length or context';

CREATE FUNCTION hart.special_tokens(names text[], model text DEFAULT NULL) RETURNS integer[]
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- by the ids that the names have as atoms, the tie-breaker aside
    RETURN ARRAY(SELECT t.token_id FROM unnest(names) AS n (name), hart.atom_id('token', convert_to(n.name, 'UTF8')) AS wanted, hart.token_atoms t
                 WHERE t.model_id = hart.resolve_model(model) AND t.id BETWEEN wanted & ~4095::bigint AND wanted | 4095 AND t.special AND t.raw_value = convert_to(n.name, 'UTF8')
                 ORDER BY t.token_id);
END $$;
COMMENT ON FUNCTION hart.special_tokens(text[], text) IS 'ids of the special tokens of a model that have these names';

CREATE FUNCTION hart.new_generation(ctx hart.context, prompt integer[], options hart.generation_options, model text, with_text boolean, sequence integer, seed bigint, name text DEFAULT 'prompt') RETURNS hart.generation
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    g hart.generation;
BEGIN
    PERFORM hart.check_prompt(prompt, hart.max_positions(ctx), name);
    -- a stop string that is the name of a special token never comes out as text
    IF options.stop IS NOT NULL THEN
        options.stop_tokens := options.stop_tokens || hart.special_tokens(options.stop, model);
    END IF;
    -- they may be many, and a generation is copied for each token: hart.choose_for leaves the one that is the answer
    options.choices := NULL;
    g.ctx := ctx;
    g.options := options;
    g.prompt := prompt[:];
    -- a checkpoint may name an end-of-text token that its vocabulary has not
    SELECT ARRAY(SELECT id FROM unnest(r.eos_token_ids) AS id WHERE id < r.vocab_size) INTO g.eos FROM hart.model_registry r WHERE r.model_id = hart.resolve_model(model);
    g.ending := g.eos || coalesce(options.stop_tokens, '{}');
    g.seed := seed;
    g.sequence := sequence;
    g.tokens := '{}';
    IF with_text THEN
        g.written := hart.begin_pieces(prompt, model);
    END IF;
    RETURN g;
END $$;
COMMENT ON FUNCTION hart.new_generation(hart.context, integer[], hart.generation_options, text, boolean, integer, bigint, text) IS
    'a generation in a run that is open, before its first token; sequence and seed are those of the random numbers, name is what errors call the prompt';

CREATE FUNCTION hart.constrain(g hart.generation, model text) RETURNS hart.generation
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    options CONSTANT hart.generation_options := g.options;
BEGIN
    IF num_nonnulls(options.regex, options.json_schema, options.grammar) > 0 THEN
        -- without one, nothing here starts Python; special tokens are no text that a constraint speaks of: those that stop may come where it lets the text end
        g.constraint_handle := hart.open_constraint(model, options.regex, options.json_schema, options.grammar,
            ARRAY(SELECT t.token_id FROM hart.tokens t WHERE t.model_id = hart.resolve_model(model) AND t.token_id = ANY (options.stop_tokens) AND t.special));
        g.mask := (hart.constraint_mask(g.constraint_handle, '{}')).mask;
    END IF;
    RETURN g;
END $$;
COMMENT ON FUNCTION hart.constrain(hart.generation, text) IS 'the generation, before its first token, with the constraint that its options ask for; hart.take_token closes it after the last';

CREATE FUNCTION hart.begin_generation(prompt integer[], options hart.generation_options, model text DEFAULT NULL, with_text boolean DEFAULT true) RETURNS hart.generation
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN hart.constrain(hart.choose_for(hart.new_generation(hart.open_context(model), prompt, options, model, with_text, 0, coalesce(options.seed, hart.random_seed())),
                                          options.choices, model), model);
END $$;
COMMENT ON FUNCTION hart.begin_generation(integer[], hart.generation_options, text, boolean) IS
    'open a run of a model to continue a prompt; each hart.next_token makes a token, and hart.close_context of its ctx ends it';

CREATE FUNCTION hart.prefill(ctx hart.context, tokens integer[]) RETURNS hart.matrix
LANGUAGE plpgsql VOLATILE STRICT PARALLEL RESTRICTED AS $$
DECLARE
    known CONSTANT integer := hart.restore_prefix(ctx, tokens);
    logits CONSTANT hart.matrix := hart.forward(ctx, (tokens[:])[known + 1 :], known);
BEGIN
    PERFORM hart.keep_prefix(ctx, tokens);
    RETURN logits;
END $$;
COMMENT ON FUNCTION hart.prefill(hart.context, integer[]) IS 'logits of the token after a prompt, which becomes sequence 0; only what follows the longest beginning that the session remembers is run';

CREATE FUNCTION hart.prefill_many(ctx hart.context, waiting hart.generation[], first integer, most integer, first_sequence integer) RETURNS hart.matrix
LANGUAGE plpgsql VOLATILE STRICT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    rows_at_once CONSTANT integer := 512;
    -- prompts that go on alike for so many tokens are not run together: what the first leaves behind serves the next
    alike CONSTANT integer := 16;
    prompt integer[];
    known integer;
    beginnings text[] := '{}';
    tokens integer[] := '{}';
    sequences integer[] := '{}';
    positions integer[] := '{}';
    ends integer[] := '{}';
    x hart.matrix;
BEGIN
    FOR i IN first .. least(first + most - 1, cardinality(waiting)) LOOP
        prompt := waiting[i].prompt;
        known := hart.restore_prefix(ctx, prompt);
        IF i = first AND cardinality(prompt) - known > rows_at_once THEN
            x := hart.prefill(ctx, prompt);
            PERFORM hart.fork_sequence(ctx, 0, first_sequence, cardinality(prompt));
            RETURN x;
        END IF;
        EXIT WHEN cardinality(tokens) + cardinality(prompt) - known > rows_at_once
            OR prompt[known + 1:known + alike]::text = ANY (beginnings);
        PERFORM hart.fork_sequence(ctx, 0, first_sequence + i - first, known);
        beginnings := beginnings || prompt[known + 1:known + alike]::text;
        tokens := tokens || prompt[known + 1:];
        sequences := sequences || array_fill(first_sequence + i - first, ARRAY[cardinality(prompt) - known]);
        positions := positions || ARRAY(SELECT generate_series(known, cardinality(prompt) - 1));
        ends := ends || cardinality(tokens);
    END LOOP;
    x := hart.hidden_states(ctx, tokens, sequences, positions);
    FOR i IN 1 .. cardinality(ends) LOOP
        prompt := waiting[first + i - 1].prompt;
        PERFORM hart.fork_sequence(ctx, first_sequence + i - 1, 0, cardinality(prompt));
        PERFORM hart.keep_prefix(ctx, prompt);
    END LOOP;
    RETURN hart.linear(ctx, 'lm_head', hart.rms_norm(ctx, 'model.norm', hart.matrix_rows(x, ends)));
END $$;
COMMENT ON FUNCTION hart.prefill_many(hart.context, hart.generation[], integer, integer, integer) IS
    'hart.prefill of several generations'' prompts, from the first given on: one at least, at most so many, as it pays to run together. They become sequences from first_sequence on, and the logits a row each';

CREATE FUNCTION hart.take_token(g hart.generation, logits hart.matrix, row_no integer DEFAULT 1) RETURNS hart.generation
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    options CONSTANT hart.generation_options := g.options;
    complete boolean;
BEGIN
    IF g.choice IS NOT NULL THEN
        RETURN hart.take_choice_token(g, logits, row_no);
    END IF;
    SELECT s.token, s.logprob INTO g.token_id, g.logprob
    FROM hart.sample(logits, options, g.prompt, g.tokens, g.ending, g.mask, g.seed, g.sequence, row_no) AS s;
    g.tokens := g.tokens || g.token_id;
    g.finish_reason := CASE WHEN g.token_id = ANY (g.eos) THEN 'eos'
                            WHEN g.token_id = ANY (options.stop_tokens) THEN 'stop'
                            WHEN cardinality(g.tokens) >= options.max_tokens THEN 'length'
                            WHEN cardinality(g.prompt) + cardinality(g.tokens) > hart.max_positions(g.ctx) THEN 'context' END;
    IF g.constraint_handle IS NOT NULL AND g.finish_reason IS NULL THEN
        SELECT m.mask, m.finished INTO g.mask, complete FROM hart.constraint_mask(g.constraint_handle, g.tokens) AS m;
        g.finish_reason := CASE WHEN complete THEN 'stop' END;
    END IF;
    IF (g.written).tokenizer IS NOT NULL THEN
        -- a token that ends the text is no part of it
        g.written := hart.next_piece(g.written, CASE WHEN g.token_id = ANY (g.ending) THEN NULL ELSE g.token_id END, options.stop, g.finish_reason IS NOT NULL);
        g.piece := (g.written).piece;
        IF (g.written).stopped THEN
            g.finish_reason := 'stop';
        END IF;
    END IF;
    IF g.constraint_handle IS NOT NULL AND g.finish_reason IS NOT NULL THEN
        PERFORM hart.close_constraint(g.constraint_handle);
    END IF;
    RETURN g;
END $$;
COMMENT ON FUNCTION hart.take_token(hart.generation, hart.matrix, integer) IS 'the generation with one more token, chosen by a row of logits';

CREATE FUNCTION hart.next_token(g hart.generation) RETURNS hart.generation
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN hart.take_token(g, CASE WHEN g.token_id IS NULL THEN hart.prefill(g.ctx, g.prompt)
                                   ELSE hart.forward(g.ctx, ARRAY[g.token_id], cardinality(g.prompt) + cardinality(g.tokens) - 1) END);
END $$;
COMMENT ON FUNCTION hart.next_token(hart.generation) IS 'the generation one token further: runs the model over what is new, then chooses';

CREATE FUNCTION hart.generate_text(prompt integer[], options hart.generation_options, model text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE COST 10000 SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    g hart.generation;
    answer text := '';
BEGIN
    IF options.choices IS NOT NULL THEN
        RETURN hart.choose(prompt, options.choices, model);
    END IF;
    g := hart.begin_generation(prompt, options, model);
    LOOP
        g := hart.next_token(g);
        answer := answer || g.piece;
        EXIT WHEN g.finish_reason IS NOT NULL;
    END LOOP;
    PERFORM hart.close_context(g.ctx);
    RETURN answer;
END $$;
COMMENT ON FUNCTION hart.generate_text(integer[], hart.generation_options, text) IS 'text that continues a prompt given as tokens, with options as one value';
