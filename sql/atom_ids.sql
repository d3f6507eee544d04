-- Ids of atoms: modality in bits 60 to 62, 48 bits of Hilbert index, 12 of tie-breaker; src_c/atom_id.h tells how they are made.

CREATE FUNCTION hart.atom_id(modality text, content bytea) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_atom_id';
COMMENT ON FUNCTION hart.atom_id(text, bytea) IS
    'id of the atom of a modality (byte, character, token, text, weight, neuron, tensor) with this content; in a database where another token, text or tensor has it, the atom has one of the next ids';

CREATE FUNCTION hart.atom_modality(id bigint) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_atom_modality_name';
COMMENT ON FUNCTION hart.atom_modality(bigint) IS 'modality of the atom with an id: byte, character, token, text, weight, neuron or tensor';

CREATE FUNCTION hart.atom_geometry(id bigint) RETURNS geometry
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_atom_place';
COMMENT ON FUNCTION hart.atom_geometry(bigint) IS 'place of the atom with an id: a point of [-1,1]^4 whose Hilbert index of 12 bits an axis is that of the id';

CREATE FUNCTION hart.atom_content(id bigint) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'hart_atom_content';
COMMENT ON FUNCTION hart.atom_content(bigint) IS 'content of the byte, character, weight or neuron with an id, which tells it; NULL for tokens, texts and tensors, whose ids come from a hash';
