-- The likeliest of many texts. The search in the prefix tree of their tokens is PL/Python (hartonomous_server/choice_search.py): it says
-- which tokens to run; the model runs them here.

CREATE FUNCTION hart.open_choices(prompt integer[], choices text[], model text, max_positions integer, every boolean) RETURNS integer
LANGUAGE plpython3u VOLATILE SET search_path = pg_catalog, pg_temp AS $$
if 'hartonomous' not in GD: plpy.execute('SELECT hart.load_python()')
from hartonomous_server import choices as package
return package.open_choices(plpy, GD, prompt, choices, model, max_positions, every)
$$;
COMMENT ON FUNCTION hart.open_choices(integer[], text[], text, integer, boolean) IS
'handle of a search for the likeliest of the choices that continue a prompt, or for the likelihood of every one';

CREATE FUNCTION hart.next_choices(search integer, logits hart.matrix, OUT from_sequences integer[], OUT to_sequences integer[], OUT shared integer[],
                                  OUT tokens integer[], OUT sequences integer[], OUT positions integer[])
TRANSFORM FOR TYPE hart.matrix
LANGUAGE plpython3u VOLATILE SET search_path = pg_catalog, pg_temp AS $$
from hartonomous_server import choices
return choices.next_choices(plpy, GD, search, logits)
$$;
COMMENT ON FUNCTION hart.next_choices(integer, hart.matrix) IS
'a search one step further, by the logits of what it asked for last (at first, of the prompt): the sequences to fork and the tokens to run next, NULL at the end';

CREATE FUNCTION hart.found_choices(search integer, OUT index integer, OUT logprob float8, OUT tokens integer[]) RETURNS SETOF record
LANGUAGE plpython3u VOLATILE ROWS 10 SET search_path = pg_catalog, pg_temp AS $$
if 'hartonomous' not in GD: plpy.execute('SELECT hart.load_python()')
from hartonomous_server import choices
return choices.found_choices(plpy, GD, search)
$$;
COMMENT ON FUNCTION hart.found_choices(integer) IS
'what a search found, likeliest first: places in the array of choices, log-probabilities and tokens; ends the search';

CREATE FUNCTION hart.search_choices(prompt integer[], choices text[], model text, every boolean) RETURNS integer
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ctx hart.context := hart.open_context(model);
    search integer;
    logits hart.matrix;
    step record;
BEGIN
    PERFORM hart.check_prompt(prompt, hart.max_positions(ctx));
    search := hart.open_choices(prompt, choices, model, hart.max_positions(ctx), every);
    logits := hart.prefill(ctx, prompt);
    LOOP
        SELECT * INTO step FROM hart.next_choices(search, logits);
        EXIT WHEN step.tokens IS NULL;
        PERFORM hart.fork_sequence(ctx, old, new, n) FROM unnest(step.from_sequences, step.to_sequences, step.shared) AS fork(old, new, n);
        logits := hart.forward_batch(ctx, step.tokens, step.sequences, step.positions);
    END LOOP;
    PERFORM hart.close_context(ctx);
    RETURN search;
END $$;
COMMENT ON FUNCTION hart.search_choices(integer[], text[], text, boolean) IS
    'run the model until the likeliest choice is certain or hart.choice_tokens makes do with a likely one, or until every one has its likelihood; hart.found_choices of the result tells';

CREATE FUNCTION hart.choose(prompt_tokens integer[], choices text[], model text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE COST 10000 SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    best integer;
BEGIN
    SELECT f.index INTO best FROM hart.found_choices(hart.search_choices(prompt_tokens, choices, model, false)) AS f;
    RETURN (choices[:])[best];
END $$;
COMMENT ON FUNCTION hart.choose(integer[], text[], text) IS
    'the choice that is the likeliest continuation of a prompt given as tokens; the first in the array among equals';

CREATE FUNCTION hart.choice_scores(prompt text, choices text[], model text DEFAULT NULL, OUT choice text, OUT logprob float8, OUT probability float8) RETURNS SETOF record
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE COST 10000 ROWS 10 SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT (choices[:])[f.index], f.logprob, exp(f.logprob - f.largest) / sum(exp(f.logprob - f.largest)) OVER ()
                 FROM (SELECT *, max(found.logprob) OVER () AS largest
                       FROM hart.found_choices(hart.search_choices(hart.tokenize(prompt, model), choices, model, true)) WITH ORDINALITY AS found(index, logprob, tokens, place)) AS f
                 ORDER BY f.place;
END $$;
COMMENT ON FUNCTION hart.choice_scores(text, text[], text) IS
    'every choice with its log-probability as the continuation of a prompt, and its probability if the answer must be one of them; likeliest first';

CREATE FUNCTION hart.choose_for(g hart.generation, choices text[], model text) RETURNS hart.generation
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF choices IS NOT NULL THEN
        SELECT (choices[:])[f.index], f.tokens INTO g.choice, g.choice_tokens FROM hart.found_choices(hart.search_choices(g.prompt, choices, model, false)) AS f;
    END IF;
    RETURN g;
END $$;
COMMENT ON FUNCTION hart.choose_for(hart.generation, text[], text) IS 'the generation, before its first token, with the likeliest of the choices as what it will write; unchanged when there are none';

CREATE FUNCTION hart.take_choice_token(g hart.generation, logits hart.matrix, row_no integer) RETURNS hart.generation
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    g.token_id := g.choice_tokens[cardinality(g.tokens) + 1];
    g.tokens := g.tokens || g.token_id;
    SELECT s.logprob INTO g.logprob FROM hart.score_rows(hart.matrix_rows(logits, ARRAY[row_no]), ARRAY[g.token_id]) AS s;
    -- the text is the choice itself: a tokenizer that normalizes does not give it back from its tokens
    g.piece := '';
    IF cardinality(g.tokens) = cardinality(g.choice_tokens) THEN
        g.piece := g.choice;
        g.finish_reason := 'stop';
    END IF;
    RETURN g;
END $$;
COMMENT ON FUNCTION hart.take_choice_token(hart.generation, hart.matrix, integer) IS 'the generation with one more token of the choice that it writes; the last brings the text';
