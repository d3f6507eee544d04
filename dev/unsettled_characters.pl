#!/usr/bin/env perl
# Write src_c/unsettled_characters.h: characters about which versions of Unicode that are in use may disagree.
#
# Three tables meet when a text is cut into tokens: PCRE2's (general categories), PostgreSQL's (NFC) and those of the library
# tokenizers, whose NFC is of Unicode 9.0. What is assigned keeps its category and its normal form; so a character is settled
# when Unicode 13.0 had it, which is PostgreSQL 14's version, and one that takes part in normalization when 9.0 had it.
# Pictographs are settled whether assigned or not: no version makes letters, digits, spaces or marks of that block.

use strict;
use warnings;

my ($categories, $normalization) = ('13.0', '9.0');

sub unsettled {
    my $c = chr shift;
    return 0 if $c =~ /[\x{1F000}-\x{1FAFF}]/;
    return 1 unless $c =~ /\p{Present_In: 13.0}/;
    return 0 if $c =~ /\p{Present_In: 9.0}/;
    return $c !~ /\p{CCC=0}/ || $c !~ /\p{NFC_QC=Y}/ || $c =~ /\p{Dt=Canonical}/;
}

print <<"HEADER";
/*
 * unsettled_characters.h
 *		First and last of the characters that not all versions of Unicode in use agree about:
 *		not yet in Unicode $categories, or with a part in normalization and not yet in $normalization.
 *
 * Written by dev/unsettled_characters.pl.
 */
static const struct
{
	uint32_t	first;
	uint32_t	last;
}			unsettled_characters[] = {
HEADER
my ($first, $last);
for my $code_point (0 .. 0x10FFFF) {
    next if $code_point >= 0xD800 && $code_point <= 0xDFFF || !unsettled($code_point);
    if (defined $last && $last == $code_point - 1) {
        $last = $code_point;
        next;
    }
    printf "\t{0x%04X, 0x%04X},\n", $first, $last if defined $first;
    $first = $last = $code_point;
}
printf "\t{0x%04X, 0x%04X}\n};\n", $first, $last;
