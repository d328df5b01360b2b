#!lua flags=allow-oom
-- KEYS[1] stream; ARGV: position and newest entry's id ('' = none) that it was judged by, entries to keep, most to remove now,
-- the gateway's group, our mark.
-- Returns what happened and how many entries went.
local key, keep, most = KEYS[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local info = inspect(key)
if not info then return {'gone', 0} end
if not is_same(info, ARGV[1], ARGV[2]) then return {'changed', 0} end
if is_foreign(key, ARGV[5], ARGV[6], ARGV[1]) then return {'foreign', 0} end
local over = info.length - keep
if over <= 0 then return {'done', 0} end
-- Whole nodes at a time while there is much to do: a million entries in one step would be felt.
if over > most then return {'more', redis.call('XTRIM', key, 'MAXLEN', '~', keep, 'LIMIT', most)} end
return {'done', redis.call('XTRIM', key, 'MAXLEN', '=', keep)}
