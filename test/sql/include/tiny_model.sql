-- Models small enough to compute in plain SQL. pg_temp.ingest_tiny(name) writes a checkpoint to a temporary folder of the server,
-- ingests it and removes the folder; the weights stay in the temporary table `weight`, as rows.
--
-- Weights are multiples of 1/64 up to 1/4 around 0 (around 1 for norms), so that F32, F16 and BF16 hold them exactly.

CREATE TEMP TABLE spec (model text PRIMARY KEY, family text, dtype text, dim int, hidden int, layers int, heads int, kv_heads int, head_dim int, vocab int,
                        positions int, tied boolean, eps float8, theta float8);
CREATE TEMP TABLE weight (model text, tensor text, row int, col int, value float8);

CREATE FUNCTION pg_temp.tensor_shapes(s spec) RETURNS TABLE (tensor text, rows int, cols int)
LANGUAGE sql AS $$
    SELECT 'model.embed_tokens.weight', s.vocab, s.dim
    UNION ALL
    SELECT format('model.layers.%s.%s', layer, part), rows, cols
    FROM generate_series(0, s.layers - 1) AS layer,
         (VALUES ('input_layernorm.weight', 1, s.dim), ('post_attention_layernorm.weight', 1, s.dim),
                 ('self_attn.q_proj.weight', s.heads * s.head_dim, s.dim), ('self_attn.k_proj.weight', s.kv_heads * s.head_dim, s.dim),
                 ('self_attn.v_proj.weight', s.kv_heads * s.head_dim, s.dim), ('self_attn.o_proj.weight', s.dim, s.heads * s.head_dim),
                 ('mlp.gate_proj.weight', s.hidden, s.dim), ('mlp.up_proj.weight', s.hidden, s.dim), ('mlp.down_proj.weight', s.dim, s.hidden),
                 ('self_attn.q_proj.bias', 1, s.heads * s.head_dim), ('self_attn.k_proj.bias', 1, s.kv_heads * s.head_dim), ('self_attn.v_proj.bias', 1, s.kv_heads * s.head_dim),
                 ('self_attn.q_norm.weight', 1, s.head_dim), ('self_attn.k_norm.weight', 1, s.head_dim)) AS part (part, rows, cols)
    WHERE CASE WHEN part LIKE '%.bias' THEN s.family = 'qwen2' WHEN part LIKE '%.__norm.weight' THEN s.family = 'qwen3' ELSE true END
    UNION ALL
    SELECT 'model.norm.weight', 1, s.dim
    UNION ALL
    SELECT 'lm_head.weight', s.vocab, s.dim WHERE NOT s.tied
$$;

CREATE FUNCTION pg_temp.write_checkpoint(model text) RETURNS text
LANGUAGE plpython3u AS $$
import json, math, os, struct, tempfile
s = plpy.execute(plpy.prepare('SELECT * FROM spec WHERE model = $1', ['text']), [model])[0]
names = {'llama': 'LlamaForCausalLM', 'qwen2': 'Qwen2ForCausalLM', 'qwen3': 'Qwen3ForCausalLM'}
config = {'architectures': [names[s['family']]], 'model_type': s['family'], 'hidden_size': s['dim'], 'intermediate_size': s['hidden'],
          'num_hidden_layers': s['layers'], 'num_attention_heads': s['heads'], 'num_key_value_heads': s['kv_heads'], 'head_dim': s['head_dim'],
          'vocab_size': s['vocab'], 'max_position_embeddings': s['positions'], 'rms_norm_eps': s['eps'], 'rope_theta': s['theta'],
          'hidden_act': 'silu', 'tie_word_embeddings': s['tied'], 'eos_token_id': 2}
if s['family'] == 'qwen2':
    del config['head_dim']
# one token a byte that can be printed
vocabulary = {token: i for i, token in enumerate(['<unk>', '<s>', '</s>'] + [chr(c) for c in range(32, 127)])}
special = [{'id': vocabulary[t], 'content': t, 'single_word': False, 'lstrip': False, 'rstrip': False, 'normalized': False, 'special': True}
           for t in ('<unk>', '<s>', '</s>')]
tokenizer = {'version': '1.0', 'truncation': None, 'padding': None, 'added_tokens': special, 'normalizer': None, 'pre_tokenizer': None,
             'post_processor': None, 'decoder': {'type': 'Fuse'},
             'model': {'type': 'BPE', 'dropout': None, 'unk_token': '<unk>', 'continuing_subword_prefix': None, 'end_of_word_suffix': None,
                       'fuse_unk': False, 'byte_fallback': False, 'ignore_merges': False, 'vocab': vocabulary, 'merges': []}}
encode = {'F32': lambda x: struct.pack('<f', x), 'F16': lambda x: struct.pack('<e', x), 'BF16': lambda x: struct.pack('<f', x)[2:]}[s['dtype']]
header, body = {}, []
rows = plpy.cursor(plpy.prepare("""SELECT tensor, max(row) AS rows, max(col) AS cols, array_agg(value ORDER BY row, col) AS values
                                   FROM weight WHERE model = $1 GROUP BY tensor ORDER BY tensor""", ['text']), [model])
at = 0
for t in rows:
    data = b''.join(map(encode, t['values']))
    vector = t['tensor'].endswith('.bias') or 'norm' in t['tensor']
    header[t['tensor']] = {'dtype': s['dtype'], 'shape': [t['cols']] if vector else [t['rows'], t['cols']], 'data_offsets': [at, at + len(data)]}
    body.append(data)
    at += len(data)
text = json.dumps(header).encode()
folder = tempfile.mkdtemp(prefix='hart_test_')
for name, content in (('config.json', json.dumps(config).encode()), ('tokenizer.json', json.dumps(tokenizer).encode()),
                      ('model.safetensors', struct.pack('<Q', len(text)) + text + b''.join(body))):
    with open(os.path.join(folder, name), 'wb') as file:
        file.write(content)
return folder
$$;

CREATE FUNCTION pg_temp.remove_folder(folder text) RETURNS void LANGUAGE plpython3u AS $$
import shutil
shutil.rmtree(folder)
$$;

-- Ingest a model; the default is one with every difficulty: heads that do not add up to dim, sizes that are no multiple of 8, a tensor of several tiles.
CREATE FUNCTION pg_temp.ingest_tiny(name text, family text DEFAULT 'llama', dtype text DEFAULT 'F32', tied boolean DEFAULT false, dim int DEFAULT 20, head_dim int DEFAULT 6,
                                    layers int DEFAULT 2, vocab int DEFAULT 260, positions int DEFAULT 200) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    s spec := ROW(name, family, dtype, dim, 26, layers, 4, 2, head_dim, vocab, positions, tied, 1e-5, 100);
    folder text;
BEGIN
    INSERT INTO spec VALUES (s.*);
    INSERT INTO weight
    SELECT name, tensor, row, col, (CASE WHEN tensor LIKE '%norm.weight' THEN 1 ELSE 0 END + (abs(hashtext(format('%s %s %s', tensor, row, col)::text)) % 33 - 16) / 64.0)
    FROM pg_temp.tensor_shapes(s), generate_series(1, rows) AS row, generate_series(1, cols) AS col;
    folder := pg_temp.write_checkpoint(name);
    CALL hart.ingest_model(folder, name);
    PERFORM pg_temp.remove_folder(folder);
    RETURN (SELECT model_id FROM hart.models AS m WHERE m.name = ingest_tiny.name);
END $$;
