-- Every object of the extension has a comment.
BEGIN;
SELECT plan(8);

CREATE TEMP VIEW object AS
SELECT d.classid, d.objid, pg_describe_object(d.classid, d.objid, 0) AS name, obj_description(d.objid, d.classid::regclass::name) AS comment
FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'hartonomous'
UNION ALL
SELECT 'pg_policy'::regclass, p.oid, pg_describe_object('pg_policy'::regclass, p.oid, 0), obj_description(p.oid, 'pg_policy')
FROM pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid WHERE c.relnamespace = 'hart'::regnamespace;

SELECT cmp_ok(count(*), '>', 80::bigint, 'the extension has objects') FROM object;
SELECT is_empty('SELECT name FROM object WHERE comment IS NULL ORDER BY name', 'every object has a comment');
SELECT is_empty('SELECT name, comment FROM object WHERE comment !~ ''\w+ \w+''', 'a comment is more than a word');
SELECT is_empty('SELECT name, comment FROM object WHERE comment ~* ''\m(todo|fixme|xxx|tbd)\M''', 'a comment is no reminder');
SELECT is_empty('SELECT min(name), max(name), comment FROM object WHERE classid <> ''pg_proc''::regclass AND comment IS NOT NULL GROUP BY comment HAVING count(*) > 1', 'no two objects that are no functions have the same comment');
SELECT ok(obj_description(oid, 'pg_extension') IS NOT NULL, 'the extension itself has one') FROM pg_extension WHERE extname = 'hartonomous';

-- Nothing is left that belongs to nobody, and nothing was made outside the schema
SELECT is_empty('SELECT relname FROM pg_class AS c WHERE relnamespace = ''hart''::regnamespace AND relkind IN (''r'', ''p'', ''v'', ''S'') AND relname !~ ''^(tiles|token_positions)_[\d_]+$''
                 AND NOT EXISTS (SELECT FROM object AS o WHERE o.classid = ''pg_class''::regclass AND o.objid = c.oid)', 'tables, views and sequences of the schema belong to the extension');
SELECT is_empty('SELECT name FROM object JOIN pg_proc AS p ON p.oid = objid AND classid = ''pg_proc''::regclass WHERE pronamespace <> ''hart''::regnamespace
                 UNION ALL SELECT name FROM object JOIN pg_class AS c ON c.oid = objid AND classid = ''pg_class''::regclass WHERE relnamespace <> ''hart''::regnamespace
                 UNION ALL SELECT name FROM object JOIN pg_type AS t ON t.oid = objid AND classid = ''pg_type''::regclass WHERE typnamespace <> ''hart''::regnamespace',
                'everything is in the schema hart');

SELECT * FROM finish();
ROLLBACK;
