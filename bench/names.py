"""Names that a text may well hold, made by a rule: a given name, an initial and a family name."""

GIVEN = """Alice Anna Arthur Barbara Brian Carol Charles Clara Daniel David Deborah Diana Donald Edward Elizabeth Emma Eric Frank George Grace
Hannah Harold Helen Henry Irene Jack James Jane Jason John Joseph Julia Karen Kevin Laura Linda Lucy Margaret Maria Mark Martin Mary Michael
Nancy Oliver Patricia Paul Peter Rachel Richard Robert Ruth Samuel Sarah Simon Sophie Stephen Susan Thomas Walter William"""
FAMILY = """Adams Allen Anderson Bailey Baker Bell Bennett Brooks Brown Butler Campbell Carter Clark Collins Cook Cooper Cox Davis Edwards Evans
Fisher Foster Gray Green Hall Harris Hill Howard Hughes Hunt Jackson Johnson Jones Kelly King Lee Lewis Long Marshall Martin Mason Miller
Mitchell Moore Morgan Morris Murphy Nelson Parker Perry Phillips Porter Powell Price Reed Roberts Rogers Ross Russell Scott Shaw Smith
Stewart Taylor Thompson Turner Walker Ward Watson White Wilson Wood Wright Young"""


def table_of_names(count):
    """SQL that makes the table names with one row: an array of so many different names, a space before each, in an order that shows no rule."""
    given, family = (f"string_to_array('{' '.join(words.split())}', ' ')" for words in (GIVEN, FAMILY))
    return f"""
CREATE TEMP TABLE names AS SELECT array_agg(name) AS names
FROM (SELECT format(' %s %s. %s', given, chr(64 + initial), family) AS name
      FROM unnest({given}) AS given, generate_series(1, 26) AS initial, unnest({family}) AS family ORDER BY md5(format('%s %s %s', given, initial, family)) LIMIT {count}) AS n;
"""
