#!lua flags=no-writes
-- KEYS[1] stream; ARGV: after, max entries, max bytes, max bytes of one entry.
-- Returns {info or nil, entries, 1 if more is left}.
local info = inspect(KEYS[1])
if not info then return {false, {}, 0} end
local entries, more = read_after(KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]))
return {info, entries, more}
