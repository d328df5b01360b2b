#!lua flags=no-writes
-- KEYS[1] stream; ARGV: max entries, max bytes, max bytes of one entry.
-- Returns {info or nil, the newest entries, 1 if the bytes left some out}.
local info = inspect(KEYS[1])
if not info then return {false, {}, 0} end
local entries, cut_off = read_newest(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]))
return {info, entries, cut_off}
