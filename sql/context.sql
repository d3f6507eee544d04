-- The primitives that the transformer is written with. A context is one run of a model: its weights under
-- the statement's snapshot, and the keys and values of the positions run so far, of one sequence or several. It lives until it is closed, or to the end of
-- the (sub)transaction that opened it. Every function below that takes one reads or changes that state, so all are VOLATILE and stay in one process.

CREATE TYPE hart.context;
CREATE FUNCTION hart.context_in(cstring) RETURNS hart.context
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_context_in';
CREATE FUNCTION hart.context_out(hart.context) RETURNS cstring
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_context_out';
CREATE TYPE hart.context (INPUT = hart.context_in, OUTPUT = hart.context_out, INTERNALLENGTH = 8, PASSEDBYVALUE, ALIGNMENT = double, STORAGE = plain);
COMMENT ON TYPE hart.context IS 'handle of a running model, made by hart.open_context; of use only in the transaction that made it';
COMMENT ON FUNCTION hart.context_in(cstring) IS 'always an error: a context is made by hart.open_context';
COMMENT ON FUNCTION hart.context_out(hart.context) IS 'number of the context in this session';

CREATE FUNCTION hart.open_context(model text DEFAULT NULL) RETURNS hart.context
LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'hart_open_context';
COMMENT ON FUNCTION hart.open_context(text) IS 'begin a run of a model: resolve it, check SELECT on its tiles, find and pin them under the current snapshot';
CREATE FUNCTION hart.close_context(ctx hart.context) RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'hart_close_context';
COMMENT ON FUNCTION hart.close_context(hart.context) IS 'end a run: release pins, keys and values';
CREATE FUNCTION hart.n_layers(ctx hart.context) RETURNS integer
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'hart_context_n_layers';
COMMENT ON FUNCTION hart.n_layers(hart.context) IS 'number of layers of the model';
CREATE FUNCTION hart.max_positions(ctx hart.context) RETURNS integer
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'hart_context_max_positions';
COMMENT ON FUNCTION hart.max_positions(hart.context) IS 'context length of the model, in tokens';

CREATE FUNCTION hart.embed_tokens(ctx hart.context, tokens integer[]) RETURNS hart.matrix
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'hart_embed_tokens';
COMMENT ON FUNCTION hart.embed_tokens(hart.context, integer[]) IS 'embeddings of tokens: (tokens, dim)';
CREATE FUNCTION hart.linear(ctx hart.context, layer integer, module text, x hart.matrix) RETURNS hart.matrix
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'hart_linear';
COMMENT ON FUNCTION hart.linear(hart.context, integer, text, hart.matrix) IS 'x Wᵀ, and + b where the model has one, with the weights of a module of a layer: (m, in) → (m, out)';
CREATE FUNCTION hart.linear(ctx hart.context, module text, x hart.matrix) RETURNS hart.matrix
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'hart_outer_linear';
COMMENT ON FUNCTION hart.linear(hart.context, text, hart.matrix) IS 'x Wᵀ with the weights of a module outside the layers, such as lm_head: (m, in) → (m, out)';
CREATE FUNCTION hart.rms_norm(ctx hart.context, layer integer, module text, x hart.matrix) RETURNS hart.matrix
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'hart_rms_norm';
COMMENT ON FUNCTION hart.rms_norm(hart.context, integer, text, hart.matrix) IS 'each row over its root mean square, times the weights of a module of a layer (Zhang and Sennrich, 2019)';
CREATE FUNCTION hart.rms_norm(ctx hart.context, module text, x hart.matrix) RETURNS hart.matrix
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'hart_outer_rms_norm';
COMMENT ON FUNCTION hart.rms_norm(hart.context, text, hart.matrix) IS 'each row over its root mean square, times the weights of a module outside the layers, such as model.norm';
CREATE FUNCTION hart.head_norm(ctx hart.context, layer integer, module text, x hart.matrix) RETURNS hart.matrix
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'hart_head_norm';
COMMENT ON FUNCTION hart.head_norm(hart.context, integer, text, hart.matrix) IS 'rms_norm of each head of queries or keys, in families that have it (qwen3); x itself in others';
CREATE FUNCTION hart.rope(ctx hart.context, x hart.matrix, pos integer) RETURNS hart.matrix
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'hart_rope';
COMMENT ON FUNCTION hart.rope(hart.context, hart.matrix, integer) IS 'rotary position embedding of queries or keys, row i at position pos + i (Su et al., 2021)';
CREATE FUNCTION hart.rope(ctx hart.context, x hart.matrix, positions integer[]) RETURNS hart.matrix
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'hart_rope_positions';
COMMENT ON FUNCTION hart.rope(hart.context, hart.matrix, integer[]) IS 'rotary position embedding of queries or keys, each row at its own position';
CREATE FUNCTION hart.attend(ctx hart.context, layer integer, q hart.matrix, k hart.matrix, v hart.matrix, pos integer) RETURNS hart.matrix
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'hart_attend';
COMMENT ON FUNCTION hart.attend(hart.context, integer, hart.matrix, hart.matrix, hart.matrix, integer) IS
    'keep k and v as positions pos on of sequence 0, then softmax(q kᵀ / √head_dim) v of each row over the positions up to its own; query heads share key heads (Ainslie et al., GQA, 2023)';
CREATE FUNCTION hart.attend(ctx hart.context, layer integer, q hart.matrix, k hart.matrix, v hart.matrix, sequences integer[], positions integer[]) RETURNS hart.matrix
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'hart_attend_sequences';
COMMENT ON FUNCTION hart.attend(hart.context, integer, hart.matrix, hart.matrix, hart.matrix, integer[], integer[]) IS
    'the same with rows of several sequences, in any order as long as the positions of each sequence follow one another: a row attends to its own sequence';
CREATE FUNCTION hart.swiglu(gate hart.matrix, up hart.matrix) RETURNS hart.matrix
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_swiglu';
COMMENT ON FUNCTION hart.swiglu(hart.matrix, hart.matrix) IS 'silu(gate) · up, number by number (Shazeer, 2020)';

-- Sequences: texts that one context runs side by side, numbered from 0. One begins when it is first named; running a position again forgets what followed it.
CREATE FUNCTION hart.fork_sequence(ctx hart.context, from_sequence integer, to_sequence integer, n_positions integer) RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'hart_fork_sequence';
COMMENT ON FUNCTION hart.fork_sequence(hart.context, integer, integer, integer) IS
    'make to_sequence the first n_positions of from_sequence, whatever it was before; keys and values are shared until one of the two writes';
CREATE FUNCTION hart.drop_sequence(ctx hart.context, sequence integer) RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'hart_drop_sequence';
COMMENT ON FUNCTION hart.drop_sequence(hart.context, integer) IS 'let go of the keys and values of a sequence, if there are any';
