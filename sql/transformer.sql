-- The transformer (Vaswani et al., 2017, in the form of Llama and Qwen). Rows of a matrix are the tokens at positions pos, pos + 1, …

CREATE FUNCTION hart.attention(ctx hart.context, layer integer, x hart.matrix, pos integer) RETURNS hart.matrix
LANGUAGE plpgsql VOLATILE STRICT PARALLEL RESTRICTED AS $$
DECLARE
    q hart.matrix := hart.head_norm(ctx, layer, 'self_attn.q_norm', hart.linear(ctx, layer, 'self_attn.q_proj', x));
    k hart.matrix := hart.head_norm(ctx, layer, 'self_attn.k_norm', hart.linear(ctx, layer, 'self_attn.k_proj', x));
    v hart.matrix := hart.linear(ctx, layer, 'self_attn.v_proj', x);
BEGIN
    RETURN hart.linear(ctx, layer, 'self_attn.o_proj',
               hart.attend(ctx, layer, hart.rope(ctx, q, pos), hart.rope(ctx, k, pos), v, pos));
END $$;
COMMENT ON FUNCTION hart.attention(hart.context, integer, hart.matrix, integer) IS 'grouped-query self-attention of a layer: (m, dim) → (m, dim)';

CREATE FUNCTION hart.feed_forward(ctx hart.context, layer integer, x hart.matrix) RETURNS hart.matrix
LANGUAGE plpgsql VOLATILE STRICT PARALLEL RESTRICTED AS $$
BEGIN
    RETURN hart.linear(ctx, layer, 'mlp.down_proj',
               hart.swiglu(hart.linear(ctx, layer, 'mlp.gate_proj', x),
                           hart.linear(ctx, layer, 'mlp.up_proj', x)));
END $$;
COMMENT ON FUNCTION hart.feed_forward(hart.context, integer, hart.matrix) IS 'gated feed-forward network of a layer: (m, dim) → (m, dim)';

CREATE FUNCTION hart.hidden_states(ctx hart.context, tokens integer[], pos integer) RETURNS hart.matrix
LANGUAGE plpgsql VOLATILE STRICT PARALLEL RESTRICTED AS $$
DECLARE
    x hart.matrix := hart.embed_tokens(ctx, tokens);
BEGIN
    FOR layer IN 0 .. hart.n_layers(ctx) - 1 LOOP
        x := hart.add(x, hart.attention(ctx, layer, hart.rms_norm(ctx, layer, 'input_layernorm', x), pos));
        x := hart.add(x, hart.feed_forward(ctx, layer, hart.rms_norm(ctx, layer, 'post_attention_layernorm', x)));
    END LOOP;
    RETURN x;
END $$;
COMMENT ON FUNCTION hart.hidden_states(hart.context, integer[], integer) IS 'all layers over tokens at positions pos on: (tokens, dim), before the last norm';

CREATE FUNCTION hart.forward(ctx hart.context, tokens integer[], pos integer) RETURNS hart.matrix
LANGUAGE plpgsql VOLATILE STRICT PARALLEL RESTRICTED AS $$
DECLARE
    -- a long prompt goes through in blocks, which bounds memory and loses no speed
    block CONSTANT integer := 512;
    x hart.matrix;
BEGIN
    FOR start IN 0 .. cardinality(tokens) - 1 BY block LOOP
        x := hart.hidden_states(ctx, tokens[start + 1 : start + block], pos + start);
    END LOOP;
    RETURN hart.linear(ctx, 'lm_head', hart.rms_norm(ctx, 'model.norm', hart.last_row(x)));
END $$;
COMMENT ON FUNCTION hart.forward(hart.context, integer[], integer) IS 'logits of the token after the last of those given, which are at positions pos on: (1, vocab_size); NULL for no tokens';
