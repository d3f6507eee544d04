-- Chats: messages as the text that a model was trained on, by its own template, and the model's answer.

CREATE FUNCTION hart.apply_chat_template(messages jsonb, tools jsonb DEFAULT NULL, add_generation_prompt bool DEFAULT true,
                                         model text DEFAULT NULL) RETURNS text
LANGUAGE plpython3u STABLE SET search_path = pg_catalog, pg_temp AS $$
if 'hartonomous' not in GD: plpy.execute('SELECT hart.load_python()')
from hartonomous_server import chat_template
return chat_template.apply(plpy, GD, messages, tools, add_generation_prompt, model)
$$;
COMMENT ON FUNCTION hart.apply_chat_template(jsonb, jsonb, bool, text) IS
'messages of a chat as the text that the model was trained on, by its own chat template; keys of tools in their usual order';

CREATE FUNCTION hart.apply_chat_template(messages text, tools text DEFAULT NULL, add_generation_prompt bool DEFAULT true,
                                         model text DEFAULT NULL) RETURNS text
LANGUAGE plpython3u STABLE SET search_path = pg_catalog, pg_temp AS $$
if 'hartonomous' not in GD: plpy.execute('SELECT hart.load_python()')
from hartonomous_server import chat_template
return chat_template.apply(plpy, GD, messages, tools, add_generation_prompt, model, ordered=True)
$$;
COMMENT ON FUNCTION hart.apply_chat_template(text, text, bool, text) IS
'the same for messages and tools as JSON texts, whose keys keep the order they are in';

CREATE FUNCTION hart.chat_end_tokens(model text DEFAULT NULL) RETURNS int[]
LANGUAGE plpython3u STABLE SET search_path = pg_catalog, pg_temp AS $$
if 'hartonomous' not in GD: plpy.execute('SELECT hart.load_python()')
from hartonomous_server import chat_template
return chat_template.end_tokens(plpy, GD, model)
$$;
COMMENT ON FUNCTION hart.chat_end_tokens(text) IS
'the tokens that end a message of a chat beside the model''s own end-of-text tokens: the tokenizer''s end token, and the special token that the chat template writes after an answer';

CREATE FUNCTION hart.answer_chat(chat text, options hart.generation_options, model text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE COST 10000 SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- a message ends with the tokenizer's end token or the template's, which are not always among those that end the model's texts
    options.stop_tokens := options.stop_tokens || hart.chat_end_tokens(model);
    RETURN hart.generate_text(hart.tokenize(chat, model, add_special_tokens => false), options, model);
END $$;
COMMENT ON FUNCTION hart.answer_chat(text, hart.generation_options, text) IS 'what the model says next in a chat that is laid out by its template';

CREATE FUNCTION hart.chat(
    messages jsonb, max_tokens integer DEFAULT 64, model text DEFAULT NULL,
    temperature float8 DEFAULT 0, top_k integer DEFAULT 0, top_p float8 DEFAULT 1, min_p float8 DEFAULT 0, typical_p float8 DEFAULT 1,
    repetition_penalty float8 DEFAULT 1, presence_penalty float8 DEFAULT 0, frequency_penalty float8 DEFAULT 0, logit_bias jsonb DEFAULT NULL, seed bigint DEFAULT NULL,
    min_tokens integer DEFAULT 0, stop text[] DEFAULT NULL, stop_tokens integer[] DEFAULT NULL, choices text[] DEFAULT NULL, regex text DEFAULT NULL, json_schema jsonb DEFAULT NULL, grammar text DEFAULT NULL, tools jsonb DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE COST 10000 SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    options CONSTANT hart.generation_options := hart.generation_options(max_tokens, temperature, top_k, top_p, min_p, typical_p, repetition_penalty, presence_penalty, frequency_penalty,
                                                 logit_bias, seed, min_tokens, stop, stop_tokens, choices, regex, json_schema, grammar);
BEGIN
    RETURN hart.answer_chat(hart.apply_chat_template(messages, tools, true, model), options, model);
END $$;
COMMENT ON FUNCTION hart.chat(jsonb, integer, text, float8, integer, float8, float8, float8, float8, float8, float8, jsonb, bigint, integer, text[], integer[], text[], text, jsonb, text, jsonb) IS
    'the model''s answer to a chat, an array of messages with role and content; options as for hart.generate, tools the functions that the model may call';

CREATE FUNCTION hart.chat(
    user_message text, system text DEFAULT NULL, max_tokens integer DEFAULT 64, model text DEFAULT NULL,
    temperature float8 DEFAULT 0, top_k integer DEFAULT 0, top_p float8 DEFAULT 1, min_p float8 DEFAULT 0, typical_p float8 DEFAULT 1,
    repetition_penalty float8 DEFAULT 1, presence_penalty float8 DEFAULT 0, frequency_penalty float8 DEFAULT 0, logit_bias jsonb DEFAULT NULL, seed bigint DEFAULT NULL,
    min_tokens integer DEFAULT 0, stop text[] DEFAULT NULL, stop_tokens integer[] DEFAULT NULL, choices text[] DEFAULT NULL, regex text DEFAULT NULL, json_schema jsonb DEFAULT NULL, grammar text DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE COST 10000 SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    options CONSTANT hart.generation_options := hart.generation_options(max_tokens, temperature, top_k, top_p, min_p, typical_p, repetition_penalty, presence_penalty, frequency_penalty,
                                                 logit_bias, seed, min_tokens, stop, stop_tokens, choices, regex, json_schema, grammar);
    messages jsonb := CASE WHEN system IS NULL THEN '[]' ELSE jsonb_build_array(jsonb_build_object('role', 'system', 'content', system)) END;
BEGIN
    IF user_message IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'message must not be null', HINT = 'Use coalesce where a message may be missing.';
    END IF;
    messages := messages || jsonb_build_object('role', 'user', 'content', user_message);
    RETURN hart.answer_chat(hart.apply_chat_template(messages, NULL, true, model), options, model);
END $$;
COMMENT ON FUNCTION hart.chat(text, text, integer, text, float8, integer, float8, float8, float8, float8, float8, float8, jsonb, bigint, integer, text[], integer[], text[], text, jsonb, text) IS
    'the model''s answer to one message, after a system message if there is one; options as for hart.generate';
