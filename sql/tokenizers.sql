-- Tokenizers of byte-level byte-pair encoding as rows, from which the server tokenizes by itself. What qualifies is for the ingestion to say
-- (plpython/hartonomous_server/byte_pairs.py); texts of other models, which have no rows here, are tokenized by the library, in PL/Python.

CREATE TABLE hart.tokenizers (
    model_id                integer PRIMARY KEY REFERENCES hart.model_registry ON DELETE CASCADE,
    patterns                text[] NOT NULL,
    nfc                     boolean NOT NULL,
    byte_tokens             integer[] NOT NULL CHECK (cardinality(byte_tokens) = 256 AND 0 <= ALL (byte_tokens)),
    prefix                  integer[] NOT NULL,
    suffix                  integer[] NOT NULL,
    added                   text[] NOT NULL,
    added_tokens            integer[] NOT NULL CHECK (cardinality(added_tokens) = cardinality(added)),
    added_normalized        text[] NOT NULL,
    added_normalized_tokens integer[] NOT NULL CHECK (cardinality(added_normalized_tokens) = cardinality(added_normalized)),
    words                   bytea[] NOT NULL,
    word_tokens             integer[] NOT NULL CHECK (cardinality(word_tokens) = cardinality(words)),
    -- what a session reads of them by their length and type
    CHECK (array_position(byte_tokens, NULL) IS NULL AND array_position(prefix, NULL) IS NULL AND array_position(suffix, NULL) IS NULL
           AND array_position(added_tokens, NULL) IS NULL AND array_position(added_normalized_tokens, NULL) IS NULL AND array_position(word_tokens, NULL) IS NULL
           AND 0 <= ALL (added_tokens) AND 0 <= ALL (added_normalized_tokens) AND 0 <= ALL (word_tokens))
);
COMMENT ON TABLE hart.tokenizers IS 'how texts of a model are cut into tokens, for models with byte-level byte-pair encoding; a session notices when a row is another';
COMMENT ON COLUMN hart.tokenizers.patterns IS 'regular expressions of PCRE2 that cut a text into words, each what the one before it has cut';
COMMENT ON COLUMN hart.tokenizers.nfc IS 'whether texts are brought into normalization form C';
COMMENT ON COLUMN hart.tokenizers.byte_tokens IS 'the token of each byte, from 0 to 255';
COMMENT ON COLUMN hart.tokenizers.prefix IS 'tokens that begin every text';
COMMENT ON COLUMN hart.tokenizers.suffix IS 'tokens that end every text';
COMMENT ON COLUMN hart.tokenizers.added IS 'texts that are a token wherever they stand, found before a text is normalized; added_tokens are their tokens';
COMMENT ON COLUMN hart.tokenizers.added_normalized IS 'the same, found after it is normalized';
COMMENT ON COLUMN hart.tokenizers.words IS 'words that are a token of their own although merges do not make it; word_tokens are their tokens';

CREATE TABLE hart.merge_pairs (
    model_id        integer NOT NULL REFERENCES hart.tokenizers ON DELETE CASCADE,
    left_id         integer NOT NULL,
    right_id        integer NOT NULL,
    merged_id       integer NOT NULL CHECK (merged_id >= 0),
    rank            integer NOT NULL CHECK (rank >= 0),
    PRIMARY KEY (model_id, left_id, right_id)
);
COMMENT ON TABLE hart.merge_pairs IS 'merges of byte-pair encoding by the pair that they join, for hart.tokenize to look up; of the graph they are the relations of type merge';
COMMENT ON COLUMN hart.merge_pairs.rank IS 'which merge comes first where several can: the lowest';

SELECT pg_catalog.pg_extension_config_dump('hart.tokenizers', '');
SELECT pg_catalog.pg_extension_config_dump('hart.merge_pairs', '');

ALTER TABLE hart.tokenizers ENABLE ROW LEVEL SECURITY;
CREATE POLICY readers ON hart.tokenizers FOR SELECT USING (hart.can_read(model_id));
COMMENT ON POLICY readers ON hart.tokenizers IS 'the tokenizer of a model is for those who may read its tiles';
ALTER TABLE hart.merge_pairs ENABLE ROW LEVEL SECURITY;
CREATE POLICY readers ON hart.merge_pairs FOR SELECT USING (model_id = ANY ((SELECT hart.readable_models())::integer[]));
COMMENT ON POLICY readers ON hart.merge_pairs IS 'merges of a model are for those who may read its tiles';
GRANT SELECT ON hart.tokenizers, hart.merge_pairs TO PUBLIC;

CREATE FUNCTION hart.add_tokenizer(caller regrole, model_id integer, patterns text[], nfc boolean, byte_tokens integer[], prefix integer[], suffix integer[], added text[], added_tokens integer[],
                                   added_normalized text[], added_normalized_tokens integer[], words bytea[], word_tokens integer[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM hart.check_own_ingest(model_id, caller);
    INSERT INTO hart.tokenizers VALUES (model_id, patterns, nfc, byte_tokens, prefix, suffix, added, added_tokens, added_normalized, added_normalized_tokens, words, word_tokens);
END $$;
COMMENT ON FUNCTION hart.add_tokenizer(regrole, integer, text[], boolean, integer[], integer[], integer[], text[], integer[], text[], integer[], bytea[], integer[]) IS 'hart.add_tokenizer for the role that called it';
REVOKE EXECUTE ON FUNCTION hart.add_tokenizer(regrole, integer, text[], boolean, integer[], integer[], integer[], text[], integer[], text[], integer[], bytea[], integer[]) FROM PUBLIC;
CREATE FUNCTION hart.add_tokenizer(model_id integer, patterns text[], nfc boolean, byte_tokens integer[], prefix integer[], suffix integer[], added text[], added_tokens integer[],
                                   added_normalized text[], added_normalized_tokens integer[], words bytea[], word_tokens integer[]) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'hart_call_as_owner';
COMMENT ON FUNCTION hart.add_tokenizer(integer, text[], boolean, integer[], integer[], integer[], text[], integer[], text[], integer[], bytea[], integer[]) IS
    'the tokenizer of the model that this session is ingesting: a row of hart.tokenizers';

-- Without a foreign key check for each: the row they refer to is this ingestion's own.
CREATE FUNCTION hart.add_merge_pairs(caller regrole, model_id integer, lefts integer[], rights integer[], merged integer[], ranks integer[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET session_replication_role = replica AS $$
BEGIN
    PERFORM hart.check_own_ingest(model_id, caller);
    PERFORM FROM hart.tokenizers t WHERE t.model_id = add_merge_pairs.model_id FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'foreign_key_violation', MESSAGE = format('model number %s has no tokenizer', model_id), HINT = 'Call hart.add_tokenizer first.';
    END IF;
    INSERT INTO hart.merge_pairs SELECT add_merge_pairs.model_id, m.l, m.r, m.merged, m.rank FROM unnest(lefts, rights, merged, ranks) AS m (l, r, merged, rank);
END $$;
COMMENT ON FUNCTION hart.add_merge_pairs(regrole, integer, integer[], integer[], integer[], integer[]) IS 'hart.add_merge_pairs for the role that called it';
REVOKE EXECUTE ON FUNCTION hart.add_merge_pairs(regrole, integer, integer[], integer[], integer[], integer[]) FROM PUBLIC;
CREATE FUNCTION hart.add_merge_pairs(model_id integer, lefts integer[], rights integer[], merged integer[], ranks integer[]) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'hart_call_as_owner';
COMMENT ON FUNCTION hart.add_merge_pairs(integer, integer[], integer[], integer[], integer[]) IS 'merges of the model that this session is ingesting, best in the order of their pairs';
