"""Writes cases.json: templates and what Python's Jinja makes of them, in the environment that Transformers 5
renders chat templates in. Needs jinja2 3.1.6; run as `python make_cases.py > cases.json`.

Each case is [template, text] or, where Jinja throws, [template, null].
"""

import json
import sys
from datetime import datetime

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

messages = [
    {"role": "system", "content": "Be brief.\n"},
    {"role": "user", "content": "  Hi, 你好 😀?"},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\n  42\n"},
    {"role": "user", "content": "don't \"stop\""},
]
variables = {
    "messages": messages,
    "tools": None,
    "documents": None,
    "add_generation_prompt": True,
    "bos_token": "<s>",
    "eos_token": "</s>",
    "text": "\n\n  they're \"ok\"\u00a0\ufeff ÉcoLE ßtraße ab \n",
    "number": 7,
    "float": 2.5,
    "names": ["b", "A", "c", "a", "B"],
    "items": [{"name": "x", "n": 2}, {"name": "Y", "n": 1}, {"n": 3}],
}


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class Generation(jinja2.ext.Extension):
    """Transformers' tag around what the assistant says, which changes no text."""

    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


env = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
)
env.filters["tojson"] = tojson
env.globals["raise_exception"] = raise_exception
env.globals["strftime_now"] = lambda f: datetime.now().strftime(f)

literals = [
    "none", "true", "false", "undefined_name", "0", "1", "-3", "2.0", "-0.5", "''", "'a'", "'Ab c'",
    "'12'", "' 3.7 '", "'1e3'", "'😀é'", "'it\\'s'", "'a\\n b\\n\\nc\\n'", "'xxaxx'", "[]", "[1]", "['a', none, 1.0]",
    "[3, 1, 2]", "['b', 'A', 'c']", "(1, 2)", "{}", "{'a': 1, 'b': [true]}", "[[1, 2], ['x', 'y']]", "messages[0]",
]
operators = ["==", "!=", "<", ">=", "+", "-", "*", "/", "//", "%", "~", "in", "not in", "and", "or"]
filters = [
    "length", "string", "trim", "upper", "lower", "title", "capitalize", "tojson", "join", "join(', ')", "int", "int(5)",
    "float", "float(1.0)", "abs", "default('d')", "default('d', true)", "d(1)", "first", "last", "list", "reverse", "sort",
    "unique", "items", "indent", "indent(2, true, true)", "replace('a', 'b')", "tojson(indent=2)", "dictsort",
    "tojson(ensure_ascii=true)", "trim('ax')", "count", "map('string')", "safe",
]
tests = [
    "defined", "undefined", "none", "boolean", "true", "false", "string", "number", "integer", "float", "mapping",
    "iterable", "sequence", "callable", "odd", "even", "lower", "upper",
]
methods = [
    "strip()", "strip('x')", "strip(none)", "lstrip()", "lstrip('x\\n')", "rstrip('\\n x')", "rstrip()", "upper()",
    "lower()", "title()", "capitalize()", "split()", "split(' ')", "split('a')", "split('a', 1)", "split(none, 1)",
    "split(maxsplit=1)", "split('x', maxsplit=2)", "rsplit('x', 1)", "rsplit(none, 1)", "splitlines()", "startswith('a')",
    "startswith(('b', 'A'))", "endswith('c\\n')", "endswith(('x', 'y'))", "replace('x', '-')", "replace('x', '-', 2)",
    "replace('', '.')", "replace('', '.', 1)", "find('a')", "count('x')", "count('')", "isdigit()", "join(['p', 'q'])",
    "split('')", "format(1)", "zfill(3)", "nothing_like_it", "length", "items()", "keys()", "get('a')", "get('z', 0)",
    "values()", "append(1)", "index('a')", "copy()",
]

cases = [
    # What Qwen 3's template does to an answer that begins with spaces.
    "{%- for message in messages %}{% if '</think>' in message.content %}"
    "{%- set reasoning = message.content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}"
    "{%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}"
    "{{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' + content + '<|im_end|>\\n' }}"
    "{% endif %}{% endfor %}",
    "{%- set ns = namespace(multi_step=true, last=messages|length - 1) %}{%- for message in messages[::-1] %}"
    "{%- set index = (messages|length - 1) - loop.index0 %}{%- if ns.multi_step and message.role == 'user' "
    "and not(message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}"
    "{%- set ns.multi_step = false %}{%- set ns.last = index %}{%- endif %}{%- endfor %}{{ ns.last }}",
    "{{ text.strip() }}|{{ text.lstrip() }}|{{ text.rstrip() }}|{{ text | trim }}|{{ text.strip('\\n ') }}",
    "{{ text.title() }}|{{ text | title }}|{{ text.capitalize() }}|{{ text.split() }}|{{ text | length }}",
    "{{ text.upper() }}|{{ text.lower() }}|{{ text | upper | lower }}|{{ text[3] }}|{{ text[::-1] }}|{{ text[2:-3:2] }}",
    "{{ text | tojson }}|{{ [text] }}|{{ {'k': text} | tojson(indent=4) }}",
    "{{ '  a'.lstrip('\\n') }}|{{ 'aXbXc'.split('X', 1) }}|{{ 'aXbXc'.rsplit('X', 1)[-1] }}",
    # Values as they print.
    "{{ none }}|{{ true }}|{{ false }}|{{ 1.0 }}|{{ 0.00001 }}|{{ 10000000000000000.0 }}|{{ 123456.75 }}",
    "{{ 1 / 3 }}|{{ 7 // 2 }}|{{ -7 // 2 }}|{{ -7 % 3 }}|{{ 7 % -3 }}|{{ 7.5 % 2 }}|{{ 2 ** 10 }}|{{ 2 ** -1 }}|{{ 4 / 2 }}",
    "{{ [1, 'a', none, true, 2.0, [], {}, (1,2)] }}|{{ {'a': 'b', 'c': [1]} }}|{{ \"it's\" }}|{{ [\"it's\", 'a\"b', '\\n\\t\\\\'] }}",
    "{{ undefined_name }}|{{ messages[0].nothing }}|{{ messages[9] }}|{{ undefined_name is defined }}",
    "{{ undefined_name.x }}", "{{ messages[0].nothing.x }}", "{{ undefined_name + 1 }}", "{{ undefined_name() }}",
    "{{ none.x }}|{{ 3.x }}|{{ number.x }}|{{ 'a'.length }}|{{ messages.length }}", "{{ none.x }}|{{ number.x }}",
    # Scopes.
    "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}",
    "{% for i in [1, 2] %}{% if y is defined %}leaked{% endif %}{% set y = i %}{% endfor %}{{ y is defined }}",
    "{% if true %}{% set z = 1 %}{% endif %}{{ z }}",
    "{% macro m(a, b=2) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{% set c = 9 %}{{ m(1) }}{{ m(1, b=3) }}",
    "{% macro m() %}{{ v is defined }}{% endmacro %}{% for v in [1] %}{{ m() }}{% endfor %}",
    "{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}in{{ number }}{% endcall %}",
    "{% macro m(x) %}{% if x > 0 %}{{ x }}{{ m(x - 1) }}{% endif %}{% endmacro %}{{ m(3) }}",
    "{% macro m() %}{{ varargs | join(',') }}{{ kwargs }}{% endmacro %}{{ m(1, 2, k=3) }}",
    "{% set b %}  a{{ number }}{% set inner = 1 %}{% endset %}{{ b }}{{ inner is defined }}",
    "{% filter upper %}a{{ 'b' }}{% endfilter %}", "{% filter trim %} a {% endfilter %}",
    "{% set ns = namespace() %}{% set ns.x = 1 %}{{ ns.x }}{{ ns.y }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = [1] %}{{ a }}",
    # Loops.
    "{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}"
    "{{ loop.length }}{{ loop.depth }}{{ loop.cycle('a', 'b') }}{{ loop.changed(m.role) }}"
    "{{ loop.previtem.role if loop.previtem is defined }}{{ loop.nextitem.role if loop.nextitem }};{% endfor %}",
    "{% for m in messages if m.role == 'user' %}{{ loop.index }}/{{ loop.length }}{{ m.content }}{% else %}none{% endfor %}",
    "{% for m in [] %}x{% else %}empty{% endfor %}", "{% for m in undefined_name %}x{% else %}empty{% endfor %}",
    "{% for m in none %}x{% endfor %}", "{% for m in 3 %}x{% endfor %}",
    "{% for c in 'a😀b' %}[{{ c }}]{% endfor %}", "{% for k in messages[0] %}{{ k }},{% endfor %}",
    "{% for k, v in messages[0].items() %}{{ k }}={{ v }},{% endfor %}", "{% for k, v in messages[0] | items %}{{ k }}{% endfor %}",
    "{% for a, b in [(1, 2), [3, 4]] %}{{ a }}{{ b }}{% endfor %}", "{% for a, b in [[1]] %}{{ a }}{% endfor %}",
    "{% for i in range(5) %}{% if i == 3 %}{% break %}{% endif %}a{{ i }}{% if i == 1 %}b{% continue %}{% endif %}c{% endfor %}",
    "{% for i in range(3) %}x{{ i }}{% if i == 1 %}y{% break %}{% endif %}z{% endfor %}",
    "{% for i in range(2) %}{% for j in range(2) %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}",
    "{% for i in range(10, 0, -3) %}{{ i }} {% endfor %}{{ range(3) | list }}", "{{ range(100001) | list | length }}",
    "{% for i in range(0) %}{% else %}{% if true %}e{% endif %}{% endfor %}",
    # White space around tags.
    "a\n  {% if true %}\n  b\n  {% endif %}\nc\n", "a  {%- if true -%}  b  {%- endif -%}  c", "  {{ 1 }}\n  {{- 2 }}\n{{ 3 -}}\n x",
    "a\r\n{% if true %}\r\nb\r\n{% endif %}\r\nc\r\n", "{# c #}\na\n  {#- d -#}\n b", "x{% set a = 1 %}\n\ny", "\n{{ 1 }}\n\n",
    # Names of Python's dictionaries and of Object.prototype.
    "{{ messages[0]['items'] is defined }}|{{ {'items': 1}.items is callable }}|{{ {'items': 1}['items'] }}|{{ {'get': 5}['get'] }}",
    "{{ messages[0].constructor }}|{{ messages[0]['__proto__'] }}|{{ messages[0].toString }}|{{ 'constructor' in messages[0] }}",
    "{{ {'__proto__': 1} }}|{{ {'constructor': 2}.constructor }}|{{ constructor }}|{{ toString }}|{{ hasOwnProperty is defined }}",
    "{{ {'update': 1}['update'] }}", "{{ {}.update({'a': 1}) }}", "{{ [].append(1) }}", "{{ messages[0].pop('role') }}",
    # Filters with arguments.
    "{{ names | sort }}|{{ names | sort(reverse=true) }}|{{ names | sort(case_sensitive=true) }}|{{ names | unique | list }}",
    "{{ items | map(attribute='name', default='-') | list }}|{{ items | map(attribute='n') | join('+') }}|{{ names | map('upper') | list }}",
    "{{ items | selectattr('name', 'defined') | list | length }}|{{ items | rejectattr('name') | list }}|{{ items | selectattr('n', 'equalto', 1) | list }}",
    "{{ items | sort(attribute='n') | map(attribute='n') | list }}|{{ messages | selectattr('role', 'in', ['user']) | list | length }}",
    "{{ messages | map(attribute='content') | join('|') }}", "{{ 'a,b' | replace(',', ';') | upper }}|{{ 5 | replace('5', '6') }}",
    "{{ 'a\\nb\\n\\nc' | indent }}|{{ 'a\\nb' | indent(2) }}|{{ 'a\\nb' | indent('> ', first=true) }}|{{ 'a\\n\\nb\\n' | indent(1, blank=true) }}",
    "{{ {'b': 1, 'A': 2} | dictsort }}|{{ {'b': 1, 'A': 2} | dictsort(by='value', reverse=true) }}",
    "{{ {'b': [1, {'c': none}], 'a': 1.0} | tojson(indent=2, sort_keys=true) }}|{{ [] | tojson(indent=2) }}|{{ {'a': 1} | tojson(separators=(',', ':')) }}",
    "{{ 'é\\u007f😀' | tojson(ensure_ascii=true) }}|{{ '<a href=\"x\">&' | tojson }}|{{ [1, 2] | tojson(indent=0) }}|{{ undefined_name | tojson }}",
    "{{ x | nofilter }}", "{{ 1 is notest }}", "{{ '3' | int + 1 }}|{{ 3.99 | int }}|{{ -3.99 | int }}|{{ '1_000' | int }}|{{ 'x' | int(-1) }}|{{ '0x10' | int }}",
    "{{ names | first }}|{{ [] | first }}|{{ names | last }}|{{ 'abc' | first }}|{{ {'a': 1} | first }}",
    # The rest.
    "{{ 'a' if false }}|{{ 'a' if true else 'b' }}|{{ 'a' if 0 else 'b' if '' else 'c' }}", "{{ not true }}{{ not '' }}{{ not not 1 }}",
    "{{ 1 < 2 }}|{{ 'b' > 'a' }}|{{ '😀' > '\\uffff' }}|{{ [1, 2] < [1, 3] }}|{{ 1 == 1.0 }}|{{ true == 1 }}|{{ '1' == 1 }}",
    "{{ raise_exception('no') }}", "{{ 'a' 'b' }}", "{{ 'a' * 3 }}|{{ '-' * 0 }}", "{{ 'ab' % 1 }}", "{{ 1 + 'a' }}", "{{ 'a' + 1 }}",
    "{{ 1 ~ 'a' ~ none ~ true ~ 1.0 ~ [1] }}", "{{ (1, 2) + (3, 4) }}", "{{ [1] + [2] }}", "{{ (1, 2) == [1, 2] }}",
    "{{ messages[-1].role }}|{{ messages[1:] | length }}|{{ messages[:-1] | length }}|{{ messages[0]['role'][0] }}|{{ names[10] is defined }}",
    "{{ messages[0].get('role') }}|{{ messages[0].get('x') }}|{{ messages[0].get('x', 'y') }}|{{ messages[0].keys() | list }}",
    "{{ tools is none }}|{{ tools is not none }}|{{ tools and tools | length }}|{{ not tools }}|{{ documents }}",
    "{{ strftime_now('%Y-%m-%d') | length }}|{{ strftime_now('%%') }}|{{ strftime_now('x') }}",
    "{% for m in messages %}{% if m.role == 'assistant' %}\n  {% generation %}\n{{ m.content }}\n  {% endgeneration %}\n{% endif %}{% endfor %}",
]
for a in literals:
    cases.append("{{ " + a + " }}")
    for test in tests:
        cases.append("{{ " + a + " is " + test + " }}")
    for f in filters:
        cases.append("{{ (" + a + ") | " + f + " }}")
    for m in methods:
        cases.append("{{ (" + a + ")." + m + " }}")
    for b in literals[::5]:
        for op in operators:
            cases.append("{{ (" + a + ") " + op + " (" + b + ") }}")

rows = []
for template in dict.fromkeys(cases):
    try:
        text = env.from_string(template).render(**variables)
    except Exception as error:
        text = None
    # Addresses of objects change with every run; views of dictionaries are lists here.
    if text is not None and any(mark in text for mark in (" at 0x", "<bound", "<built-in", "dict_")):
        continue
    rows.append(json.dumps([template, text], ensure_ascii=True))
sys.stdout.write('{"variables": ' + json.dumps(variables) + ',\n"cases": [\n' + ",\n".join(rows) + "\n]}\n")
