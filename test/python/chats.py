"""Chat templates of the usual kinds, written for these tests, and chats to put through them.

goldens/chat.json holds what transformers makes of them (make_chat_goldens.py).
"""
import json

import models

# Header and end tokens around each message, the first text token written by the template (Llama 3).
HEADERS = """{{- bos_token }}
{%- if tools is not none and tools %}
    {{- '<|start|>tools<|end|>\\n' }}
    {%- for tool in tools %}
        {{- tool | tojson(indent=2) }}
        {{- '\\n' }}
    {%- endfor %}
{%- endif %}
{%- for message in messages %}
    {{- '<|start|>' + message['role'] + '<|end|>\\n\\n' + (message['content'] or '') | trim + '</s>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start|>assistant<|end|>\\n\\n' }}
{%- endif %}
"""

# One line a message (ChatML), in blocks whose white space is trimmed by the environment's settings.
LINES = """{% for message in messages %}
    {% if loop.first and message.role != 'system' %}
<|im_start|>system
Be brief.<|im_end|>
    {% endif %}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}
"""

# Turns that must alternate, an error of the template's own, namespace, break and continue (Mistral).
TURNS = """{%- set ns = namespace(system='', turn=0) %}
{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'system' %}
        {%- set ns.system = message.content + '\\n\\n' %}
        {%- continue %}
    {%- endif %}
    {%- if (message.role == 'user') != (ns.turn % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- set ns.turn = ns.turn + 1 %}
    {%- if message.role == 'user' %}
        {{- '[INST] ' + ns.system + message.content + ' [/INST]' }}
        {%- set ns.system = '' %}
    {%- else %}
        {%- generation %}{{- ' ' + message.content + eos_token }}{% endgeneration %}
    {%- endif %}
{%- endfor %}
{%- for word in ['a', 'b'] %}{% if word == 'b' %}{% break %}{% endif %}{% endfor %}
"""

# Calls of functions and their results, arguments as JSON, content in parts, macros.
CALLS = """{%- macro text(content) %}
    {%- if content is string %}{{- content }}
    {%- elif content %}{%- for part in content if part.type == 'text' %}{{- part.text }}{%- endfor %}
    {%- endif %}
{%- endmacro %}
{%- if tools %}{{- '<tools>' + (tools | tojson) + '</tools>\\n' }}{%- endif %}
{%- for message in messages %}
    {{- '<' + message.role + '>' }}
    {%- if message.reasoning_content is defined %}{{- '(' + message.reasoning_content + ')' }}{%- endif %}
    {{- text(message.content) }}
    {%- if message.tool_calls is defined %}
        {%- for call in message.tool_calls %}
            {{- '<call>' + call.function.name + ' ' + (call.function.arguments | tojson) + '</call>' }}
        {%- endfor %}
    {%- endif %}
    {{- '</' ~ message.role ~ '>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<assistant>' }}{%- endif %}
{{- unk_token if unk_token is defined }}{{ pad_token if pad_token is defined else '-' }}
"""

TEMPLATES = {"headers": HEADERS, "lines": LINES, "turns": TURNS, "calls": CALLS,
             "named": [{"name": "default", "template": LINES}, {"name": "tool_use", "template": CALLS}]}

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather at a place, <now> & 'then'.",
    "parameters": {"type": "object", "properties": {
        "place": {"type": "string", "description": "A town"}, "unit": {"type": "string", "enum": ["°C", "°F"], "description": "Unit"}},
        "required": ["place"]}}}
CALL = {"role": "assistant", "content": None, "tool_calls": [
    {"type": "function", "function": {"name": "get_weather", "arguments": {"place": "Zürich", "unit": "°C"}}}]}

CHATS = {
    "one": [{"role": "user", "content": "Hello"}],
    "system": [{"role": "system", "content": "You are terse."}, {"role": "user", "content": "  What is a tuple?\n"}],
    "turns": [{"role": "system", "content": "Answer in Latin."}, {"role": "user", "content": "One?"}, {"role": "assistant", "content": "Unus."},
              {"role": "user", "content": "Two? {{ 7 * 7 }} {% raw %}"}, {"role": "assistant", "content": "Duo <b>&</b> \"tres\""}, {"role": "user", "content": "多謝 🌙"}],
    "tools": [{"role": "user", "content": "Weather in Zürich?"}, CALL, {"role": "tool", "content": "{\"sky\": \"grey\"}"},
              {"role": "tool", "content": "12"}, {"role": "assistant", "content": "Grey.", "reasoning": "easy"}, {"role": "user", "content": "Thanks"}],
    "parts": [{"role": "user", "content": [{"type": "text", "text": "Look: "}, {"type": "image"}, {"type": "text", "text": "a cat"}]}],
}
# template, chat, whether tools are given, add_generation_prompt
CASES = [(template, chat, tools, prompt) for template in TEMPLATES for chat in CHATS for tools in (False, True) for prompt in (True, False)
         if not (template in ("turns",) and chat in ("tools", "parts")) and not (template in ("headers",) and chat == "parts")]
QWEN_CASES = [(chat, tools, prompt) for chat in CHATS if chat != "parts" for tools in (False, True) for prompt in (True, False)]

SPECIAL = {"bos_token": "<s>", "eos_token": {"__type": "AddedToken", "content": "</s>", "lstrip": False, "normalized": False,
                                             "rstrip": False, "single_word": False}, "unk_token": "<unk>"}


def tokenizer_config(template):
    """tokenizer_config.json of a model with one of the templates."""
    return {"tokenizer_class": "PreTrainedTokenizerFast", **SPECIAL, "add_bos_token": True, "chat_template": TEMPLATES[template]}


def write_chat_model(folder, template, **options):
    """A tiny model with one of the templates: a text token for each character."""
    m = models.Model(f"chat_{template}", vocab=137, max_positions=2048, **options)
    models.write_model(folder, m, "chat")
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(template)))
    return m
