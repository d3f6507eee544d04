-- The transformer (Vaswani et al., 2017, in the form of Llama and Qwen). A row of a matrix is a token: row i is at positions[i] of sequences[i].

CREATE FUNCTION hart.attention(ctx hart.context, layer integer, x hart.matrix, sequences integer[], positions integer[]) RETURNS hart.matrix
LANGUAGE plpgsql VOLATILE STRICT PARALLEL RESTRICTED AS $$
DECLARE
    q hart.matrix := hart.head_norm(ctx, layer, 'self_attn.q_norm', hart.linear(ctx, layer, 'self_attn.q_proj', x));
    k hart.matrix := hart.head_norm(ctx, layer, 'self_attn.k_norm', hart.linear(ctx, layer, 'self_attn.k_proj', x));
    v hart.matrix := hart.linear(ctx, layer, 'self_attn.v_proj', x);
BEGIN
    RETURN hart.linear(ctx, layer, 'self_attn.o_proj',
               hart.attend(ctx, layer, hart.rope(ctx, q, positions), hart.rope(ctx, k, positions), v, sequences, positions));
END $$;
COMMENT ON FUNCTION hart.attention(hart.context, integer, hart.matrix, integer[], integer[]) IS 'grouped-query self-attention of a layer: (m, dim) → (m, dim)';

CREATE FUNCTION hart.feed_forward(ctx hart.context, layer integer, x hart.matrix) RETURNS hart.matrix
LANGUAGE plpgsql VOLATILE STRICT PARALLEL RESTRICTED AS $$
BEGIN
    RETURN hart.linear(ctx, layer, 'mlp.down_proj',
               hart.swiglu(hart.linear(ctx, layer, 'mlp.gate_proj', x),
                           hart.linear(ctx, layer, 'mlp.up_proj', x)));
END $$;
COMMENT ON FUNCTION hart.feed_forward(hart.context, integer, hart.matrix) IS 'gated feed-forward network of a layer: (m, dim) → (m, dim)';

CREATE FUNCTION hart.hidden_states(ctx hart.context, tokens integer[], sequences integer[], positions integer[], last_only boolean DEFAULT false) RETURNS hart.matrix
LANGUAGE plpgsql VOLATILE STRICT PARALLEL RESTRICTED AS $$
DECLARE
    last_layer CONSTANT integer := hart.n_layers(ctx) - 1;
    x hart.matrix := hart.embed_tokens(ctx, tokens);
BEGIN
    FOR layer IN 0 .. last_layer LOOP
        x := hart.add(x, hart.attention(ctx, layer, hart.rms_norm(ctx, layer, 'input_layernorm', x), sequences, positions));
        IF last_only AND layer = last_layer THEN
            x := hart.last_row(x);      -- nothing attends to the others any more
        END IF;
        x := hart.add(x, hart.feed_forward(ctx, layer, hart.rms_norm(ctx, layer, 'post_attention_layernorm', x)));
    END LOOP;
    RETURN x;
END $$;
COMMENT ON FUNCTION hart.hidden_states(hart.context, integer[], integer[], integer[], boolean) IS
    'all layers over tokens at positions of sequences: (tokens, dim), before the last norm; with last_only that of the last token: (1, dim)';

CREATE FUNCTION hart.forward_batch(ctx hart.context, tokens integer[], sequences integer[], positions integer[]) RETURNS hart.matrix
LANGUAGE plpgsql VOLATILE STRICT PARALLEL RESTRICTED AS $$
BEGIN
    RETURN hart.linear(ctx, 'lm_head', hart.rms_norm(ctx, 'model.norm', hart.hidden_states(ctx, tokens, sequences, positions)));
END $$;
COMMENT ON FUNCTION hart.forward_batch(hart.context, integer[], integer[], integer[]) IS
    'logits of the token after each of those given, token i being at positions[i] of sequences[i]: (tokens, vocab_size), so pass no more at a time than memory has room for';

CREATE FUNCTION hart.forward(ctx hart.context, tokens integer[], pos integer, sequence integer DEFAULT 0) RETURNS hart.matrix
LANGUAGE plpgsql VOLATILE STRICT PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- a long prompt goes through in blocks, which bounds memory and loses no speed
    block CONSTANT integer := 512;
    part integer[];
    x hart.matrix;
BEGIN
    tokens := tokens[:];
    FOR start IN 0 .. cardinality(tokens) - 1 BY block LOOP
        part := tokens[start + 1 : start + block];
        x := hart.hidden_states(ctx, part, array_fill(sequence, ARRAY[cardinality(part)]),
                                ARRAY(SELECT generate_series(pos + start, pos + start + cardinality(part) - 1)), last_only => true);
    END LOOP;
    RETURN hart.linear(ctx, 'lm_head', hart.rms_norm(ctx, 'model.norm', x));
END $$;
COMMENT ON FUNCTION hart.forward(hart.context, integer[], integer, integer) IS
    'logits of the token after the last of those given, which are at positions pos on of a sequence: (1, vocab_size); NULL for no tokens';
