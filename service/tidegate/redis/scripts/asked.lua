#!lua flags=no-writes
-- KEYS[1] stream, KEYS[2] key beside it; ARGV: statuses and types that end an operation, each with spaces between.
-- Returns the id of the entry that asks to cancel the operation, '' when there is none.
return asked(KEYS[1], KEYS[2], words_of(ARGV[1], ARGV[2]))
