#!lua flags=no-writes
-- KEYS[1] stream; ARGV: after, max entries, max bytes, max bytes of one entry.
-- Returns {info or nil, all entries above `after`, 1 if they are more than that (then there are none)}.
local info = inspect(KEYS[1])
if not info then return {false, {}, 0} end
local entries, beyond = whole_after(KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]))
return {info, entries, beyond}
