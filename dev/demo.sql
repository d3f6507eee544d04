-- What `make demo` shows.

\echo '\ndemo=# SELECT hart.generate(''Hello'', 20);\n'
SELECT hart.generate('Hello', 20);

\echo '\ndemo=# SELECT hart.generate(''The database'', 120);\n'
SELECT clock_timestamp() AS started \gset
SELECT hart.generate_tokens(hart.tokenize('The database'), 120) AS tokens \gset
SELECT extract(epoch FROM clock_timestamp() - :'started') AS seconds,
       cardinality(:'tokens'::int[]) AS count \gset
SELECT hart.detokenize(:'tokens'::int[]);
SELECT format(E'\n(%s tokens in %s s: %s tokens per second)', :count, round(:seconds, 2), round(:count / :seconds));
